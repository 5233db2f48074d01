"""The explorer of the video model: its temporal self-attention maps, and the same turned by 180 degrees."""

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
    """Choose a layer and a place: which frames each frame attends to there, and the map turned by 180 degrees.

    Source: Generative Inbetweening, section 4.1; the maps of the last of `steps` steps in which the pair's first image
    is animated, mean over the heads. Said in words: how many frames ahead a frame looks on average, whose sign the turn
    reverses. Controls: across, down (shares of the side), layer. The panel's `.look` gives the figure without a widget.
    """
    from interp_lib import animate, record_temporal_attention, rotate_map

    images = at_native_size(model, pair)[1]
    height, width = images.shape[-2:]
    with record_temporal_attention(model.unet) as kept:
        animate(model, images[:1], steps=steps, seed=seed, progress=False)
    pixels = height // model.vae_factor * (width // model.vae_factor)
    batch = max(map(len, kept.maps.values())) // pixels  # guidance calls both conditions at once
    maps = {_called(name): _spread(a, batch, height / width) for name, a in kept.maps.items()}

    def look(across: float, down: float, layer: str) -> Figure:
        """A place of the first image, and which frames attend to which there, as they are and turned."""
        h, w = maps[layer].shape[:2]
        row, column = cell(down, h), cell(across, w)
        here, a = torch.tensor([across, down]), maps[layer][row, column]  # a coarse layer has one map for many places
        ways = {"as it is": a, "turned": rotate_map(a)}
        print(f"{place(here)}: " + ", ".join(f"{way} {ahead(x):+.2f} frames ahead" for way, x in ways.items()))
        fig, axes = panels(3, height / width)
        draw(axes[0], images[0], "first image", ring=here)
        for panel, (way, x) in zip(axes[1:], ways.items(), strict=True):
            panel.imshow(x, cmap="viridis", vmin=0, vmax=float(a.max()))
            panel.set(title=way, xlabel="attends to frame", ylabel="frame")
        return fig

    finest = max((m.shape[:2] for m in maps.values()), key=lambda size: size[0] * size[1])
    return explore(look, across=every_cell(finest[1]), down=every_cell(finest[0]), layer=list(maps))


def ahead(a: Tensor) -> float:
    """How many frames ahead of itself a frame attends to, the mean over a map [N,N] whose rows sum to one."""
    n = torch.arange(len(a), dtype=a.dtype)
    return float((a * (n[None] - n[:, None])).sum(1).mean())


def _called(name: str) -> str:
    """A layer's name for a button: "up-block 1, layer 0" for up_blocks.1.attentions.0.(...)."""
    stage, *rest = name.split(".")
    return "mid-block" if stage == "mid_block" else f"{stage.removesuffix('_blocks')}-block {rest[0]}, layer {rest[2]}"


def _spread(a: Tensor, batch: int, aspect: float) -> Tensor:
    """A layer's maps [batch*h*w, heads, N, N] as [h, w, N, N]: of the last in the batch, mean over the heads."""
    a = a[-(len(a) // batch) :].float().mean(1).cpu()
    h = max(1, round((len(a) * aspect) ** 0.5))
    return a.unflatten(0, (h, len(a) // h))
