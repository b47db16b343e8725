import sys

from intaglio.sim.system.run import run

print(f"{run(' '.join(sys.argv[1:2]), seed=int((sys.argv[2:3] or ['1'])[0]))} tests passed")
