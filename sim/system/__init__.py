"""The whole machine in a bench: faults, aborts, resets at any cycle, counters, and the bus's rules all the time.

`python -m intaglio.sim.system [TEST]` runs the tests whose name begins so; `tests/test_machine.py` runs all.
"""
