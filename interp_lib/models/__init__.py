"""The only room that knows diffusers' model classes: loading, encoding, decoding, predicting noise."""

from interp_lib.models.image_model import ImageModel, untrained
from interp_lib.models.load import load_image_model

__all__ = ["ImageModel", "load_image_model", "untrained"]
