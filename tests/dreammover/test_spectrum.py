"""High-frequency energy against the discrete Fourier sum written out, and what it is for."""

import cmath
import math

import pytest
import torch

from interp_lib.dreammover.spectrum import high_frequency_energy, spectrum


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loop_spectrum(x):
    """|sum over pixels of x * exp(-2 pi i (ky/h + lx/w))|, with frequency 0 at (h//2, w//2)."""
    height, width = x.shape
    out = torch.zeros(height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            k, m = row - height // 2, column - width // 2
            total = sum(
                x[j, i].item() * cmath.exp(-2j * math.pi * (k * j / height + m * i / width))
                for j in range(height)
                for i in range(width)
            )
            out[row, column] = abs(total)
    return out


def loop_energy(x, centre):
    energies = []
    for image in x:
        total = 0.0
        for channel in image:
            amplitude = loop_spectrum(channel)
            height, width = amplitude.shape
            sides = [round(n * math.sqrt(centre)) for n in (height, width)]
            starts = [n // 2 - s // 2 for n, s in zip((height, width), sides, strict=True)]
            for row in range(height):
                for column in range(width):
                    low = 0 <= row - starts[0] < sides[0] and 0 <= column - starts[1] < sides[1]
                    total += 0.0 if low else amplitude[row, column].item()
        energies.append(total)
    return torch.tensor(energies, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 2, 6, 6), (1, 1, 5, 8), (2, 1, 10, 7)])
def test_energy_against_the_sum(shape):
    x = noise(*shape)
    torch.testing.assert_close(spectrum(x)[0, 0], loop_spectrum(x[0, 0]))
    for centre in (0.0, 1 / 16, 0.25, 0.5, 1.0):
        torch.testing.assert_close(high_frequency_energy(x, centre=centre), loop_energy(x, centre))
    assert torch.equal(high_frequency_energy(x[0]), high_frequency_energy(x, centre=0.25)[:1])


def test_differentiable_and_half_precision():
    x = noise(1, 2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(high_frequency_energy, (x,))
    half = x.detach().half()
    torch.testing.assert_close(high_frequency_energy(half), high_frequency_energy(half.float()))
