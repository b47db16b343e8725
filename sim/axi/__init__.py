"""The bench of the bus masters and of the registers: memories that stall, fail and answer late around them.

python -m sim.axi            every test
python -m sim.axi write      those with this in their name
"""
