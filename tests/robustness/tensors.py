"""Tensors of every small size, dtype and layout, for the fuzzing of the maths."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

EXAMPLES = 60
fuzz = settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=10_000)
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
SCALES = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e3])
SIDES = st.integers(1, 17)


@st.composite
def grids(draw, *, dtypes=(torch.float32, torch.float64, torch.bfloat16, torch.float16), batch=2):
    """(shape [N,C,h,w], dtype, generator, layout) of the tensors of one example."""
    shape = (draw(st.integers(1, batch)), draw(st.integers(1, 5)), draw(SIDES), draw(SIDES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return (
        shape,
        draw(st.sampled_from(dtypes)),
        generator,
        draw(st.sampled_from(["plain", "strided", "channels", "flipped"])),
    )


def noise(shape, dtype, generator, *, scale=1.0):
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def laid_out(x, layout):
    """The same values in memory of another order."""
    if layout == "strided":
        wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "channels":
        return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    if layout == "flipped":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    return x


def check_same(a, b, dtype, *, scale=1.0, share=0.0):
    """Equal to rounding at that scale; share: what the formula's own constants may take away of the largest value."""
    assert a.shape == b.shape and a.dtype == b.dtype
    bound = ROUNDING[dtype] * max(scale, 1e-20) + share * float(b.double().abs().max())
    assert float((a.double() - b.double()).abs().max()) <= bound
