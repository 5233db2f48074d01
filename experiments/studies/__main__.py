"""Compute the stale tables of data/results again: `python -m experiments.studies` (`make results`)."""

import argparse
import os
import sys
from pathlib import Path

from experiments.studies import STUDIES, compute, exit_code, stale
from interp_lib.bench.tables import RESULTS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m experiments.studies", description=__doc__)
    every = f"default: each that is stale of {', '.join(STUDIES)}"
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=every)
    parser.add_argument("--model", default="embedded", help="tables of another model are written to build/results")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    options = parser.parse_args(arguments)
    embedded = options.model == "embedded"
    out = RESULTS if embedded else Path("build/results")

    def renew() -> None:
        for name in options.studies or STUDIES:
            fresh = embedded and not stale(name)
            print(f"{name}: {'fresh' if fresh else compute(name, options.model, out=out, workers=options.workers)}")

    return exit_code(renew)


if __name__ == "__main__":
    sys.exit(main())
