"""Evidence: measures, baselines and timings."""
