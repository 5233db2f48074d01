"""Keyframe interpolation with pretrained diffusion models: DreamMover and Generative Inbetweening.

The public API, loaded on first use: importing this package imports neither torch's nor diffusers' model code.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Interpolation": "types",
    "Pair": "types",
    "load_image_model": "models",
    "ImageModel": "models",
    "load_video_model": "models",
    "VideoModel": "models",
    "randomly_initialised": "models",
    "load_pair": "pairs",
    "available_pairs": "pairs",
    "load_clips": "pairs.videos",
    "as_images": "images",
    "fit_images": "images",
    "area_size": "images",
    "render_pair": "world",
    "render_clip": "world",
    "Clip": "world.truth",
    "invert": "dreammover.ddim",
    "Inversion": "dreammover.ddim",
    "diffusion_features": "dreammover.features",
    "feature_block": "dreammover.features",
    "pca_project": "dreammover.features",
    "estimate_flow": "dreammover.features",
    "match_features": "dreammover.flow",
    "combine_features": "dreammover.flow",
    "refine_subpixel": "dreammover.flow",
    "consistency_mask": "dreammover.flow",
    "backwarp": "dreammover.flow",
    "brightness_metric": "dreammover.flow",
    "softmax_splat": "dreammover.splat",
    "fuse_direct": "dreammover.fusion",
    "fuse_two_level": "dreammover.fusion",
    "winning_source": "dreammover.fusion",
    "spectrum": "dreammover.spectrum",
    "high_frequency_energy": "dreammover.spectrum",
    "replace_self_attention": "dreammover.attention",
    "fit_lora": "dreammover.lora",
    "denoise_between": "dreammover.sampler",
    "load_lora": "dreammover.lora",
    "interpolate": "dreammover.pipeline",
    "suitability": "dreammover.suitability",
    "Suitability": "dreammover.suitability",
    "record_temporal_attention": "inbetweening.temporal",
    "rotate_temporal_attention": "inbetweening.temporal",
    "rotate_map": "inbetweening.temporal",
    "two_directions": "inbetweening.temporal",
    "inbetween": "inbetweening.pipeline",
    "animate": "inbetweening.animate",
    "fit_backward_motion": "inbetweening.backward",
    "draw_clips": "inbetweening.clips",
    "block_flow": "dreammover.classical",
    "patch_features": "dreammover.classical",
    "pca_colours": "bench.agreement",
    "place_agreement": "bench.agreement",
    "part_agreement": "bench.agreement",
    "load_results": "bench.tables",
    "evaluate": "bench.evaluate",
    "benchmark": "bench.benchmark",
    "METHODS": "bench.methods",
    "run_method": "bench.methods",
    "load_distances": "bench.tables",
    "load_table": "bench.tables",
    "select": "bench.tables",
    "summarise": "bench.tables",
    "as_text": "bench.tables",
    "ranking": "bench.tables",
    "set_distances": "bench.set_metrics",
    "load_case": "bench.datasets",
    "list_cases": "bench.datasets",
    "psnr": "bench.metrics",
    "moving_pixels": "bench.metrics",
    "pck": "bench.metrics",
    "end_point_error": "bench.metrics",
    "tvl1_flow": "bench.optical_flow",
    "world_clips": "bench.motion",
    "world_ground": "bench.motion",
    "actor_track": "bench.motion",
    "actor_spread": "bench.motion",
    "net_displacement": "bench.motion",
    "direction_accuracy": "bench.motion",
    "back_and_forth": "bench.motion",
    "resize_flow": "bench.metrics",
    "save_video": "show.video",
    "save_figure": "show.figure",
    "figure_path": "show.figure",
    "contact_sheet": "show.figure",
    "flow_to_colour": "show.figure",
    "flow_legend": "show.figure",
    "frame_at": "show.widgets",
    "frame_slider": "show.widgets",
    "explore": "show.widgets",
    "explore_correspondence": "show.explorers",
    "explore_fusion": "show.explorers",
    "explore_attention": "show.explorers",
    "explore_temporal_maps": "show.explorers",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"interp_lib has no name {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(f"interp_lib.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
