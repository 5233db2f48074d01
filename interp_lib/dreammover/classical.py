"""Flow without a network: block matching for Table 3's "w/o our estimator", and raw patches in place of features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.checks import check_int
from interp_lib.images import as_images

FLAT = 1e-2  # contrast (root mean square per value, images in [0,1]) below which a patch is called flat
PATCH, STRIDE = 16, 2  # pixels: side of a patch, and distance of the places it is compared with
PENALTY = 1e-3  # correlation that a displacement of the whole diagonal costs, so that ties and flat patches stay put


@torch.no_grad()
def block_flow(image0: Tensor, image1: Tensor, *, factor: int = 8) -> Tensor:
    """Match patches of two images exhaustively by zero-mean normalised cross-correlation; return the flow 0 -> 1.

    Source: ours. The patch around the centre of every cell of `factor` pixels is compared with those at every second
    pixel of the other image. image0, image1: [1,3,H,W] in [0,1], sides multiples of `factor`.
    Returns [1,2,H/factor,W/factor] in pixels of that grid.
    """
    factor = check_int("factor", factor, 1)
    image0, image1 = as_images(image0, name="image0"), as_images(image1, name="image1")
    height, width = image0.shape[-2:]
    if image0.shape != image1.shape or len(image0) != 1 or height % factor or width % factor:
        raise ValueError(f"block_flow compares two images [1,3,H,W] with sides multiples of {factor}.")
    rows, columns = range(factor // 2, height, factor), range(factor // 2, width, factor)
    source = _patches(image0, rows, columns)
    start = torch.cartesian_prod(torch.tensor(rows), torch.tensor(columns)).flip(1).to(source)  # (x, y)
    best, flow = source.new_full((len(source),), -torch.inf), torch.zeros_like(start)
    for row in range(0, height, STRIDE):  # one row of targets at a time bounds the memory
        target = _patches(image1, range(row, row + 1), range(0, width, STRIDE))
        landing = start.new_tensor([[column, row] for column in range(0, width, STRIDE)])
        move = landing[None] - start[:, None]
        score, index = (source @ target.T - PENALTY * move.norm(dim=2) / (height**2 + width**2) ** 0.5).max(1)
        better = score > best
        flow = torch.where(better[:, None], move[torch.arange(len(move)), index], flow)
        best = torch.where(better, score, best)
    return (flow / factor).T.reshape(1, 2, len(rows), len(columns))


def patch_features(image: Tensor, *, stride: int, patch: int = 12) -> Tensor:
    """Cut the mean-free patch around every cell of `stride` pixels: a control for `diffusion_features` in matching.

    image: [N,3,H,W] in [0,1]; patch: side in pixels, at least `stride`. Returns [N, 3*patch*patch, H/stride, W/stride].
    """
    image, stride = as_images(image), check_int("stride", stride, 1)
    patch = check_int("patch", patch, stride)
    if any(side % stride for side in image.shape[-2:]):
        raise ValueError(f"image is {list(image.shape)}: both sides must be multiples of stride={stride}.")
    padded = F.pad(image, ((patch - stride) // 2,) * 4, mode="reflect")
    columns = F.unfold(padded, patch, stride=stride)
    return (columns - columns.mean(1, keepdim=True)).unflatten(2, tuple(side // stride for side in image.shape[-2:]))


def _patches(image: Tensor, rows: range, columns: range) -> Tensor:
    """Return patches [P, 3*16*16] centred just before each (row, column): zero mean, unit length, or 0 where flat."""
    padded = F.pad(image.float(), [PATCH // 2] * 4, mode="replicate")
    band = padded[..., rows.start : rows[-1] + PATCH, columns.start : columns[-1] + PATCH]
    x = F.unfold(band, PATCH, stride=(rows.step, columns.step))[0].T
    x = x - x.mean(1, keepdim=True)
    norm = x.norm(dim=1, keepdim=True)
    return torch.where(norm > FLAT * x.shape[1] ** 0.5, x / norm.clamp(min=1e-12), 0.0)
