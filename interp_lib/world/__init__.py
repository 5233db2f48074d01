"""The procedural world: articulated actors over textured backgrounds, with exact ground truth at any two times."""

from interp_lib.world.render import render
from interp_lib.world.scene import Scene, sample_scene, stack
from interp_lib.world.truth import Clip, locate, render_clip, render_pair, true_flow

__all__ = ["Clip", "Scene", "locate", "render", "render_clip", "render_pair", "sample_scene", "stack", "true_flow"]
