"""What image and video models share: their networks, and what a run has to know about them."""

from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import torch


@dataclass(kw_only=True, eq=False, repr=False)
class Model:
    """Networks and scheduler of diffusers' classes.

    settings: the model's own recommendations, of its settings.json. offload_device: where the networks take turns, with
    offload=True. lock: one run at a time uses the networks. unet_calls counts the predictions, one batched call counted
    once. Latents are float32 outside the networks, whatever their dtype: an inversion of many steps must not round each
    of them to half precision.
    """

    unet: Any
    vae: Any
    scheduler: Any
    name: str = ""
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    offload_device: torch.device | None = None
    unet_calls: int = field(default=0, init=False)
    lock: Any = field(default_factory=RLock, init=False)

    def __post_init__(self):
        config = self.vae.config
        widths = config.get("block_out_channels") or config.encoder_block_out_channels  # the latter: tiny VAE
        self.vae_factor: int = 2 ** (len(widths) - 1)
        self.latent_channels: int = config.latent_channels
        self.native_size: int = self.unet.config.sample_size * self.vae_factor

    @property
    def device(self) -> torch.device:
        return self.offload_device or next(self.unet.parameters()).device  # unet.device: slow

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    def encode_pixels(self, pixels: torch.Tensor, chunk: int) -> torch.Tensor:
        """Encode images [N,3,H,W] in [-1,1], `chunk` at a time, to the unscaled modes [N,C,h,w] float32."""
        outputs = (self.vae.encode(x.to(self.device, self.vae.dtype)) for x in pixels.split(chunk))
        modes = [out.latent_dist.mode() if hasattr(out, "latent_dist") else out.latents for out in outputs]
        return torch.cat([mode.float() for mode in modes])
