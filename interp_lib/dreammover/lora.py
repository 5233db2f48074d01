"""One low-rank adapter for the image pair (paper section 3.4 and 4.1), through peft."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.dreammover.ddim import check_int, image_batch

if TYPE_CHECKING:
    from interp_lib.models.image_model import ImageModel

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # of self- and cross-attention
_PREFIX = "unet."  # as diffusers saves them, so that its pipelines read the file too


class Lora:
    """A LoRA on a model's U-Net; several can sit there at once and add up. `with lora:` removes it at the end.

    rank; strength: what `scale` set, 1 at first; losses: of the training steps, empty for a loaded one.
    """

    def __init__(self, model: ImageModel, name: str, rank: int):
        self.model, self.name, self.rank = model, name, rank
        self.strength, self.losses = 1.0, []

    def scale(self, strength: float) -> Lora:
        """Multiply the adapter's contribution by `strength` (0 switches it off); returns itself."""
        if not math.isfinite(strength):
            raise ValueError(f"strength={strength} is not usable: give a finite number, 1 for the LoRA as trained.")
        for layer in self.layers():
            layer.set_scale(self.name, float(strength))
        self.strength = float(strength)
        return self

    def save(self, path: str | os.PathLike) -> Path:
        """Write the weights as safetensors, whole or not at all; `load_lora` reads them, diffusers' pipelines too."""
        from safetensors.torch import save_file

        path = Path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"{path} is no name for a LoRA: weights are saved as safetensors, so end it that way.")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file({k: v.cpu() for k, v in self.state_dict().items()}, temporary, {"format": "pt"})
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def state_dict(self) -> dict[str, Tensor]:
        """The two factors of every layer, `unet.<layer>.lora_A.weight` [rank, in] and `lora_B.weight` [out, rank]."""
        from peft import get_peft_model_state_dict

        self.layers()
        state = get_peft_model_state_dict(self.model.unet, adapter_name=self.name)
        return {_PREFIX + k: v.detach().contiguous() for k, v in state.items()}

    def remove(self) -> None:
        """Take the adapter off; the U-Net then computes what it computed before, bit for bit."""
        unet = self.model.unet
        if self.name not in getattr(unet, "peft_config", {}):
            return
        if len(unet.peft_config) == 1:
            unet.unload_lora()
            return
        active = [[n for n in layer.active_adapters if n != self.name] for layer in tuner_layers(unet)]
        unet.delete_adapters(self.name)
        for layer, names in zip(tuner_layers(unet), active, strict=True):
            layer.set_adapter(names, inference_mode=True)

    def layers(self) -> list[Any]:
        """The peft layers it sits on; ValueError when it has been removed."""
        layers = [layer for layer in tuner_layers(self.model.unet) if self.name in layer.scaling]
        if not layers:
            raise ValueError("This LoRA has been removed from its model: load or fit it again.")
        return layers

    def parameters(self) -> list[torch.nn.Parameter]:
        return [p for layer in self.layers() for m in (layer.lora_A, layer.lora_B) for p in m[self.name].parameters()]

    def __enter__(self) -> Lora:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def fit_lora(
    model: ImageModel,
    images: Tensor | Sequence[Tensor],
    *,
    prompt: str = "",
    rank: int = 16,
    steps: int = 80,
    lr: float = 5e-4,
    seed: int = 0,
    weight_decay: float = 1e-2,
    progress: bool = True,
) -> Lora:
    """Fit one LoRA to images [N,3,H,W] in [0,1], all of them in every batch, and leave it active on the U-Net.

    Source: section 3.4 and 4.1: rank 16, AdamW, 80 steps at 5e-4. On to_q, to_k, to_v and to_out of self- and
    cross-attention, alpha = rank; random timesteps, mean squared error on eps (on v for a v model); the images are
    encoded once. Other LoRAs on the model are off during the fit. The same seed gives the same weights.
    Raises ValueError for numbers out of range, and when the loss stops being finite (the model is then as before).
    """
    check_int("rank", rank, 1)
    check_int("steps", steps, 1)
    check_int("seed", seed, 0)
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"lr={lr} is out of range: give a positive learning rate, 5e-4 in the paper.")
    latents = model.encode(image_batch(images))
    context = model.embed_text(prompt)
    lora = _attach(model, rank, seed)
    try:
        with only_lora(model, lora), torch.enable_grad():
            _train(lora, latents, context, steps, lr, weight_decay, seed, progress)
    except BaseException:  # an interrupted fit leaves nothing behind either
        lora.remove()
        raise
    return lora


def load_lora(model: ImageModel, path: str | os.PathLike) -> Lora:
    """Put a saved LoRA on the model's U-Net, active at strength 1.

    Raises FileNotFoundError for a missing file, ValueError for one that is no safetensors file, that belongs to another
    model, or that has non-finite weights.
    """
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The LoRA {path} does not exist: save one with fit_lora(...).save(path).")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no safetensors file ({error}): weights load from safetensors only.") from None
    ranks = {v.shape[0] for k, v in state.items() if k.endswith("lora_A.weight")}
    if len(ranks) != 1 or not all(bool(torch.isfinite(v).all()) for v in state.values()):
        raise ValueError(
            f"{path} holds no LoRA of one rank with finite weights: save one with fit_lora(...).save(path)."
        )
    lora = _attach(model, ranks.pop(), seed=0)
    expected = {k: v.shape for k, v in lora.state_dict().items()}
    if expected != {k: v.shape for k, v in state.items()}:
        lora.remove()
        raise ValueError(f"{path} was fitted to another model: its layers are not those of {model.name or 'this one'}.")
    set_peft_model_state_dict(
        model.unet, {k.removeprefix(_PREFIX): v for k, v in state.items()}, adapter_name=lora.name
    )
    return lora


@contextmanager
def only_lora(model: ImageModel, lora: Lora | None) -> Iterator[None]:
    """While it lasts only this LoRA acts on the model (None: none does); then those that were active before."""
    layers = tuner_layers(model.unet)
    before = [list(layer.active_adapters) for layer in layers]
    try:
        for layer in layers:
            layer.set_adapter([] if lora is None else [lora.name], inference_mode=True)
        yield
    finally:
        for layer, names in zip(layers, before, strict=True):
            layer.set_adapter(names, inference_mode=True)


def tuner_layers(unet: Any) -> list[Any]:
    """Every layer that carries an adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]


def _attach(model: ImageModel, rank: int, seed: int) -> Lora:
    """A new LoRA beside those already there: A random by the seed, B zero, so that nothing changes yet."""
    from peft import LoraConfig

    unet = model.unet
    taken = getattr(unet, "peft_config", {})
    name = next(f"pair{k}" for k in range(len(taken) + 1) if f"pair{k}" not in taken)
    active = sorted({n for layer in tuner_layers(unet) for n in layer.active_adapters})
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        torch.manual_seed(seed)  # peft draws A from the global generator
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # more than one is meant
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)), adapter_name=name)
    for layer in tuner_layers(unet):
        layer.set_adapter([*active, name], inference_mode=True)
    unet.eval()
    return Lora(model, name, rank)


def _train(
    lora: Lora, z: Tensor, context: Tensor, steps: int, lr: float, weight_decay: float, seed: int, progress: bool
) -> None:
    model, parameters = lora.model, lora.parameters()
    for p in parameters:
        p.data = p.data.float()  # AdamW's small steps are lost in half precision
        p.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    scaler = torch.amp.GradScaler(model.device.type, enabled=model.dtype == torch.float16)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same draws on every device
    alphas = model.scheduler.alphas_cumprod
    for step in tqdm(range(steps), desc="LoRA", disable=not progress):
        t = torch.randint(0, len(alphas), (len(z),), generator=generator)
        noise = torch.randn(z.shape, generator=generator).to(z)
        a = alphas[t].to(z)[:, None, None, None]
        noisy = a.sqrt() * z + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * z if model.predicts_v else noise
        loss = F.mse_loss(model.run_unet(noisy, t, context).float(), target)
        lora.losses.append(float(loss.detach()))
        if not math.isfinite(lora.losses[-1]):
            raise ValueError(f"The LoRA's loss is not finite at step {step + 1}: fit it with a smaller lr than {lr}.")
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    for p in parameters:
        p.requires_grad_(False)
        p.data = p.data.to(model.dtype)
