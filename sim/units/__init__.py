"""The units' benches: each unit on Verilator, against the golden model, with stalls on both sides.

    python -m intaglio.sim.units                 every bench, and a table
    python -m intaglio.sim.units sbnq mac        some of them
    python -m intaglio.sim.mutate sbnq           how many faults planted in the unit its bench sees

A bench is a file here that names the unit's configurations and, for each, its cases: inputs, what golden answers, and
the bins of functional coverage that they fall in. All configurations of a unit stand side by side in one simulation.
cocotb runs two tests on it:

* `streams`: drivers and monitors in Python, a few hundred transfers: latency, throughput, the rules of a stream.
* `volume`: the cases by the hundred thousand, played and compared by `stand.v` at the speed of the simulator, with
  resets in between and a cycle-exact model of the elastic pipeline beside the unit.
"""
