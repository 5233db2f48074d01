"""How the embedded models are made: `python -m experiments.train` runs every stage, resuming where it was
interrupted."""
