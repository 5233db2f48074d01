"""What each part of DreamMover adds to the middle frame, and where its attention looks."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.studies import study
from experiments.studies.fusion import Flows, own_flow, own_inversion
from interp_lib.bench.datasets.world import world_pairs
from interp_lib.bench.metrics import moving_pixels, psnr
from interp_lib.dreammover.attention import replace_self_attention
from interp_lib.dreammover.classical import block_flow
from interp_lib.dreammover.ddim import Inversion
from interp_lib.dreammover.flow import backwarp
from interp_lib.dreammover.fusion import fuse_direct, fuse_two_level
from interp_lib.dreammover.lora import fit_lora
from interp_lib.dreammover.sampler import denoise_between
from interp_lib.models.image_model import ImageModel, up_block_self_attentions
from interp_lib.types import Pair
from interp_lib.world.scene import sample_scene
from interp_lib.world.truth import true_flow

Frames = dict[str, Tensor]
T, PAPER = 14, 30  # noise steps of the fusion: the embedded model's and the paper's
PATCH = 8  # pixels
NONE, FULL = {"steps": 0, "rank": 0}, {"steps": 80, "rank": 16}
ITEMS = [{"seed": s, **lora} for s in range(8) for lora in (NONE, FULL)]
ITEMS += [{"seed": s, "steps": n, "rank": r} for s in range(3) for n, r in ((10, 16), (40, 16), (80, 4))]


@study("image", ITEMS)
def ablations(model: ImageModel, *, seed: int, steps: int, rank: int) -> list[dict]:
    """What the middle frame loses without each part of DreamMover: Table 3's, layers, LoRA, and two controls.

    The first eight held-out world pairs, the frame half-way, fusion at T = inversion_steps, at the model's own size;
    features from `feature_block`. seed: the pair a LoRA of `steps` steps and `rank` was fitted to (steps = 0: none);
    pair: the one that was interpolated. variant: "full" or what was changed; "up-block k" replaces attention in that
    block alone, "other K/V" takes keys and values from the next pair's endpoints, "other LoRA" is the next pair under
    this pair's LoRA, "flow without LoRA" fuses with the LoRA by the flow that the network had found without it.
    inversion_steps = 0 marks the references, once a pair: the cross-dissolve, the true frame, and the true frame
    through the autoencoder. psnr, psnr_actor: against the true frame in dB, on moving pixels and on the true frame's
    actor pixels. lost: root mean square colour distance, in [0,1], from the 8 px patches of the endpoints' actors to
    the nearest patch of the frame. Rows of variant "map", one a layer with `tokens` a side, say where an actor pixel of
    the starting frame looks: `near` is the share of its attention within a tenth of the side of the same point of both
    images, `elsewhere` within as much of another actor point, `even` what even attention would give; on_actor and actor
    are the actors' shares of it and of the area. we_mid: mean squared difference of the frame and the endpoints warped
    to it by the true flow, where both are visible.
    """
    pair, other = (world_pairs(1, first=s, size=model.native_size, between=1)[0] for s in (seed, seed + 1))
    lora, images = {"steps": steps, "rank": rank}, torch.cat([pair.image0, pair.image1])
    rows = _references(model, pair) if lora == NONE else []
    without = own_flow(model, own_inversion(model, pair, T)) if lora not in (NONE, FULL) else None
    with fit_lora(model, images, **lora, progress=False) if steps else nullcontext():
        for inversion_steps in (T,) if without else (T, PAPER):
            inversion = own_inversion(model, pair, inversion_steps)
            flows = own_flow(model, inversion)
            start = _start(inversion, flows)
            frames = {"full": _denoise(model, inversion, start)}
            if without:
                frames["flow without LoRA"] = _denoise(model, inversion, _start(inversion, without))
            else:
                frames["attention=False"] = _denoise(model, inversion, start, blocks=())
            if lora == NONE:
                frames |= _attention_variants(model, inversion, own_inversion(model, other, inversion_steps), start)
                about = {"pair": seed, "inversion_steps": inversion_steps, "variant": "map"}
                rows += [about | row for row in _looks(model, pair, inversion, start)]
            if lora == FULL and inversion_steps == T:
                frames |= _start_variants(model, pair, inversion, flows)
                theirs = own_inversion(model, other, T)
                latents = _denoise(model, theirs, _start(theirs, own_flow(model, theirs)))
                rows.append(_row(other, T, "other LoRA", model.decode(latents)))
            rows += [_row(pair, inversion_steps, name, model.decode(z)) for name, z in frames.items()]
    return rows


def _denoise(model: ImageModel, inversion: Inversion, middle: Tensor, **options) -> Tensor:
    """z_0 of middle frames [n,C,h,w] that attend to the endpoints of the inversion."""
    *_, latents = denoise_between(model, inversion, middle, **options)
    return latents


def _start(inversion: Inversion, flows: Flows) -> Tensor:
    """z_T half-way, Eq. 8."""
    return fuse_two_level(*inversion.clean.split(1), *inversion.noise.split(1), *flows, 0.5, inversion.alpha_bar)[0]


def _start_variants(model: ImageModel, pair: Pair, inversion: Inversion, flows: Flows) -> Frames:
    """Another flow, and one level instead of two: other starts, which share one run."""
    ways = ((pair.image0, pair.image1), (pair.image1, pair.image0))
    classical = [block_flow(a, b, factor=model.vae_factor).to(inversion.clean) for a, b in ways]
    starts = {
        "flow=classical": _start(inversion, classical),
        "flow=zero": _start(inversion, [torch.zeros_like(flow) for flow in flows]),
        "two_level=False": fuse_direct(*inversion.latents[-1].split(1), *flows, 0.5),
    }
    return dict(zip(starts, _denoise(model, inversion, torch.cat(list(starts.values()))).split(1), strict=True))


def _attention_variants(model: ImageModel, inversion: Inversion, foreign: Inversion, start: Tensor) -> Frames:
    """The wrong endpoints, and, at the paper's T, one up-block at a time."""
    frames = {"other K/V": _denoise(model, foreign, start)}
    if len(inversion.timesteps) == PAPER:
        blocks = [b for b in range(len(model.unet.up_blocks)) if up_block_self_attentions(model.unet, b)]
        frames |= {f"up-block {b}": _denoise(model, inversion, start, blocks=[b]) for b in blocks}
    return frames


@torch.no_grad()
def _looks(model: ImageModel, pair: Pair, inversion: Inversion, start: Tensor) -> list[dict]:
    """Where the actor's queries look in every layer, in the first call of the denoising."""
    t, context, rows = int(inversion.timesteps[-1]), model.embed_text(""), []
    size, pixel = pair.image0.shape[-1], (pair.actor0 & pair.visible01)[0, 0].nonzero()  # row, column
    moved = pair.flow01[0, :, pixel[:, 0], pixel[:, 1]].T.flip(1)
    actors = torch.cat([pair.actor0, pair.actor1], 1).float()
    with replace_self_attention(model.unet) as control:
        with control.storing():
            model.predict_noise(inversion.latents[-1], t, context)
        for number, layer in enumerate(control.names):
            tokens = control.stored[layer][0].shape[2]
            side = round(tokens**0.5)
            with control.recording(layer, range(tokens)) as maps, control.reusing():
                model.predict_noise(start, t, context)
            first, middle, last = (
                ((pixel + 0.5 + d * moved) * side / size).long().clamp(0, side - 1) for d in (0, 0.5, 1)
            )
            weight = maps[0][0].mean(0).cpu()[middle[:, 0] * side + middle[:, 1]]  # [queries, 2, tokens]
            actor = F.interpolate(actors, (side, side), mode="area")[0].flatten(1)
            targets = torch.stack([_disc(first, side), _disc(last, side)], 1)
            others = targets.roll(len(targets) // 2, 0)
            row = {"layer": number, "block": int(layer.split(".")[1]), "tokens": side}
            row |= {"even": float(targets.mean()), "actor": float(actor.mean())}
            for name, places in (("near", targets), ("elsewhere", others), ("on_actor", actor)):
                row[name] = float((weight * places).sum((1, 2)).mean())
            rows.append(row)
    return rows


def _disc(centres: Tensor, side: int) -> Tensor:
    """[n, side*side]: 1 within a tenth of the side around each (row, column)."""
    tokens = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    return (torch.cdist(centres.float(), tokens) <= 0.1 * side).float()


def _references(model: ImageModel, pair: Pair) -> list[dict]:
    truth, dissolve = pair.frames[1:2], (pair.image0 + pair.image1) / 2
    frames = {"truth": truth, "autoencoder": model.decode(model.encode(truth)), "dissolve": dissolve}
    rows = [_row(pair, 0, name, frame) for name, frame in frames.items()]
    rows[0] |= {"psnr": None, "psnr_actor": None}  # the truth's are infinite, which JSON cannot say
    return rows


def _row(pair: Pair, inversion_steps: int, variant: str, frame: Tensor) -> dict:
    seed, frame, truth, error = int(pair.name.split(":")[1]), frame.cpu(), pair.frames[1:2], []
    views = [true_flow(sample_scene(seed), 0.5, time, size=truth.shape[-2:]) for time in (0, 1)]
    for (flow, visible, _), end in zip(views, (pair.image0, pair.image1), strict=True):
        visible = visible & (backwarp(torch.ones_like(truth[:, :1]), flow) > 0.999)  # not across the border
        error.append(float((backwarp(end, flow) - frame).square().mean(1, keepdim=True)[visible].mean()))
    return {
        "pair": seed,
        "inversion_steps": inversion_steps,
        "variant": variant,
        "psnr": float(psnr(frame, truth, moving_pixels(pair, truth))),
        "psnr_actor": float(psnr(frame, truth, views[0][2] >= 0)),
        "lost": lost_patches(frame, pair),
        "we_mid": sum(error) / 2,
    }


def lost_patches(frame: Tensor, pair: Pair) -> float:
    """Completeness of the frame: how far, in colour, the endpoints' actor patches are from their nearest patch in it.

    Source: ours, after the bidirectional similarity of Simakov et al. 2008 (its completeness term). 0 when every patch
    is there; root mean square over a patch's values, mean over patches. A patch counts when most of it is actor.
    """
    here, distances = F.unfold(frame, PATCH)[0].T, []
    for image, actor in ((pair.image0, pair.actor0), (pair.image1, pair.actor1)):
        patches = F.unfold(image, PATCH, stride=PATCH // 2)[0].T
        chosen = F.unfold(actor.float(), PATCH, stride=PATCH // 2)[0].mean(0) > 0.5
        distances.append(torch.cdist(patches[chosen], here).amin(1))
    return float(torch.cat(distances).mean() / here.shape[1] ** 0.5)
