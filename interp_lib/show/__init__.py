"""Show what the methods do: figures, videos, explorers with a slider, the app; its names load on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "explorers": ["explore_correspondence", "explore_fusion", "explore_attention", "explore_temporal_maps"],
        "figure": ["figure_path", "contact_sheet", "flow_to_colour", "flow_legend"],
        "widgets": ["frame_at", "frame_slider", "explore"],
    },
)
