"""The explorer of the video model: its temporal self-attention maps, and the same rotated by 180 degrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp_lib.show.explorers import at_native_size, cell, draw, every_cell, panels, place
from interp_lib.show.widgets import explore

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

    from interp_lib.models.video_model import VideoModel
    from interp_lib.types import Pair


def explore_temporal_maps(model: VideoModel, pair: Pair, *, steps: int = 6, seed: int = 0) -> VBox:
    """Show which frames each frame attends to at a place of a layer, and that map rotated by 180 degrees.

    Source: Generative Inbetweening, section 4.1; the maps of the last of `steps` steps in which the pair's first image
    is animated, mean over the heads. Printed: how many frames ahead a frame attends to on average; the rotation
    reverses its sign. Controls: across, down (shares of the side), layer. The panel's `.look` draws the figure alone.
    """
    from interp_lib import animate, record_temporal_attention, rotate_map

    images = at_native_size(model, pair)[1]
    height, width = images.shape[-2:]
    with record_temporal_attention(model.unet) as recorded:
        animate(model, images[:1], steps=steps, seed=seed, progress=False)
    pixels = height // model.vae_factor * (width // model.vae_factor)
    batch = max(map(len, recorded.maps.values())) // pixels  # guidance calls both conditions at once
    maps = {_layer_name(name): _by_place(a, batch, height / width) for name, a in recorded.maps.items()}

    def look(across: float, down: float, layer: str) -> Figure:
        """A place of the first image, and which frames attend to which there, as they are and rotated."""
        h, w = maps[layer].shape[:2]
        row, column = cell(down, h), cell(across, w)
        here, a = torch.tensor([across, down]), maps[layer][row, column]  # a coarse layer has one map for many places
        variants = {"as it is": a, "rotated": rotate_map(a)}
        print(f"{place(here)}: " + ", ".join(f"{name} {ahead(x):+.2f} frames ahead" for name, x in variants.items()))
        fig, axes = panels(3, height / width)
        draw(axes[0], images[0], "first image", ring=here)
        for panel, (name, x) in zip(axes[1:], variants.items(), strict=True):
            panel.imshow(x, cmap="viridis", vmin=0, vmax=float(a.max()))
            panel.set(title=name, xlabel="attends to frame", ylabel="frame")
        return fig

    finest = max((m.shape[:2] for m in maps.values()), key=lambda size: size[0] * size[1])
    return explore(look, across=every_cell(finest[1]), down=every_cell(finest[0]), layer=list(maps))


def ahead(a: Tensor) -> float:
    """Return how many frames ahead of itself a frame attends to, the mean over a map [N,N] whose rows sum to one."""
    n = torch.arange(len(a), dtype=a.dtype)
    return float((a * (n[None] - n[:, None])).sum(1).mean())


def _layer_name(name: str) -> str:
    """Name a layer for a button: "up-block 1, layer 0" for up_blocks.1.attentions.0.(...)."""
    stage, *rest = name.split(".")
    return "mid-block" if stage == "mid_block" else f"{stage.removesuffix('_blocks')}-block {rest[0]}, layer {rest[2]}"


def _by_place(a: Tensor, batch: int, aspect: float) -> Tensor:
    """Reshape a layer's maps [batch*h*w, heads, N, N] to [h, w, N, N]: the last of the batch, mean over the heads."""
    a = a[-(len(a) // batch) :].float().mean(1).cpu()
    h = max(1, round((len(a) * aspect) ** 0.5))
    return a.unflatten(0, (h, len(a) // h))
