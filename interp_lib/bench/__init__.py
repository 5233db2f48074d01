"""Evidence: measures, data sets, baselines, and the sweep that brings them together."""
