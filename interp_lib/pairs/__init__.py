"""Image pairs and clips: bundled, installed, or your own."""

from interp_lib.pairs.load import available_pairs, describe_pairs, load_pair

__all__ = ["available_pairs", "describe_pairs", "load_pair"]
