"""Explorers of the image model for a pair of your own: correspondence, fusion, attention.

Each returns the panel of one `explore` call; its `.look`, a function from the controls' values to a figure, draws the
same picture without a widget.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.images import area_size
from interp_lib.models.image_model import ImageModel, check_model
from interp_lib.models.video_model import VideoModel
from interp_lib.pairs.resize import resize_pair
from interp_lib.show.figure import figure_style
from interp_lib.show.widgets import explore

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from interp_lib.dreammover.ddim import Inversion
    from interp_lib.types import Pair

QUERIES = 16  # points a side whose attention is recorded
FUSIONS = {  # fuse_two_level's high and low level; None is fuse_direct
    "two-level": ("average", "wta"),
    "two-level, noise averaged": ("average", "average"),
    "direct": None,
}


def explore_correspondence(model: ImageModel, pair: Pair, *, prompt: str = "") -> VBox:
    """Show where the diffusion features find a chosen point of one image in the other, and its similarity everywhere.

    Source: DreamMover, section 3.2, Eq. 5, at its 14th of 50 steps. pair: anything of `load_pair`; it is resized to the
    model's size. Controls: across, down (shares of the side), direction. A cross is the match; where the true flow
    is known, a ring in the other image is the truth.
    """
    from interp_lib import diffusion_features, feature_block, match_features

    pair, images = at_native_size(model, pair)
    height, width = images.shape[-2:]
    grid = (height // model.vae_factor, width // model.vae_factor)
    block = feature_block(model, max(height, width))
    features = diffusion_features(model, images, block=block, prompt=prompt, progress=False).cpu()
    features = F.normalize(F.interpolate(features, grid, mode="bilinear"), dim=1)
    directions = {"first to last": (0, 1), "last to first": (1, 0)}
    flows = {name: match_features(features[[a]], features[[b]])[0] for name, (a, b) in directions.items()}
    known = {"first to last": pair.flow01, "last to first": pair.flow10}

    def look(across: float, down: float, direction: str) -> Figure:
        """A point of one image, where it lands in the other, and its similarity with every place there."""
        a, b = directions[direction]
        row, column = cell(down, grid[0]), cell(across, grid[1])
        start = torch.tensor([(column + 0.5) / grid[1], (row + 0.5) / grid[0]])
        landed = start + flows[direction][:, row, column].cpu() / torch.tensor([grid[1], grid[0]])
        heat = torch.einsum("c,chw->hw", features[a, :, row, column], features[b])
        print(f"{place(start)} of image {a} goes to {place(landed)} of image {b}, cosine {float(heat.max()):.2f}")
        fig, (left, middle, right) = panels(3, height / width)
        draw(left, images[a], f"image {a}", ring=start)
        truth = None
        if known[direction] is not None:
            y, x = (min(int(s * n), n - 1) for s, n in zip(start.flip(0), (height, width), strict=True))
            truth = start + known[direction][0, :, y, x] / torch.tensor([width, height])
        draw(middle, images[b], f"image {b}", ring=truth, cross=landed)
        draw(right, heat, "similarity", ring=truth, cross=landed)
        return fig

    return explore(look, across=every_cell(grid[1]), down=every_cell(grid[0]), direction=list(directions))


def explore_fusion(model: ImageModel, pair: Pair, *, inversion_steps: int = 30, prompt: str = "") -> VBox:
    """Show what the network sees in the latents of two images, fused at any time between them by one of three methods.

    Source: DreamMover, section 3.3, Eq. 6 to 8. Shown is the clean image predicted from the fused z_T in one step, with
    its high-frequency energy over the mean of the inputs'. inversion_steps: noise step T. Controls: time, method, flow
    (off: none).
    """
    from interp_lib import fuse_direct, fuse_two_level, high_frequency_energy
    from interp_lib.dreammover.ddim import predict_clean

    images = at_native_size(model, pair)[1]
    inversion, flows = _inverted(model, images, inversion_steps, prompt)
    context, z = model.embed_text(prompt), inversion.latents[-1]
    t, a = int(inversion.timesteps[-1]), inversion.alpha_bar
    ends = (*inversion.clean.split(1), *inversion.noise.split(1))

    @torch.no_grad()
    def look(time: float, method: str, flow: bool) -> Figure:
        """Both images, and what the network sees in their fused latents."""
        moved = [f if flow else torch.zeros_like(f) for f in flows]
        if FUSIONS[method] is None:
            fused = fuse_direct(*z.split(1), *moved, time)
        else:
            high, low = FUSIONS[method]
            fused = fuse_two_level(*ends, *moved, time, a, high=high, low=low)[0]
        share = float(high_frequency_energy(fused) / high_frequency_energy(z).mean())
        print(f"high-frequency energy {share:.2f} of the inputs'")
        seen = model.decode(predict_clean(fused, model.predict_noise(fused, t, context), a))
        fig, axes = panels(3, images.shape[-2] / images.shape[-1])
        titles = ("image 0", f"time {time:.2f}, {method}", "image 1")
        for panel, picture, title in zip(axes, (images[0], seen[0], images[1]), titles, strict=True):
            draw(panel, picture, title)
        return fig

    return explore(look, time=(0.0, 1.0, 0.05), method=list(FUSIONS), flow=True)


def explore_attention(model: ImageModel, pair: Pair, *, inversion_steps: int = 30, prompt: str = "") -> VBox:
    """Show what a chosen point of the middle frame attends to in the two images, in each replaced self-attention layer.

    Source: DreamMover, section 3.4, Eq. 9 and 10, in the first denoising step from T = `inversion_steps`; mean over
    the heads. Controls: across, down (shares of the side), layer.
    """
    from interp_lib import fuse_two_level, replace_self_attention

    images = at_native_size(model, pair)[1]
    height, width = images.shape[-2:]
    inversion, flows = _inverted(model, images, inversion_steps, prompt)
    keyframes, t, context = inversion.latents[-1], int(inversion.timesteps[-1]), model.embed_text(prompt)
    pair_of = (*inversion.clean.split(1), *inversion.noise.split(1))
    middle = fuse_two_level(*pair_of, *flows, 0.5, inversion.alpha_bar)[0]
    with torch.no_grad(), replace_self_attention(model.unet) as control, ExitStack() as stack:
        with control.storing():
            model.predict_noise(keyframes, t, context)
        grids = {name: _grid(kept[0].shape[2], height / width) for name, kept in control.stored.items()}
        found = {name: stack.enter_context(control.recording(name, _queries(*g))) for name, g in grids.items()}
        with control.reusing():
            model.predict_noise(middle, t, context)
    maps = {
        f"up-block {name.split('.')[1]}, layer {k}": kept[0][0].mean(0).cpu().view(QUERIES, QUERIES, 2, *grids[name])
        for k, (name, kept) in enumerate(found.items())
    }

    def look(across: float, down: float, layer: str) -> Figure:
        """A point of the middle frame, and what it attends to in both images."""
        row, column = cell(down, QUERIES), cell(across, QUERIES)
        heat = maps[layer][row, column]
        here = (torch.tensor([column, row]) + 0.5) / QUERIES
        shares = [float(part.sum()) for part in heat]
        first, last = (f"{100 * share:.0f} % on image {end}" for end, share in enumerate(shares))
        print(f"{place(here)} of the middle frame: {first}, {last}")
        fig, axes = panels(4, height / width)
        for end in (0, 1):
            draw(axes[2 * end], images[end], f"image {end}", ring=here)
            draw(axes[2 * end + 1], heat[end], f"{100 * shares[end]:.0f} % of the attention", most=float(heat.max()))
        return fig

    return explore(look, across=every_cell(QUERIES), down=every_cell(QUERIES), layer=list(maps))


def at_native_size(model: ImageModel | VideoModel, pair: Pair) -> tuple[Pair, Tensor]:
    """Resize a pair, flows too, to about the model's own area in its own aspect; return it and its images [2,3,h,w]."""
    if not isinstance(model, VideoModel):
        check_model(model)
    size = area_size(*pair.image0.shape[-2:], side=model.native_size, multiple=model.multiple)
    pair = resize_pair(pair, size)
    return pair, torch.cat([pair.image0, pair.image1])


def _inverted(
    model: ImageModel, images: Tensor, inversion_steps: int, prompt: str
) -> tuple[Inversion, tuple[Tensor, Tensor]]:
    """Invert both images up to a noise step and estimate the flows between them."""
    from interp_lib import estimate_flow, feature_block, invert

    inversion = invert(model, images, inversion_steps=inversion_steps, prompt=prompt, progress=False)
    block = feature_block(model, max(images.shape[-2:]))
    return inversion, estimate_flow(model, inversion, block=block, prompt=prompt)


def _grid(tokens: int, aspect: float) -> tuple[int, int]:
    """Return (h, w) of a layer's tokens, for images of this height over width."""
    h = max(1, round((tokens * aspect) ** 0.5))
    return h, tokens // h


def _queries(h: int, w: int) -> list[int]:
    """Return the tokens of an (h, w) grid nearest to the centres of QUERIES x QUERIES cells, row by row."""
    share = (torch.arange(QUERIES) + 0.5) / QUERIES
    return ((share * h).long()[:, None] * w + (share * w).long()).flatten().tolist()


def every_cell(cells: int) -> tuple[float, float, float]:
    """Return a slider's range over a side, from the left or from the top, with a step per cell."""
    return 0.0, 1.0, 1 / cells


def cell(share: float, cells: int) -> int:
    """Return the index of the cell at a share of the side, 0 to 1."""
    return min(max(int(share * cells), 0), cells - 1)


def place(point: Tensor) -> str:
    """Describe a point in words, for those who cannot see the rings: shares of the sides."""
    x, y = (round(100 * float(v)) for v in point)
    return f"the point {x} % from the left, {y} % from the top"


def panels(count: int, aspect: float) -> tuple[Figure, Any]:
    """Make a figure of `count` panels next to each other, for images of this height over width."""
    from matplotlib.figure import Figure

    with figure_style():
        fig = Figure(figsize=(2.8 * count, 2.8 * aspect + 0.4), layout="constrained")
        return fig, fig.subplots(1, count)


def draw(
    axes: Axes, picture: Tensor, title: str, *, ring: Any = None, cross: Any = None, most: float | None = None
) -> None:
    """Draw an image [3,H,W] or a map [h,w] over the unit square, with a ring and a cross visible on any background."""
    extent = (0, 1, 1, 0)
    if picture.ndim == 3:
        axes.imshow(picture.detach().float().clamp(0, 1).permute(1, 2, 0).cpu(), extent=extent, aspect="auto")
    else:
        axes.imshow(picture, cmap="viridis", extent=extent, aspect="auto", vmax=most, interpolation="nearest")
    if ring is not None:
        axes.plot(*ring, "o", ms=12, mfc="none", mec="black", mew=4)
        axes.plot(*ring, "o", ms=12, mfc="none", mec="white", mew=1.8)
    if cross is not None:
        axes.plot(*cross, "X", ms=10, mfc="#D55E00", mec="white", mew=1)
    axes.set(title=title, xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    axes.spines[:].set_visible(False)
