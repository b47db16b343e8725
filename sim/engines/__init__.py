"""The benches of the engines and of the storage between them, each against a model of what `docs/architecture.md` says.

    python -m intaglio.sim.engines               every bench, and a table
    python -m intaglio.sim.engines window pool   some of them
    python -m intaglio.sim.mutate window         how many faults planted in the window reader its bench sees

A bench is a file here that names configurations of a component of `hdl/engines` or `hdl/storage`, drives each with
random stalls on every stream and resets at any cycle, compares what it does with a model in plain Python, and counts
the bins of functional coverage: one that is not hit fails the bench. A model knows the definition and the component's
ports, neither its insides nor the golden model. Benches of a group stand side by side in one simulation, each
configuration behind ports and a clock of its own.
"""
