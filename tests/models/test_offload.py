"""Networks that take turns: which of them is on the device when, and that nothing else changes."""

from pathlib import Path

import pytest
import torch

from interp_lib import fit_backward_motion, inbetween, interpolate, load_image_model, load_video_model

CONFORMANCE = Path(__file__).parents[1] / "conformance"
IMAGE, VIDEO = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"


def watch(model, monkeypatch):
    """Who is moved where, in order, as (name, device asked for)."""
    moves = []
    names = {id(model.unet): "unet", id(model.vae): "vae"}
    for network in model.turns.networks:
        plain, name = network.to, names.get(id(network), "encoder")

        def to(place, plain=plain, name=name):
            moves.append((name, "away" if place == "cpu" else "here"))
            return plain(place)

        monkeypatch.setattr(network, "to", to)
    return moves


def pictures(size):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).split(1)


def test_an_image_models_networks_take_turns(monkeypatch):
    plain, model = load_image_model(IMAGE, device="cpu"), load_image_model(IMAGE, device="cpu", offload=True)
    assert plain.turns is None and model.device == plain.device
    how = {"frames": 2, "steps": 4, "inversion_steps": 2, "lora": False, "progress": False}
    moves = watch(model, monkeypatch)
    frames = interpolate(model, *pictures(32), **how).frames
    assert [name for name, where in moves if where == "here"] == ["encoder", "vae", "unet", "encoder", "unet", "vae"]
    assert moves[-3:] == [("unet", "away"), ("encoder", "away"), ("vae", "here")]
    assert torch.equal(frames, interpolate(plain, *pictures(32), **how).frames)


def test_a_video_models_networks_take_turns(monkeypatch):
    plain, model = load_video_model(VIDEO, device="cpu"), load_video_model(VIDEO, device="cpu", offload=True)
    how = {"frames": 3, "steps": 2, "recurrence": 0, "method": "no-finetune", "progress": False}
    moves = watch(model, monkeypatch)
    frames = inbetween(model, *pictures(64), **how).frames
    here = [name for name, where in moves if where == "here"]
    assert here[-2:] == ["unet", "vae"] and here.count("unet") == 1
    assert torch.equal(frames, inbetween(plain, *pictures(64), **how).frames)


def test_networks_that_move_are_not_tuned():
    model = load_video_model(VIDEO, device="cpu", offload=True)
    with pytest.raises(ValueError, match="offload=True cannot be tuned.*load it without"):
        fit_backward_motion(model, [torch.rand(3, 3, 64, 64)], steps=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("load", "folder"), [(load_image_model, IMAGE), (load_video_model, VIDEO)])
def test_only_one_is_on_the_gpu(load, folder):
    model = load(folder, device="cuda", offload=True)
    for network in model.turns.networks:
        model.turns.bring(network)
        assert [next(n.parameters()).is_cuda for n in model.turns.networks].count(True) == 1
