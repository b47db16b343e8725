import sys

from intaglio.sim.bus.run import run

print(f"{run(' '.join(sys.argv[1:2]))} tests passed")
