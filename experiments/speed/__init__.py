"""How fast, and in how much memory: ratios measured in one run (`make bench`), and costs computed for GPUs."""
