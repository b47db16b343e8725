"""The bench of the bus masters and of the registers: memories that stall, fail and answer late around them.

python -m intaglio.sim.bus            every test
python -m intaglio.sim.bus write      those with this in their name
"""
