"""What made data/: training, the studies behind the tables, and how fast everything is."""
