"""Keyframe interpolation with pretrained diffusion models: DreamMover and Generative Inbetweening.

The names that a reader of the papers calls; they load on first use, so importing the package imports neither torch's
nor diffusers' model code. Measures and tables are in `interp_lib.bench`, drawing in `interp_lib.show`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bench.benchmark": ["benchmark"],
        "bench.evaluate": ["evaluate"],
        "dreammover.attention": ["replace_self_attention"],
        "dreammover.classical": ["block_flow", "patch_features"],
        "dreammover.ddim": ["invert"],
        "dreammover.features": ["diffusion_features", "feature_block", "pca_project", "estimate_flow"],
        "dreammover.flow": [
            "match_features",
            "combine_features",
            "refine_subpixel",
            "consistency_mask",
            "backwarp",
            "brightness_metric",
        ],
        "dreammover.fusion": ["fuse_direct", "fuse_two_level", "winning_source"],
        "dreammover.lora": ["fit_lora", "load_lora"],
        "dreammover.pipeline": ["interpolate", "interpolate_sequence"],
        "dreammover.sampler": ["denoise_between"],
        "dreammover.spectrum": ["spectrum", "high_frequency_energy"],
        "dreammover.splat": ["softmax_splat"],
        "dreammover.suitability": ["suitability"],
        "images": ["as_images", "fit_images", "area_size"],
        "inbetweening.animate": ["animate", "draw_clips"],
        "inbetweening.backward": ["fit_backward_motion"],
        "inbetweening.pipeline": ["inbetween", "inbetween_sequence"],
        "inbetweening.temporal": [
            "record_temporal_attention",
            "rotate_temporal_attention",
            "rotate_map",
            "two_directions",
        ],
        "models": ["load_image_model", "ImageModel", "load_video_model", "VideoModel", "randomly_initialised"],
        "pairs": ["load_pair", "available_pairs"],
        "pairs.videos": ["load_clips"],
        "show.figure": ["save_figure"],
        "show.video": ["save_video"],
        "types": ["Interpolation", "Pair"],
        "world": ["render_pair", "render_clip"],
        "world.truth": ["Clip"],
    },
)
