"""Generative Inbetweening: rotated temporal attention, a backward-motion fine-tune, two fused directions."""
