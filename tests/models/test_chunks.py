"""Work in chunks: the same as in one piece, gathered where it is wanted."""

import pytest
import torch

from interp_lib.models.chunks import in_chunks


@pytest.mark.parametrize("chunk", [1, 3, 7, 50])
def test_chunks_change_nothing(chunk):
    x, sizes = torch.rand(7, 2, 3), []

    def work(part):
        sizes.append(len(part))
        return part.flatten(1) * 2

    assert torch.equal(in_chunks(work, x, chunk), x.flatten(1) * 2)
    assert max(sizes) <= chunk and sum(sizes) == 7
    out = torch.zeros(9, 6, dtype=torch.float64)
    assert in_chunks(work, x, chunk, out=out[1:-1]).data_ptr() == out[1:-1].data_ptr()
    assert torch.equal(out[1:-1], (x.flatten(1) * 2).double()) and not out[[0, -1]].any()


def test_nothing_in_nothing_out():
    assert in_chunks(lambda x: x * 2, torch.zeros(0, 3), 4).shape == (0, 3)
