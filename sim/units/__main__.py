"""The units' benches: `python -m intaglio.sim.units [BENCH …]`."""

import sys

from intaglio.sim.everything import main

if __name__ == "__main__":
    sys.exit(main(["units"]))
