"""Measures of images and of flow that need no network. Images are `[N,3,H,W]` in [0,1], flow is `[N,2,H,W]` in pixels
of its own grid."""

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_number, check_size, check_tensors
from interp_lib.dreammover.spectrum import high_frequency_energy
from interp_lib.types import Pair

AREA = 0.25  # "the centre 1/4" of the spectrum as a quarter of its area, half of each side
SIDE = 1 / 16  # or as a quarter of each side; the paper does not say which


def psnr(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB, `[N]`; infinite where images are equal.

    mask: bool `[N,1,H,W]` or `[1,1,H,W]`, the pixels that count, nowhere empty; None counts all.
    """
    _check_same_shape(images, reference)
    error = (images - reference).square()
    if mask is None:
        return -10 * torch.log10(error.flatten(1).mean(1))
    _check_mask("psnr", mask, images)
    counted = mask.expand_as(images)
    return -10 * torch.log10((error * counted).flatten(1).sum(1) / counted.flatten(1).sum(1))


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Return the mean structural similarity of each image with its reference, `[N]` float64; 1 for equal images.

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004, by
    scikit-image: Gaussian window of 11x11 pixels and sigma 1.5, population covariances, K1 = 0.01, K2 = 0.03, windows
    that lie wholly inside the image, averaged over the colour channels. Raises ValueError for a side under 11 pixels.
    """
    _check_same_shape(images, reference)
    from skimage.metrics import structural_similarity  # slow to import, and few callers need it

    pairs = zip(*(x.detach().double().cpu().numpy() for x in (images, reference)), strict=True)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    values = [structural_similarity(a, b, data_range=1.0, channel_axis=0, **options) for a, b in pairs]
    return torch.tensor(values, dtype=torch.float64)


def high_frequency_ratio(frames: Tensor, inputs: Tensor, *, centre: float = AREA) -> Tensor:
    """Return the high-frequency energy of each frame over the mean of the inputs', `[T]`; below 1 a frame is blurred.

    Source: DreamMover, section 3.3 and Fig. 5. frames: `[T,3,H,W]`; inputs: `[K,3,H,W]`. centre: share of the
    spectrum's area that counts as low, `AREA` or `SIDE`. NaN for inputs without high frequencies (flat ones).
    """
    high, total = (high_frequency_energy(inputs, centre=share).mean() for share in (centre, 0.0))
    flat = high <= 1e-6 * total  # rounding leaves a few ten-millionths of the whole spectrum of a flat image
    return torch.where(flat, torch.nan, high_frequency_energy(frames, centre=centre) / high)


def moving_pixels(pair: Pair, middle: Tensor) -> Tensor:
    """Return where something moves, bool `[1,1,H,W]`: foreground objects of a keyframe, and pixels that change.

    Source: ours. middle: the true frame between, `[1,3,H,W]`, in which a channel changes by more than 0.15.
    """
    check_tensors(middle=middle)
    if middle.shape != pair.image0.shape:
        raise ValueError(f"middle has shape {list(middle.shape)}: give a frame {list(pair.image0.shape)} of the pair.")
    changed = [(middle - end).abs().amax(1, keepdim=True) > 0.15 for end in (pair.image0, pair.image1)]
    actors = [actor for actor in (pair.actor0, pair.actor1) if actor is not None]
    return torch.stack(changed + actors).any(0)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the flow on a grid of another size: every pixel takes its cell's vector, scaled to the new pixels."""
    check_tensors(flow=flow)
    size = check_size("size", size, 1)
    height, width = flow.shape[-2:]
    scale = flow.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1)
    return F.interpolate(flow, size=size, mode="nearest-exact") * scale


def end_point_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Return the length of the difference at every pixel, `[N,1,H,W]`, in pixels."""
    _check_same_shape(flow, truth)
    return (flow - truth).square().sum(1, keepdim=True).sqrt()


def pck(flow: Tensor, truth: Tensor, mask: Tensor, *, radius: float = 0.1) -> float:
    """Return PCK@radius, the share of pixels in `mask` `[N,1,H,W]` whose error is at most radius x the longer side."""
    _check_same_shape(flow, truth)
    _check_mask("pck", mask, flow)
    error = end_point_error(flow, truth)[mask]
    return float((error <= check_number("radius", radius, 0) * max(truth.shape[-2:])).float().mean())


def _check_mask(caller: str, mask: Tensor, x: Tensor) -> None:
    """Raise ValueError unless the mask is bool [N,1,H,W] or [1,1,H,W] on the grid of x [N,C,H,W], and nowhere empty."""
    check_tensors(mask=mask)
    fits = mask.ndim == 4 and len(mask) in (1, len(x)) and mask.shape[1:] == (1, *x.shape[2:])
    if mask.dtype != torch.bool or not fits:
        given = f"{mask.dtype} {list(mask.shape)}"
        raise ValueError(f"{caller}: the mask is {given}: give torch.bool {[len(x), 1, *x.shape[2:]]}, or one for all.")
    if not mask.flatten(1).any(1).all():
        raise ValueError(f"{caller}: the mask is empty; choose a pair with pixels that count.")


def _check_same_shape(first: Tensor, second: Tensor) -> None:
    check_tensors(first=first, second=second)
    if first.shape != second.shape:
        raise ValueError(f"shapes {tuple(first.shape)} and {tuple(second.shape)} differ: both must be on one grid")
