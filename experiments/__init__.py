"""What made data/: training of the embedded models, the studies behind the tables, timings. It imports interp_lib."""
