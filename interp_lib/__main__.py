"""`python -m interp_lib`: see interp_lib/cli.py."""

import sys

from interp_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
