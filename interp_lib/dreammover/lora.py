"""One low-rank adapter for the image pair (paper section 3.4 and 4.1), through peft."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_lib.checks import check_int, check_number
from interp_lib.dreammover.ddim import image_batch
from interp_lib.dreammover.lora_files import read_lora, write_lora
from interp_lib.dreammover.lora_training import gradients_in_order, train_factors
from interp_lib.memory import memory_advice
from interp_lib.models.image_model import ImageModel, check_model

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # of self- and cross-attention


@dataclass(eq=False)
class Lora(AbstractContextManager):
    """A LoRA on a model's U-Net; several can be there at once and add up. `with lora:` removes it at the end.

    strength: what `scale` set, 1 at first. losses: of the training steps. notes: what was left out of its file.
    """

    model: ImageModel
    name: str
    notes: list[str] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    strength: float = 1.0

    def scale(self, strength: float) -> "Lora":
        """Multiply the adapter's contribution by `strength` (0 switches it off); return the LoRA itself."""
        strength = check_number("strength", strength)
        for layer in self.layers():
            layer.set_scale(self.name, strength)
        self.strength = strength
        return self

    def save(self, path: str | os.PathLike) -> Path:
        """Write the weights and alpha as safetensors; `load_lora` reads them, diffusers' pipelines too."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"{path} is no name for a LoRA: weights are saved as safetensors, so end it that way.")
        write_lora(path, self.state_dict(), self.model.unet.peft_config[self.name])
        return path

    def state_dict(self) -> dict[str, Tensor]:
        """Return the factors of every layer: `<layer>.lora_A.weight` [rank,in], `<layer>.lora_B.weight` [out,rank]."""
        from peft import get_peft_model_state_dict

        self.layers()
        state = get_peft_model_state_dict(self.model.unet, adapter_name=self.name)
        return {k: v.detach().contiguous() for k, v in state.items()}

    def remove(self) -> None:
        """Remove the adapter; the U-Net then computes what it computed before, bit for bit."""
        unet = self.model.unet
        if self.name not in getattr(unet, "peft_config", {}):
            return
        if len(unet.peft_config) == 1:
            unet.unload_lora()
            return
        others = [name for name in _active(unet) if name != self.name]
        unet.delete_adapters(self.name)
        _activate(unet, others)

    def layers(self) -> list[Any]:
        """Return the peft layers it belongs to; ValueError when it has been removed."""
        layers = [layer for layer in tuner_layers(self.model.unet) if self.name in layer.scaling]
        if not layers:
            raise ValueError("This LoRA has been removed from its model: load or fit it again.")
        return layers

    def __exit__(self, *exc: object) -> None:
        self.remove()


@memory_advice("use smaller images or a smaller rank, or load the model in float16")
@torch.inference_mode(False)  # nothing can be fitted in it, and a caller may well be in it
def fit_lora(
    model: ImageModel,
    images: Tensor | Sequence[Tensor],
    *,
    prompt: str = "",
    rank: int = 16,
    steps: int = 80,
    lr: float = 5e-4,
    seed: int | torch.Generator = 0,
    progress: bool = True,
) -> Lora:
    """Fit one LoRA to images [N,3,H,W] in [0,1], all of them in every batch, and leave it active on the U-Net.

    Source: section 3.4 and 4.1: rank 16, AdamW, 80 steps at 5e-4. On to_q, to_k, to_v and to_out of self- and
    cross-attention, alpha = rank; random timesteps, mean squared error on eps (on v for a v model). Other LoRAs on the
    model are off during the fit. seed: a number, or a generator that gives one. From 48x48 latent pixels on,
    activations are computed twice instead of stored: less memory, the same weights.
    The same seed gives the same weights, bit for bit on the CPU, and on CUDA up to 64x64 latent pixels.
    Raises ValueError for numbers out of range, a prompt that is no text, and when the loss stops being finite (the
    model is then as before).
    """
    check_model(model)
    rank, steps = check_int("rank", rank, 1), check_int("steps", steps, 1)
    lr, seed = check_number("lr", lr, 0, above=True), check_seed(seed)
    if isinstance(seed, torch.Generator):
        seed = int(torch.randint(2**63 - 1, (), generator=seed, device=seed.device))
    with model.lock:
        context = model.embed_text(prompt)
        z = model.encode(image_batch(images))
        lora = _attach(model, {"r": rank, "lora_alpha": rank, "target_modules": TARGETS}, seed)
        factors = [p for name, p in model.unet.named_parameters() if f".{lora.name}." in name]
        try:
            with active_lora(model, lora), torch.enable_grad(), gradients_in_order(model.unet, z):
                lora.losses = train_factors(model, factors, z, context, steps, lr, seed, progress)
        except BaseException:  # an interrupted fit leaves nothing behind either
            lora.remove()
            raise
    return lora


@torch.inference_mode(False)
def load_lora(model: ImageModel, path: str | os.PathLike) -> Lora:
    """Put a LoRA file on the model's U-Net, active at strength 1, which is alpha / rank as diffusers computes it.

    Formats, what is left out of them (the handle's notes) and errors: as in `read_lora`.
    """
    from peft import set_peft_model_state_dict

    check_model(model)
    with model.lock:
        state, config, notes = read_lora(path, model.unet)
        lora = _attach(model, config, seed=0)
        lora.notes = notes
        set_peft_model_state_dict(model.unet, state, adapter_name=lora.name)
    return lora


def _attach(model: ImageModel, config: dict[str, Any], seed: int) -> Lora:
    """Add a new LoRA to those already there: A random by the seed, B zero, so that nothing changes yet."""
    from peft import LoraConfig

    unet = model.unet
    taken, active = getattr(unet, "peft_config", {}), _active(unet)
    name = next(f"pair{k}" for k in range(len(taken) + 1) if f"pair{k}" not in taken)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        torch.manual_seed(seed)  # peft draws A from the global generator
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # more than one is meant
        unet.add_adapter(LoraConfig(**config), adapter_name=name)
    _activate(unet, [*active, name])
    unet.eval()
    return Lora(model, name)


@contextmanager
def active_lora(model: ImageModel, lora: Lora | None) -> Iterator[None]:
    """Let only this LoRA act on the model within the block (None: none does)."""
    before = _active(model.unet)
    try:
        _activate(model.unet, [] if lora is None else [lora.name])
        yield
    finally:
        _activate(model.unet, before)


@contextmanager
def scaled_lora(lora: Lora | None, factor: float) -> Iterator[None]:
    """Let the LoRA act `factor` times as strongly as its owner set it; on a GPU as a part of the weights."""
    if lora is None:
        yield
        return
    strength = lora.strength
    try:
        lora.scale(strength * factor)
        with fused_lora(lora.model) if lora.model.device.type == "cuda" else nullcontext():
            yield
    finally:
        lora.scale(strength)


@contextmanager
def fused_lora(model: ImageModel) -> Iterator[int]:
    """Add the active LoRAs to the weights, W + B A, where they cost nothing; yield the number of layers."""
    layers = [layer for layer in tuner_layers(model.unet) if layer.active_adapters]
    before = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for layer in layers:
            layer.merge(safe_merge=True)  # into a copy
        yield len(layers)
    finally:
        for layer, weight in zip(layers, before, strict=True):
            layer.merged_adapters.clear()
            base = layer.get_base_layer().weight
            base.data = weight.to(base.device)  # with offload=True the U-Net has moved in the meantime


def check_seed(seed: int | torch.Generator) -> int | torch.Generator:
    """Return a generator as it is, a number as an int; ValueError for another type or a number that torch refuses."""
    return seed if isinstance(seed, torch.Generator) else check_int("seed", seed, 0, 2**63 - 1)


def tuner_layers(unet: Any) -> list[Any]:
    """Return every layer that carries an adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]


def _active(unet: Any) -> list[str]:
    """Return the names of the active adapters, in the order in which they are added up."""
    return list(dict.fromkeys(name for layer in tuner_layers(unet) for name in layer.active_adapters))


def _activate(unet: Any, names: list[str]) -> None:
    for layer in tuner_layers(unet):
        layer.set_adapter(names, inference_mode=True)
