"""Explorers for a pair of your own: correspondence, fusion, attention, and the temporal maps of a video model.

Each returns the panel of one `explore` call; its `.look`, a function from the controls' values to a figure, draws the
same picture without a widget. In all of them across and down are shares of the side, from the left and from the top.
"""

from contextlib import ExitStack

import torch
import torch.nn.functional as F
from ipywidgets import VBox
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from interp_lib.dreammover.attention import replace_self_attention
from interp_lib.dreammover.ddim import invert, predict_clean
from interp_lib.dreammover.features import diffusion_features, estimate_flow
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level
from interp_lib.dreammover.spectrum import high_frequency_energy
from interp_lib.images import area_size
from interp_lib.inbetweening.animate import animate
from interp_lib.inbetweening.temporal import record_temporal_attention, rotate_map
from interp_lib.models.image_model import ImageModel, check_model
from interp_lib.models.video_model import VideoModel
from interp_lib.pairs.resize import resize_pair
from interp_lib.show.figure import contact_sheet
from interp_lib.show.widgets import explore
from interp_lib.types import Pair

QUERIES = 16  # points a side whose attention is recorded


def explore_correspondence(model: ImageModel, pair: Pair, *, prompt: str = "") -> VBox:
    """Show where the diffusion features match a chosen point of one image in the other, and its similarity everywhere.

    Source: DreamMover, section 3.2, Eq. 5, after 14 of 50 steps. pair: of `load_pair`; it is resized to the model's
    own area. Controls: across, down, direction. A cross is the match; a ring in the other image is the true partner,
    where the flow is known.
    """
    pair, images = at_native_size(model, pair)
    sides = torch.tensor([images.shape[-1], images.shape[-2]])
    w, h = (sides // model.vae_factor).tolist()
    features = diffusion_features(model, images, prompt=prompt, progress=False).cpu()
    features = F.normalize(F.interpolate(features, (h, w), mode="bilinear"), dim=1)
    directions = {"first to last": (0, 1, pair.flow01), "last to first": (1, 0, pair.flow10)}

    def look(across: float, down: float, direction: str) -> Figure:
        """A point of one image, where it lands in the other, and its similarity with every place there."""
        a, b, flow = directions[direction]
        row, column, start = _locate(across, down, h, w)
        similarity = torch.einsum("c,chw->hw", features[a, :, row, column], features[b])
        best = int(similarity.argmax())
        match = torch.tensor([(best % w + 0.5) / w, (best // w + 0.5) / h])
        print(f"{_place(start)} of image {a} goes to {_place(match)} of image {b}, cosine {similarity.max():.2f}")
        colours = _heat(similarity[None], images)[0]
        marks = {"X": match}
        if flow is not None:
            x, y = (start * sides).long()
            marks["o"] = start + flow[0, :, y, x] / sides
        pictures = {f"image {a}": images[a], f"image {b}": images[b], "similarity": colours}
        return _row_of(pictures, {"o": start}, marks, marks)

    return explore(look, across=(0.0, 1.0, 1 / w), down=(0.0, 1.0, 1 / h), direction=list(directions))


def explore_fusion(model: ImageModel, pair: Pair, *, inversion_steps: int | None = None, prompt: str = "") -> VBox:
    """Show what the network sees in the latents of two images, fused at any time between them by one of three methods.

    Source: DreamMover, section 3.3, Eq. 6 to 8. Shown is the clean image predicted in one step from the fused z_T, with
    its high-frequency energy over the mean of the inputs'. inversion_steps: T; None is the model's recommendation.
    Controls: time, method, flow (off: none).
    """
    images, inversion, flows, levels = _prepare(model, pair, inversion_steps, prompt)
    context, z = model.embed_text(prompt), inversion.latents[-1]
    t, a = int(inversion.timesteps[-1]), inversion.alpha_bar

    @torch.no_grad()
    def look(time: float, method: str, flow: bool) -> Figure:
        """Both images, and what the network sees in their fused latents."""
        moves = flows if flow else [torch.zeros_like(f) for f in flows]
        if method == "direct":
            fused = fuse_direct(*z.split(1), *moves, time)
        else:
            fused = fuse_two_level(*levels, *moves, time, a, low="wta" if method == "two-level" else "average")[0]
        share = float(high_frequency_energy(fused) / high_frequency_energy(z).mean())
        print(f"high-frequency energy {share:.2f} of the inputs'")
        seen = model.decode(predict_clean(fused, model.predict_noise(fused, t, context), a))[0]
        return _row_of({"image 0": images[0], f"time {time:.2f}, {method}": seen, "image 1": images[1]})

    methods = ["two-level", "two-level, noise averaged", "direct"]
    return explore(look, time=(0.0, 1.0, 0.05), method=methods, flow=True)


def explore_attention(model: ImageModel, pair: Pair, *, inversion_steps: int | None = None, prompt: str = "") -> VBox:
    """Show what a chosen point of the middle frame attends to in the two images, in each replaced self-attention layer.

    Source: DreamMover, section 3.4, Eq. 9 and 10, in the first denoising step from T = `inversion_steps` (None: the
    model's recommendation); mean over the heads. Controls: across, down, layer.
    """
    images, inversion, flows, levels = _prepare(model, pair, inversion_steps, prompt)
    z, middle = inversion.latents[-1], fuse_two_level(*levels, *flows, 0.5, inversion.alpha_bar)[0]
    share = (torch.arange(QUERIES) + 0.5) / QUERIES
    with torch.no_grad(), replace_self_attention(model.unet) as control, ExitStack() as stack:
        grids = {name: layer_grid(model.unet, name, z) for name in control.names}
        maps = {}
        for name, (h, w) in grids.items():  # the tokens at the centres of QUERIES x QUERIES cells, row by row
            tokens = ((share * h).long()[:, None] * w + (share * w).long()).flatten().tolist()
            maps[name] = stack.enter_context(control.recording(name, tokens))
        batch = torch.cat([z[:1], middle, z[1:]])
        model.predict_noise(batch, int(inversion.timesteps[-1]), model.embed_text(prompt))
    layers = {
        f"up-block {name.split('.')[1]}, layer {k}": a[0].mean(0).cpu().view(QUERIES, QUERIES, 2, *grids[name])
        for k, (name, (a,)) in enumerate(maps.items())
    }

    def look(across: float, down: float, layer: str) -> Figure:
        """A point of the middle frame, and what it attends to in both images."""
        row, column, here = _locate(across, down, QUERIES, QUERIES)
        weights = layers[layer][row, column]
        shares = [f"{100 * float(part.sum()):.0f} % on image {end}" for end, part in enumerate(weights)]
        print(f"{_place(here)} of the middle frame: {', '.join(shares)}")
        colours = _heat(weights, images)
        pictures = {"image 0": images[0], shares[0]: colours[0], "image 1": images[1], shares[1]: colours[1]}
        return _row_of(pictures, {"o": here}, {}, {"o": here})

    every = (0.0, 1.0, 1 / QUERIES)
    return explore(look, across=every, down=every, layer=list(layers))


def explore_temporal_maps(model: VideoModel, pair: Pair, *, steps: int | None = None, seed: int = 0) -> VBox:
    """Show which frames each frame attends to at a place of a layer, and that map rotated by 180 degrees.

    Source: Generative Inbetweening, section 4.1; the maps of the last of `steps` steps (None: the model's
    recommendation) in which the pair's first image is animated, mean over the heads. Printed: how many frames ahead a
    frame attends to on average; the rotation reverses its sign. Controls: across, down, layer.
    """
    image = at_native_size(model, pair)[1][:1]
    with record_temporal_attention(model.unet) as recorded:
        latents = animate(model, image, steps=steps, seed=seed, progress=False).latents
    maps = {}
    for name, a in recorded.maps.items():  # [batch*h*w, heads, N, N]; the last of the batch is conditioned on the image
        stage, *rest = name.split(".")
        label = "mid-block" if stage == "mid_block" else f"{stage.split('_')[0]}-block {rest[0]}, layer {rest[2]}"
        h, w = layer_grid(model.unet, name, latents)
        maps[label] = a[-h * w :].float().mean(1).cpu().unflatten(0, (h, w))

    def look(across: float, down: float, layer: str) -> Figure:
        """A place of the first image, and which frames attend to which there, as they are and rotated."""
        row, column, here = _locate(across, down, *maps[layer].shape[:2])
        variants = {"as it is": maps[layer][row, column], "rotated": rotate_map(maps[layer][row, column])}
        print(f"{_place(here)}: " + ", ".join(f"{name} {ahead(x):+.2f} frames ahead" for name, x in variants.items()))
        colours = _heat(torch.stack(list(variants.values())), image)
        fig = _row_of({"first image": image[0], **dict(zip(variants, colours, strict=True))}, {"o": here})
        for axes in fig.axes[1:]:
            axes.set(xlabel="attends to frame", ylabel="frame")
        return fig

    h, w = max(m.shape[:2] for m in maps.values())
    return explore(look, across=(0.0, 1.0, 1 / w), down=(0.0, 1.0, 1 / h), layer=list(maps))


def ahead(a: Tensor) -> float:
    """Return how many frames ahead of itself a frame attends to, the mean over a map [N,N] whose rows sum to one."""
    n = torch.arange(len(a), dtype=a.dtype)
    return float((a * (n[None] - n[:, None])).sum(1).mean())


def at_native_size(model: ImageModel | VideoModel, pair: Pair) -> tuple[Pair, Tensor]:
    """Resize a pair, flows too, to about the model's own area in its own aspect; return it and its images [2,3,h,w]."""
    if not isinstance(model, VideoModel):
        check_model(model)
    pair = resize_pair(pair, area_size(*pair.image0.shape[-2:], side=model.native_size, multiple=model.multiple))
    return pair, torch.cat([pair.image0, pair.image1])


def _prepare(model: ImageModel, pair: Pair, inversion_steps: int | None, prompt: str) -> tuple:
    """Return the images at the model's size, their inversion, flows, and its clean and noise parts one by one."""
    images = at_native_size(model, pair)[1]
    inversion = invert(model, images, inversion_steps=inversion_steps, prompt=prompt, progress=False)
    flows = estimate_flow(model, inversion, prompt=prompt)
    return images, inversion, flows, (*inversion.clean.split(1), *inversion.noise.split(1))


def layer_grid(unet: torch.nn.Module, name: str, latents: Tensor) -> tuple[int, int]:
    """Return (h, w) of the tokens of an attention layer, such as "up_blocks.1...", for latents [...,H,W]."""
    stage, number = name.split(".")[:2]
    halvings = coarsest = len(unet.up_blocks) - 1
    if stage != "mid_block":
        halvings = int(number) if stage == "down_blocks" else coarsest - int(number)
    h, w = (-(-side // 2**halvings) for side in latents.shape[-2:])  # a convolution halves an odd side upwards
    return h, w


def _locate(across: float, down: float, h: int, w: int) -> tuple[int, int, Tensor]:
    """Return row and column of the cell of an (h, w) grid at a point, and the cell's centre."""
    row, column = min(int(down * h), h - 1), min(int(across * w), w - 1)
    return row, column, torch.tensor([(column + 0.5) / w, (row + 0.5) / h])


def _place(point: Tensor) -> str:  # for those who cannot see the rings
    x, y = (round(100 * float(v)) for v in point)
    return f"the point {x} % from the left, {y} % from the top"


def _row_of(pictures: dict[str, Tensor], *marks: dict[str, Tensor]) -> Figure:
    """Draw images [3,H,W] of one size next to each other under their names, and {"o" or "X": point} into the first."""
    frames = torch.stack([picture.cpu() for picture in pictures.values()])
    fig = contact_sheet({"": frames}, titles=list(pictures), side=2.8)
    for axes, points in zip(fig.axes, marks, strict=False):
        axes.autoscale(False)
        for shape, point in points.items():
            x, y = float(point[0]) * frames.shape[-1] - 0.5, float(point[1]) * frames.shape[-2] - 0.5
            for colour, line in (("black", 4), ("white", 1.8)):  # visible on any background
                axes.plot(x, y, shape, ms=12, mfc="none" if shape == "o" else "#D55E00", mec=colour, mew=line)
    return fig


def _heat(maps: Tensor, images: Tensor) -> Tensor:
    """Colour maps [n,h,w] by one scale, at the size of the images: [n,3,H,W]."""
    maps = F.interpolate(maps[None], images.shape[-2:], mode="nearest-exact")[0]
    values = (maps - maps.min()) / (maps.max() - maps.min()).clamp(min=1e-12)
    return torch.from_numpy(colormaps["viridis"](values.numpy())[..., :3]).movedim(-1, 1)
