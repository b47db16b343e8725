"""The engines' benches: `python -m intaglio.sim.engines [BENCH …]`."""

import sys

from intaglio.sim.everything import main

if __name__ == "__main__":
    sys.exit(main(["engines"]))
