"""``python -m formal``: runs every proof, two at a time, and prints what came of each."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from formal.proofs import Outcome, missing_tools, proofs, prove

ROW = "{:26} {:40} {:7} {:>7}  {}"


def verdict(outcome: Outcome, planted: bool) -> tuple[bool, str]:
    """Whether the outcome is the wanted one, and a word for it."""
    if outcome.passed is None:
        return False, f"UNDECIDED, see {outcome.directory}/log"
    if planted:
        return not outcome.passed, "MISSED" if outcome.passed else "found"
    return outcome.passed, "proven" if outcome.passed else f"FALSE, see {outcome.directory}/proof"


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 all as wanted, 1 not, 2 a tool or a proof of that name is missing."""
    parser = argparse.ArgumentParser(prog="python -m formal", description=__doc__)
    parser.add_argument("names", nargs="*", help="proofs to run; all if none")
    parser.add_argument("--jobs", type=int, default=2, help="proofs at a time")
    parser.add_argument("--output", type=Path, default=Path("build/formal"), help="logs and counterexamples")
    parser.add_argument(
        "--plant",
        action="store_true",
        help="make each unit wrong, in each way there is: each proof must find it",
    )
    options = parser.parse_args(arguments)

    if missing := missing_tools():
        print(
            f"formal: not installed: {', '.join(missing)}; they come with the extra `formal`", file=sys.stderr
        )
        return 2
    chosen = [proof for proof in proofs() if not options.names or proof.unit in options.names]
    if unknown := set(options.names) - {proof.unit for proof in chosen}:
        print(f"formal: no proof is named {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2

    began = time.monotonic()
    print(ROW.format("unit", "for every input", "solver", "seconds", "result"))
    good = True
    runs = [(proof, planted) for proof in chosen for planted in (proof.faults if options.plant else (False,))]
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = pool.map(lambda run: prove(run[0], options.output, planted=run[1]), runs)
        for (proof, planted), outcome in zip(runs, outcomes, strict=True):
            wanted, word = verdict(outcome, bool(planted))
            good &= wanted
            claim = planted if isinstance(planted, str) else proof.claim
            row = ROW.format(proof.unit, claim, proof.solver, f"{outcome.seconds:.1f}", word)
            print(row, flush=True)
    summary = "all as they should be" if good else "NOT ALL AS THEY SHOULD BE"
    print(f"{len(runs)} proofs in {time.monotonic() - began:.0f} s: {summary}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
