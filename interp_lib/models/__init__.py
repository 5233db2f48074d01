"""The only room that knows diffusers' model classes: loading, encoding, decoding, predicting noise."""

from .image_model import ImageModel
from .load import load_image_model

__all__ = ["ImageModel", "load_image_model"]
