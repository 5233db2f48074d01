"""Networks that take turns: which of them is on the device when, and that nothing else changes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from interp_lib import fit_backward_motion, inbetween, interpolate, load_image_model, load_video_model
from interp_lib.models.load import take_turns

CONFORMANCE = Path(__file__).parents[1] / "conformance"
IMAGE, VIDEO = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"
GPU = torch.device("cuda:0")


class Network(torch.nn.Module):
    """Knows on which device it is said to be."""

    place = torch.device("cpu")

    def parameters(self, recurse=True):
        yield SimpleNamespace(device=self.place)

    def to(self, place):
        self.place = torch.device(place)
        return self

    def forward(self):
        return self.place


def test_the_network_that_is_called_is_alone_on_the_device():
    networks = [Network() for _ in range(3)]
    take_turns(networks, GPU)
    assert all(network.place.type == "cpu" for network in networks)
    for k in (0, 1, 2, 0, 2, 2, 1):  # not in one order: features, LoRA and decoding alternate
        assert networks[k]() == GPU
        assert [network.place == GPU for network in networks] == [i == k for i in range(3)]


@pytest.mark.parametrize("source", [IMAGE, VIDEO])
def test_nothing_else_changes(source):
    load, size, work = (
        (load_image_model, 32, lambda m, *x: interpolate(m, *x, **quick, inversion_steps=2, lora=False))
        if source == IMAGE
        else (load_video_model, 64, lambda m, *x: inbetween(m, *x, **quick, recurrence=0, method="no-finetune"))
    )
    quick = {"frames": 2, "steps": 4, "progress": False}
    plain, model = load(source, device="cpu"), load(source, device="cpu", offload=True)
    assert plain.offload_device is None and model.offload_device == model.device == plain.device
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).split(1)
    assert torch.equal(work(model, *images).frames, work(plain, *images).frames)


def test_networks_that_move_are_not_tuned():
    model = load_video_model(VIDEO, device="cpu", offload=True)
    with pytest.raises(ValueError, match="offload=True cannot be tuned.*load it without"):
        fit_backward_motion(model, [torch.rand(3, 3, 64, 64)], steps=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_only_one_is_on_the_gpu():
    model = load_image_model(IMAGE, device="cuda", offload=True)
    model.decode(model.encode(torch.rand(1, 3, 32, 32)))
    networks = (model.unet, model.vae, model.text_encoder)
    assert [next(network.parameters()).is_cuda for network in networks] == [False, True, False]
    model.embed_text("")
    assert [next(network.parameters()).is_cuda for network in networks] == [False, False, True]
