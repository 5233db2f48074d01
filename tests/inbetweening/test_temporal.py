"""Temporal attention: the map is the softmax, the rotation has its invariants, and nothing is left behind."""

from copy import copy, deepcopy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from interp_lib import record_temporal_attention, rotate_map, rotate_temporal_attention
from interp_lib.inbetweening import temporal
from interp_lib.inbetweening.temporal import temporal_attentions, tune_temporal_attention, two_directions

FOLDER = Path(__file__).parents[1] / "conformance" / "inbetween"
PIXELS, FRAMES = 6, 5


@torch.no_grad()
def v(model, seed=0, batch=2, frames=3):
    """One call of the U-Net on fixed noise."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, frames, 8, 8, 8, generator=g)
    context = torch.randn(batch, 1, 32, generator=g)
    return model.predict_v(z, torch.tensor(0.5), context, torch.tensor([[6.0, 127.0, 0.02]] * batch))


def changed(unet, before):
    return {name for name, attn in temporal_attentions(unet).items() if attn.processor is not before[name]}


@pytest.fixture
def values(tiny):
    """Name -> [PIXELS,FRAMES,C], an input of each temporal self-attention."""
    g = torch.Generator().manual_seed(1)
    layers = temporal_attentions(tiny.unet).items()
    return {name: 2 * torch.randn(PIXELS, FRAMES, attn.to_q.in_features, generator=g) for name, attn in layers}


@pytest.fixture
def recorded(tiny, values):
    """(maps, what each layer puts out by itself)"""
    with torch.no_grad(), record_temporal_attention(tiny.unet) as maps:
        out = {name: attn(values[name]) for name, attn in temporal_attentions(tiny.unet).items()}
    return maps, out


def with_deltas(attn, name, deltas):
    """A copy of the layer whose weights are changed in place."""
    attn = deepcopy(attn)
    with torch.no_grad():
        for p in ("to_q", "to_k", "to_v", "to_out.0"):
            if f"{name}.{p}.weight" in deltas:
                attn.get_submodule(p).weight += deltas[f"{name}.{p}.weight"]
    return attn


def plain_map(attn, x):
    """[P,heads,N,N]: loops over pixels, heads and pairs of frames, float64."""
    q, k = (x.double() @ p.weight.double().T for p in (attn.to_q, attn.to_k))
    (pixels, frames), d = q.shape[:2], q.shape[2] // attn.heads
    a = torch.zeros(pixels, attn.heads, frames, frames, dtype=torch.float64)
    for p, h, i, j in product(range(pixels), range(attn.heads), range(frames), range(frames)):
        a[p, h, i, j] = (q[p, i, h * d : (h + 1) * d] @ k[p, j, h * d : (h + 1) * d] / d**0.5).exp()
    return a / a.sum(-1, keepdim=True)


def plain_out(attn, a, x):
    """What the layer makes of values x with the map a: loops over pixels, heads and frames, float64."""
    values = x.double() @ attn.to_v.weight.double().T
    joined, d = torch.zeros_like(values), values.shape[2] // attn.heads
    for p, h, i in product(range(len(x)), range(attn.heads), range(x.shape[1])):
        s = slice(h * d, (h + 1) * d)
        joined[p, i, s] = sum(a[p, h, i, j] * values[p, j, s] for j in range(x.shape[1]))
    out = attn.to_out[0]
    return joined @ out.weight.double().T + out.bias.double()


def plain_rotation(a):
    b, n = torch.zeros_like(a), a.shape[-1]
    for j, k in product(range(n), range(n)):
        b[..., j, k] = a[..., n - 1 - j, n - 1 - k]
    return b


def far(a, b):
    return float((a - b).abs().max())


def test_rotation_is_the_definition_and_its_own_inverse():
    a = torch.rand(3, 2, 7, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    assert torch.equal(rotate_map(a), plain_rotation(a))
    assert torch.equal(rotate_map(rotate_map(a)), a) and not torch.equal(rotate_map(a), a)
    assert torch.equal(rotate_map(a).sum(-1), a.flip(-1).sum(-1).flip(-1))


def test_recording_changes_no_bit(tiny):
    plain, layers, ran = v(tiny), temporal_attentions(tiny.unet), []
    hooks = [attn.register_forward_hook(lambda m, a, o, name=name: ran.append(name)) for name, attn in layers.items()]
    with record_temporal_attention(tiny.unet) as maps:
        assert len(maps.names) == 10 and maps.names == list(layers) and maps.maps == {}
        assert torch.equal(v(tiny), plain)
    for hook in hooks:
        hook.remove()
    assert ran == list(maps.maps) == maps.names  # listed in the order in which they run
    for name, a in maps.maps.items():
        assert a.shape[1:] == (layers[name].heads, 3, 3) and len(a) in (2 * 64, 2 * 16, 2 * 4, 2 * 1)
        assert far(a.sum(-1), torch.ones(a.shape[:-1])) < 1e-6
    before = dict(maps.maps)
    v(tiny, seed=1)  # no longer recorded
    assert all(maps.maps[name] is a for name, a in before.items())


def test_recorded_maps_are_the_softmax(tiny, values, recorded):
    maps, out = recorded
    for name, attn in temporal_attentions(tiny.unet).items():
        a = plain_map(attn, values[name])
        assert far(maps.maps[name], a) < 1e-5, name
        assert far(out[name], plain_out(attn, a, values[name])) < 1e-4, name
        assert a.std() > 0.01  # they say something


@torch.no_grad()
def test_rotated_maps_on_flipped_values_give_the_flipped_output(tiny, values, recorded):
    maps, out = recorded
    twice = {name: rotate_map(a) for name, a in maps.maps.items()}
    for name, attn in temporal_attentions(tiny.unet).items():
        flipped = values[name].flip(1)
        with rotate_temporal_attention(tiny.unet, maps):
            assert far(attn(flipped), out[name].flip(1)) < 1e-5
        with rotate_temporal_attention(tiny.unet, twice):  # rotated back: the maps of the unflipped order of time
            assert far(attn(flipped), out[name].flip(1)) > 1e-2


@torch.no_grad()
def test_rotated_layer_is_the_formula_with_the_deltas(tiny, values, recorded):
    g, looked = torch.Generator().manual_seed(2), []
    for name, attn in temporal_attentions(tiny.unet).items():
        other = torch.randn(values[name].shape, generator=g)
        hooks = [p.register_forward_hook(lambda m, a, o: looked.append(m)) for p in (attn.to_q, attn.to_k)]
        with rotate_temporal_attention(tiny.unet, recorded[0], deltas=tiny.reverse):
            ours = attn(other)
        for hook in hooks:
            hook.remove()
        tuned = with_deltas(attn, name, tiny.reverse)
        rotated = plain_rotation(recorded[0].maps[name].double())
        assert far(ours, plain_out(tuned, rotated, other)) < 1e-4
        assert far(ours, plain_out(attn, rotated, other)) > 1e-2  # the deltas are strong enough to be seen
        assert looked == []  # Q and K are never computed


@torch.no_grad()
def test_tuned_layer_is_the_layer_with_other_weights(tiny, values, no_rotation):
    for name, attn in temporal_attentions(tiny.unet).items():
        with tune_temporal_attention(tiny.unet, no_rotation):
            ours = attn(values[name])
        assert far(ours, with_deltas(attn, name, no_rotation)(values[name])) < 1e-5
        assert far(ours, attn(values[name])) > 1e-2


@torch.no_grad()
def test_two_directions_is_recording_and_rotating(tiny, values, recorded):
    maps, out = recorded
    back = {name: torch.randn(x.shape, generator=torch.Generator().manual_seed(3)) for name, x in values.items()}
    for name, attn in temporal_attentions(tiny.unet).items():
        with rotate_temporal_attention(tiny.unet, maps, deltas=tiny.reverse):
            turned = attn(back[name])
        alone = with_deltas(attn, name, tiny.reverse)(back[name])
        for rotate in (None, ("up_blocks", "mid_block"), ()):
            with two_directions(tiny.unet, rotate=rotate, deltas=tiny.reverse) as names:
                forward, backward = attn(torch.cat([values[name], back[name]])).chunk(2)
            rotates = rotate is None or name.startswith(rotate)
            assert (name in names) == rotates
            assert far(forward, out[name]) < 1e-5
            assert far(backward, turned if rotates else alone) < 1e-5
            assert far(backward, alone if rotates else turned) > 1e-3


@torch.no_grad()
def test_tiles_change_nothing(tiny, values, monkeypatch):
    outputs = []
    for tile in (temporal.TILE, 1, 4):
        monkeypatch.setattr(temporal, "TILE", tile)
        with two_directions(tiny.unet, deltas=tiny.reverse):
            layers = temporal_attentions(tiny.unet).items()
            outputs.append([attn(torch.cat([values[name], -values[name]])) for name, attn in layers])
    assert all(far(a, b) < 1e-5 for other in outputs[1:] for a, b in zip(other, outputs[0], strict=True))


def test_the_map_of_the_released_code(tiny, keyframes):
    """The released code's forward network, in the first of 8 steps."""
    with np.load(FOLDER / "golden.npz") as arrays:
        z, expected = (torch.from_numpy(arrays[f"average_{n}"]).float() for n in ("first_latents", "map_up_last"))
        timestep = torch.from_numpy(arrays["average_first_timestep"]).float()
    latent, context = tiny.condition(keyframes[:1], torch.zeros(1, 3, 64, 64), 0.0)
    scaled = z / ((4 * timestep.double()).exp() ** 2 + 1).sqrt().float()  # the timestep is log(sigma) / 4
    image = latent[:, None].expand(-1, z.shape[1], -1, -1, -1)
    batch = torch.cat([torch.cat([scaled, torch.zeros_like(image)], 2), torch.cat([scaled, image], 2)])
    with torch.no_grad(), record_temporal_attention(tiny.unet) as maps:
        tiny.predict_v(
            batch, timestep, torch.cat([torch.zeros_like(context), context]), torch.tensor([[6.0, 127.0, 0.0]] * 2)
        )
    assert maps.names[-1].startswith("up_blocks.3")
    error = (maps.maps[maps.names[-1]] - expected) / expected.std()
    assert error.square().mean().sqrt() < 1e-3
    assert error.abs().max() < 5e-3  # the array's own float32 rounding: it is 1.5e-3 off a run in float64


@pytest.mark.parametrize("blocks, count", [("down_blocks", 3), (["up_blocks.1", "mid_block"], 3), (None, 10)])
def test_blocks_touch_only_those(tiny, recorded, blocks, count):
    before = {name: attn.processor for name, attn in temporal_attentions(tiny.unet).items()}
    starts = ("",) if blocks is None else (blocks,) if isinstance(blocks, str) else tuple(blocks)
    with rotate_temporal_attention(tiny.unet, recorded[0], blocks=blocks) as names:
        assert changed(tiny.unet, before) == set(names) == {n for n in before if n.startswith(starts)}
        assert len(names) == count


def test_missing_maps_and_other_shapes(tiny, values, recorded):
    maps = recorded[0]
    last = maps.names[-1]
    with pytest.raises(ValueError, match="maps has none for .*record_temporal_attention"):
        with rotate_temporal_attention(tiny.unet, {name: a for name, a in maps.maps.items() if name != last}):
            pass
    with pytest.raises(ValueError, match="block 'up_block' has no temporal.* the blocks are .*mid_block, up_blocks.1"):
        with rotate_temporal_attention(tiny.unet, maps, blocks=["mid_block", "up_block"]):
            pass
    attn, x = temporal_attentions(tiny.unet)[last], values[last]
    for other in (x[:, :4], x[:5]):  # fewer frames; fewer pixels
        with pytest.raises(ValueError, match="record the maps at the same size, batch and number of frames"):
            with rotate_temporal_attention(tiny.unet, maps):
                attn(other)


@pytest.mark.parametrize(
    "enter",
    [
        lambda unet, maps, deltas: record_temporal_attention(unet),
        lambda unet, maps, deltas: rotate_temporal_attention(unet, maps, deltas=deltas),
        lambda unet, maps, deltas: tune_temporal_attention(unet, deltas),
        lambda unet, maps, deltas: two_directions(unet, deltas=deltas),
    ],
)
def test_restored_after_an_exception(tiny, recorded, enter):
    """That every processor and weight is the old one is checked in the fixture `tiny`."""
    before = {name: attn.processor for name, attn in temporal_attentions(tiny.unet).items()}
    with pytest.raises(RuntimeError, match="body"), enter(tiny.unet, recorded[0], tiny.reverse):
        assert len(changed(tiny.unet, before)) == 10
        raise RuntimeError("body")
    assert not changed(tiny.unet, before)


def test_one_on_top_of_the_other(tiny, values, recorded):
    """Recording sits on what is there, and takes away only itself."""
    name, attn = list(temporal_attentions(tiny.unet).items())[-1]
    with torch.no_grad(), tune_temporal_attention(tiny.unet, tiny.reverse):
        tuned = attn(values[name])
        with record_temporal_attention(tiny.unet) as maps:
            assert torch.equal(attn(values[name]), tuned)
        assert torch.equal(attn(values[name]), tuned)
    assert torch.equal(maps.maps[name], recorded[0].maps[name])  # the reverse deltas leave Q and K alone


@pytest.mark.long
def test_a_compiled_network_says_the_same(tiny):
    """torch.compile sees the layers that a context has changed, and sees when they are themselves again."""
    model = copy(tiny)
    model.unet = deepcopy(tiny.unet).double()
    plain = v(model)
    with two_directions(model.unet):
        turned = v(model)
    assert not torch.allclose(turned, plain, atol=1e-2)
    model.unet.compile(backend="eager")  # what is captured, without a compiler
    try:
        assert torch.allclose(v(model), plain, atol=1e-6)
        with two_directions(model.unet):
            assert torch.allclose(v(model), turned, atol=1e-6)
        assert torch.allclose(v(model), plain, atol=1e-6)
    finally:
        torch.compiler.reset()
