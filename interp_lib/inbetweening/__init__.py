"""Generative Inbetweening: temporal attention turned by 180 degrees, a backward-motion fine-tune, two fused paths."""
