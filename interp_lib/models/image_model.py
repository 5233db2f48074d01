"""One image diffusion model: images to latents and back, text to context, and the noise prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interp_lib.checks import check_int
from interp_lib.images import as_images
from interp_lib.models.base import Model
from interp_lib.progress import track

VAE_CHUNK, VAE_SIDE = 6, 512  # images per VAE call, as the released DreamMover code has it, and their size


@dataclass(frozen=True)
class TextContext:
    """What the U-Net is conditioned on for N prompts: from `embed_text`, for `predict_noise`.

    hidden: [N,L,D], a vector per token. pooled: [N,P], a vector per prompt, in SDXL alone.
    """

    hidden: Tensor
    pooled: Tensor | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class ImageModel(Model):
    """Stable Diffusion 1.5, 2.1 or XL, or a model like them; text_encoder_2, tokenizer_2: SDXL's second ones."""

    text_encoder: Any
    tokenizer: Any
    text_encoder_2: Any = None
    tokenizer_2: Any = None

    def __post_init__(self):
        super().__post_init__()
        self.multiple = self.vae_factor  # image sides are multiples of this
        # some tokenizers name no limit, and then say 10^30
        limits = self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings
        self.prompt_length: int = min(limits)
        self.predicts_v: bool = self.scheduler.config.prediction_type == "v_prediction"
        self._alpha_bars: list[float] = self.scheduler.alphas_cumprod.tolist()  # read on the CPU, once

    def __repr__(self) -> str:
        size, channels = self.native_size, self.latent_channels
        return f"ImageModel({self.name!r}, {size} px, {channels} latent channels, {self.device}, {self.dtype})"

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images [N,3,H,W] in [0,1] to latents [N,C,H/f,W/f] float32, f = `.vae_factor`: the scaled VAE mean.

        Raises ValueError for a size that is no multiple of `.multiple`.
        """
        images = as_images(images)
        height, width = images.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"images of {width}x{height} pixels cannot be encoded: both sides must be multiples of "
                f"{self.multiple}, so bring them there with fit_images(images, multiple={self.multiple})."
            )
        shift, scale = self._latent_scale
        return (self.encode_pixels(images * 2 - 1, vae_chunk(height, width)) - shift) * scale

    @torch.no_grad()
    def decode(self, latents: Tensor, *, out: Tensor | None = None, progress: bool = False) -> Tensor:
        """Decode latents [N,C,h,w] to images [N,3,f*h,f*w] float32 in [0,1], f = `.vae_factor`, in chunks.

        out: a tensor of that shape, on any device, that is filled and returned: a GPU need not store all images.
        """
        shift, scale = self._latent_scale
        sides = [side * self.vae_factor for side in latents.shape[-2:]]
        if out is None:
            out = torch.empty(len(latents), 3, *sides, device=self.device)
        chunk = vae_chunk(*sides)
        starts = range(0, len(latents), chunk)
        for start in track(starts, "decoding", len(starts), shown=progress):
            z = latents[start : start + chunk].to(self.device).float()
            pictures = self.vae.decode((z / scale + shift).to(self.vae.dtype)).sample
            out[start : start + len(z)] = (pictures.float() / 2 + 0.5).clamp(0, 1)
        return out

    @torch.no_grad()
    def embed_text(self, prompts: str | Sequence[str]) -> TextContext:
        """Embed N prompts, padded to `.prompt_length` tokens; ValueError for what is no text or too long a one.

        Source: Stable Diffusion takes the last layer of its text encoder; SDXL the last but one of both, next to each
        other, and the projected vector of the second.
        """
        prompts, length = [prompts] if isinstance(prompts, str) else prompts, self.prompt_length
        if not isinstance(prompts, Sequence) or not prompts or not all(isinstance(p, str) for p in prompts):
            raise ValueError(f"prompt={prompts!r} is no text: give a string, '' for none, or a list of strings.")
        readers = [(self.tokenizer, self.text_encoder)]
        if self.text_encoder_2 is not None:
            readers.append((self.tokenizer_2, self.text_encoder_2))
        for prompt in prompts:
            if any(0xD800 <= ord(letter) < 0xE000 for letter in prompt):  # half a letter, which no tokenizer takes
                raise ValueError(f"prompt={prompt!r} is no valid text: give Unicode without lone surrogates.")
            tokens = max(len(tokenizer(prompt).input_ids) for tokenizer, _ in readers)
            if tokens > length:
                raise ValueError(f"The prompt {prompt[:40]!r}... has {tokens} tokens: at most {length}, so shorten it.")
        outputs = []
        for tokenizer, encoder in readers:
            ids = tokenizer(list(prompts), padding="max_length", max_length=length, return_tensors="pt").input_ids
            outputs.append(encoder(ids.to(self.device), output_hidden_states=len(readers) > 1))
        if len(outputs) == 1:
            return TextContext(outputs[0].last_hidden_state)
        return TextContext(torch.cat([out.hidden_states[-2] for out in outputs], -1), outputs[-1].text_embeds)

    def predict_noise(self, latents: Tensor, timestep: int, context: TextContext) -> Tensor:
        """Predict eps(z_t, t) [N,C,h,w] in the latents' dtype: one counted call of the U-Net, whose v becomes eps.

        context: of N prompts, or of one for all.
        """
        self.unet_calls += 1
        out = self.run_unet(latents, timestep, context).to(latents.dtype)
        if self.predicts_v:
            a = self.alpha_bar(timestep)
            out = a**0.5 * out + (1 - a) ** 0.5 * latents
        return out

    def run_unet(self, latents: Tensor, timestep: int | Tensor, context: TextContext) -> Tensor:
        """Run the U-Net uncounted; return its output, eps or v, in its own dtype (training, features).

        SDXL is also conditioned on the image's size: as in diffusers, that of the latents, uncropped.
        """
        device, dtype, count = self.device, self.dtype, len(latents)
        if not isinstance(timestep, Tensor):  # filled on the device: a copy from the CPU would make it wait
            timestep = torch.full((), timestep, device=device)
        added = None
        if context.pooled is not None:
            sizes = torch.zeros(count, 6, device=device, dtype=dtype)  # (h, w) original, cropped at, wanted
            sizes[:, ::4], sizes[:, 1::4] = (side * self.vae_factor for side in latents.shape[-2:])
            added = {"text_embeds": context.pooled.to(device, dtype).expand(count, -1), "time_ids": sizes}
        hidden = context.hidden.to(device, dtype).expand(count, -1, -1)
        latents, timestep = latents.to(device, dtype), timestep.to(device)
        return self.unet(latents, timestep, encoder_hidden_states=hidden, added_cond_kwargs=added).sample

    def alpha_bar(self, timestep: int) -> float:
        """Return the cumulative product of alphas at a timestep; that of t=0 for all below, clean latents included."""
        return self._alpha_bars[max(int(timestep), 0)]

    @property
    def _latent_scale(self) -> tuple[float, float]:
        config = self.vae.config
        return config.get("shift_factor", None) or 0.0, config.get("scaling_factor", None) or 1.0


def randomly_initialised(model: ImageModel, seed: int = 0) -> ImageModel:
    """Return the same model with a U-Net of random weights: the control that shows what training contributed."""
    check_model(model)
    seed = check_int("seed", seed, 0, 2**63 - 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = type(model.unet).from_config(model.unet.config)
    # Module's own `to`: diffusers' would warn that some modules of SD might be meant to stay in float32.
    unet = torch.nn.Module.to(unet, model.device, model.dtype).eval().requires_grad_(False)
    return replace(model, unet=unet, name="untrained", notes=[], settings=dict(model.settings))


def vae_chunk(height: int, width: int) -> int:
    """Return how many images of this size a VAE call takes: at most six, and no more pixels than six of 512x512."""
    return max(1, min(VAE_CHUNK, VAE_CHUNK * VAE_SIDE**2 // (height * width)))


def check_model(model: object) -> None:
    """Raise ValueError unless it is an ImageModel (a name, say)."""
    if not isinstance(model, ImageModel):
        raise ValueError(f"model is a {type(model).__name__}: give load_image_model(...), 'embedded' or another.")


def up_block_self_attentions(unet: Any, block: int) -> list[tuple[str, Any]]:
    """List (name, attention) of every self-attention in `unet.up_blocks[block]`, in execution order."""
    from diffusers.models.attention import BasicTransformerBlock

    modules = unet.up_blocks[block].named_modules()
    blocks = [(name, module) for name, module in modules if isinstance(module, BasicTransformerBlock)]
    return [(f"up_blocks.{block}.{name}.attn1", b.attn1) for name, b in blocks if not b.only_cross_attention]
