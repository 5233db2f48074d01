"""Figures, videos and widgets, and what runs the notebooks that make them."""
