"""How the embedded models are made: `python -m interp_lib.train` runs every stage, resuming where it was
interrupted."""
