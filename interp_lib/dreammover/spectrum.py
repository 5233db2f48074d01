"""High-frequency energy (DreamMover, Sec. 3.3 and Fig. 5): what averaging takes from a latent code."""

import math

import torch
from torch import Tensor

from interp_lib.checks import check_number, check_tensors
from interp_lib.dreammover.flow import at_least_float32


def spectrum(x: Tensor) -> Tensor:
    """Return the centred amplitude spectrum |FFT| of x [...,h,w], unnormalised; frequency 0 at row h//2, column w//2.

    Source: DreamMover, Fig. 5(b).
    """
    check_tensors(x=x)
    if x.ndim < 2 or 0 in x.shape[-2:]:
        raise ValueError(f"x has shape {tuple(x.shape)}: a spectrum needs an image or latent code [..., h, w].")
    return torch.fft.fftshift(torch.fft.fft2(at_least_float32(x)).abs(), dim=(-2, -1))


def high_frequency_energy(x: Tensor, *, centre: float = 0.25) -> Tensor:
    """Sum the amplitudes outside the central square of the spectrum, over all channels.

    Source: DreamMover, Sec. 3.3: "high" is the part of the spectrogram beyond the centre 1/4.
    x: [N,C,h,w], or one image [C,h,w]. centre: share of the *area* that counts as low, in [0,1]; of n rows (columns)
    the round(n*sqrt(centre)) =: s from n//2 - s//2 up. 0.25 is half of each side; 1/16 reads "1/4" as of the side.
    Returns [N]. Proportional to the contrast of x; 0 for centre = 1.
    """
    check_tensors(x=x)
    if x.ndim not in (3, 4):
        raise ValueError(f"x has shape {tuple(x.shape)}: give [N,C,h,w], or one image [C,h,w].")
    centre = check_number("centre", centre, 0, 1)
    amplitude = spectrum(x if x.ndim == 4 else x[None])
    sides = [(n, round(n * math.sqrt(centre))) for n in amplitude.shape[-2:]]
    rows, columns = (slice(n // 2 - s // 2, n // 2 - s // 2 + s) for n, s in sides)
    high = torch.ones(amplitude.shape[-2:], dtype=torch.bool, device=amplitude.device)
    high[rows, columns] = False
    return (amplitude * high).sum(dim=(1, 2, 3))
