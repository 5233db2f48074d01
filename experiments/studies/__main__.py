"""Compute the stale tables of data/results again: `python -m experiments.studies` (`make results`)."""

import argparse
import os
import sys
from pathlib import Path

from experiments.studies import STUDIES, compute, stale
from interp_lib.bench.tables import RESULTS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m experiments.studies", description=__doc__)
    parser.add_argument(
        "studies", nargs="*", metavar="STUDY", help=f"default: each that is stale of {', '.join(STUDIES)}"
    )
    parser.add_argument("--model", default="embedded", help="tables of another model are written to build/results")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    options = parser.parse_args(arguments)
    out = RESULTS if options.model == "embedded" else Path("build/results")
    try:
        for study in options.studies or STUDIES:
            if options.model == "embedded" and not stale(study):
                print(f"{study}: fresh")
            else:
                print(f"{study}: {compute(study, options.model, out=out, workers=options.workers)}")
    except KeyboardInterrupt:
        print("interrupted; finished items are kept, run it again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
