"""Measure the methods: data sets, measures, baselines, the sweep and its tables; its names load on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["place_agreement", "part_agreement", "pca_colours"],
        "datasets": ["load_case", "list_cases"],
        "methods": ["METHODS", "run_method"],
        "metrics": ["psnr", "moving_pixels", "pck", "end_point_error", "resize_flow"],
        "motion": [
            "world_clips",
            "world_ground",
            "actor_track",
            "actor_spread",
            "net_displacement",
            "direction_accuracy",
            "back_and_forth",
        ],
        "set_metrics": ["set_distances"],
        "warping": ["tvl1_flow"],
        "tables": ["load_results", "load_distances", "load_table", "select", "summarise", "as_text", "ranking"],
    },
)
