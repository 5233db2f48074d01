"""The only room that knows diffusers' model classes: loading, encoding, decoding, predicting noise."""

from interp_lib.models.image_model import ImageModel, randomly_initialised
from interp_lib.models.load import load_deltas, load_image_model, load_video_model
from interp_lib.models.video_model import VideoModel

__all__ = ["ImageModel", "VideoModel", "load_deltas", "load_image_model", "load_video_model", "randomly_initialised"]
