"""How fast, and in how much memory: ratios measured in one run, on networks of any size. `make bench`."""
