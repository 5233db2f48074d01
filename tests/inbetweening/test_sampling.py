"""The sampler against plain references: diffusers' own scheduler and pipeline, and two networks with stored maps."""

from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from transformers import CLIPImageProcessor

from experiments.speed.timing import unet_batches
from interp_lib import animate, inbetween, load_video_model, record_temporal_attention, rotate_temporal_attention
from interp_lib.images import to_pil
from interp_lib.inbetweening.sampling import denoised, euler, forward_weights, ramps, schedule, unet_calls, v_target

# Of the standard deviation of the latents, root mean square; ten times that at the worst. The networks are float64
# (`wide`), because this random one multiplies rounding by some hundreds a call; outside of them both sides are float32.
TOLERANCE = 1e-4
GUIDANCE = (1.0, 3.0)


def plain_scheduler(model, steps, i=0):
    """diffusers' scheduler about to take step i."""
    scheduler = EulerDiscreteScheduler.from_config(model.scheduler.config)
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(i)
    return scheduler


def assert_same(ours, expected, tolerance=TOLERANCE):
    error = (ours - expected) / expected.std()
    rms, worst = float(error.square().mean().sqrt()), float(error.abs().max())
    assert rms < tolerance and worst < 10 * tolerance, (rms, worst)


# the formulas


@pytest.mark.parametrize("steps", [1, 5])
def test_denoised_and_euler_are_the_schedulers_step(tiny, steps):
    g = torch.Generator().manual_seed(0)
    plan = schedule(tiny, steps)
    for i, t in enumerate(plain_scheduler(tiny, steps).timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        z, v = sigma * torch.randn(1, 3, 4, 8, 8, generator=g), torch.randn(1, 3, 4, 8, 8, generator=g)
        stepped = plain_scheduler(tiny, steps, i).step(v, t, z)
        clean = denoised(z, v, sigma)
        assert torch.allclose(clean, stepped.pred_original_sample, rtol=1e-5, atol=1e-5)
        assert torch.allclose(euler(z, clean, sigma, below), stepped.prev_sample, rtol=1e-5, atol=1e-5)


def test_v_target_is_the_v_of_the_clean_latents():
    g = torch.Generator().manual_seed(0)
    sigma = torch.tensor([0.002, 0.7, 30.0, 700.0], dtype=torch.float64).view(-1, 1, 1, 1, 1)
    clean, eps = torch.randn(2, 4, 3, 4, 8, 8, generator=g, dtype=torch.float64)
    noisy = clean + sigma * eps
    v = v_target(clean, noisy, sigma)
    assert torch.allclose(denoised(noisy, v, sigma), clean, atol=1e-9)
    assert torch.allclose(v, (eps - sigma * clean) / (sigma**2 + 1).sqrt(), atol=1e-9)  # v = (eps - s x0)/sqrt(s^2+1)
    other = v + torch.randn(v.shape, generator=g, dtype=torch.float64)
    of_v = (other - v).square()
    of_clean = (denoised(noisy, other, sigma) - clean).square()
    assert torch.allclose(of_v, of_clean * (1 + sigma**2) / sigma**2, rtol=1e-6)


def test_schedule_is_the_schedulers_and_leaves_the_models_alone(tiny):
    tiny.scheduler.set_timesteps(3)
    before = tiny.scheduler.sigmas.clone()
    for steps in (1, 2, 25):
        plan, expected = schedule(tiny, steps), plain_scheduler(tiny, steps)
        assert torch.allclose(plan.sigmas, expected.sigmas.float()) and plan.sigmas[-1] == 0
        assert torch.equal(plan.timesteps, expected.timesteps.float()) and len(plan.timesteps) == steps
        assert torch.allclose(plan.timesteps, plan.sigmas[:-1].log() / 4, atol=1e-6)
        assert plan.start == float(expected.init_noise_sigma)
    assert torch.equal(tiny.scheduler.sigmas, before) and tiny.scheduler.step_index is None


def test_ramps_and_weights():
    assert ramps((1, 3), 5, constant=False).flatten().tolist() == [1, 1.5, 2, 2.5, 3]
    assert ramps((1, 3), 5, constant=True).flatten().tolist() == [2] * 5
    assert forward_weights("linear", 5).flatten().tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert forward_weights("average", 3).flatten().tolist() == [0.5] * 3 == forward_weights(0.5, 3).flatten().tolist()
    assert forward_weights(torch.tensor([0.25, 1]), 2).flatten().tolist() == [0.25, 1]


# two networks


def predict(unet, scheduler, z, t, key):
    """(v without the image, v with it) of one network."""
    latent, context = key
    x = scheduler.scale_model_input(z, t)
    image = latent[:, None].repeat(1, z.shape[1], 1, 1, 1)
    out = unet(
        torch.cat([torch.cat([x, torch.zeros_like(image)], 2), torch.cat([x, image], 2)]).to(unet.dtype),
        t.to(unet.dtype),
        encoder_hidden_states=torch.cat([torch.zeros_like(context), context]).to(unet.dtype),
        added_time_ids=torch.tensor([[6.0, 127.0, 0.02]] * 2, dtype=unet.dtype),
    )
    return out.sample.float().chunk(2)


class Plain:
    """What the plain references share: draws in the library's order, the conditioning, diffusers' scheduler."""

    def __init__(self, model, images, *, frames, steps, seed, constant=False):
        self.model, self.steps, self.generator = model, steps, torch.Generator().manual_seed(seed)
        scheduler = plain_scheduler(model, steps)
        self.timesteps, self.sigmas = scheduler.timesteps, scheduler.sigmas
        noise = torch.randn(1, frames, 4, 8, 8, generator=self.generator)
        self.z = noise * scheduler.init_noise_sigma
        on_image = torch.randn(1, 3, 64, 64, generator=self.generator)
        self.keys = [model.condition(image[None], on_image, 0.02) for image in images]
        ramp = torch.linspace(*GUIDANCE, frames)
        self.ramp = (torch.full((frames,), sum(GUIDANCE) / 2) if constant else ramp).view(1, -1, 1, 1, 1)

    def noise(self, i):
        """What brings level i+1 back to level i."""
        spread = (self.sigmas[i] ** 2 - self.sigmas[i + 1] ** 2) ** 0.5
        return spread * torch.randn(self.z.shape, generator=self.generator)

    def guided(self, unet, i, z, key):
        scheduler = plain_scheduler(self.model, self.steps, i)
        without, image = predict(unet, scheduler, z, self.timesteps[i], key)
        return without + self.ramp * (image - without)

    def step(self, i, v, z):
        scheduler = plain_scheduler(self.model, self.steps, i)
        scheduler.scale_model_input(z, self.timesteps[i])  # diffusers warns without it
        return scheduler.step(v, self.timesteps[i], z)


def two_copies(model, deltas):
    forward, backward = deepcopy(model.unet), deepcopy(model.unet)
    for name, delta in deltas.items():
        backward.get_parameter(name).data += delta
    return forward, backward


def two_networks(plain, forward, backward, *, blocks, weights, recurrence):
    """Alg. 2 with the maps stored: blocks rotate (None all, () none)."""
    z = plain.z
    for i in range(plain.steps):
        for repeat in range(1 + recurrence if i < plain.steps // 2 else 1):
            if repeat:
                z = z + plain.noise(i)
            with record_temporal_attention(forward) as maps:
                v_forward = plain.guided(forward, i, z, plain.keys[0])
            with nullcontext() if blocks == () else rotate_temporal_attention(backward, maps, blocks=blocks):
                v_backward = plain.guided(backward, i, z.flip(1), plain.keys[1])
            z = plain.step(i, weights * v_forward + (1 - weights) * v_backward.flip(1), z).prev_sample
    return z


@pytest.fixture(scope="module")
def wide(_tiny, no_rotation):
    """The same model with its networks in float64, and with deltas of every kind."""
    model = load_video_model(_tiny.name, device="cpu", dtype=torch.float64, reverse=None)
    model.reverse, model.no_rotation = _tiny.reverse, no_rotation
    return model


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize(
    "method, steps, recurrence, options",
    [
        ("dual", 4, 2, {}),
        ("dual", 2, 1, {"fuse": "linear"}),
        ("dual", 2, 1, {"preset": "released"}),
        ("no-finetune", 2, 1, {}),
        ("no-rotation", 2, 1, {"fuse": 0.3}),
    ],
)
def test_one_call_is_two_networks_with_stored_maps(wide, keyframes, method, steps, recurrence, options):
    constant = options.get("preset") == "released"
    plain = Plain(wide, keyframes, frames=3, steps=steps, seed=5, constant=constant)
    deltas = {"dual": wide.reverse, "no-rotation": wide.no_rotation, "no-finetune": {}}[method]
    blocks = {"dual": None, "no-rotation": (), "no-finetune": ["up_blocks"]}[method]
    weights = {"linear": torch.tensor([1, 0.5, 0]), 0.3: torch.tensor(0.3)}.get(options.get("fuse"), torch.tensor(0.5))
    weights, networks = weights.view(1, -1, 1, 1, 1), two_copies(wide, deltas)
    expected = two_networks(plain, *networks, blocks=blocks, weights=weights, recurrence=recurrence)
    options = {"method": method, "frames": 3, "steps": steps, "recurrence": recurrence, **options}
    result = inbetween(wide, *keyframes, seed=5, progress=False, **options)
    assert_same(result.latents, expected)


@torch.no_grad()
def test_the_references_tell_the_methods_apart(tiny, keyframes):
    """Without the deltas or with fewer rotating blocks the plain reference is far beyond the tolerance."""
    latents = []
    for deltas, blocks in ((tiny.reverse, None), ({}, None), (tiny.reverse, ["up_blocks"]), (tiny.reverse, ())):
        plain = Plain(tiny, keyframes, frames=2, steps=1, seed=5)
        latents.append(two_networks(plain, *two_copies(tiny, deltas), blocks=blocks, weights=0.5, recurrence=0))
    for other in latents[1:]:
        assert (other - latents[0]).square().mean().sqrt() > 100 * TOLERANCE * latents[0].std()


@torch.no_grad()
def test_trf_blends_two_euler_steps(wide, keyframes):
    plain, weights = Plain(wide, keyframes, frames=3, steps=2, seed=5), torch.tensor([1, 0.5, 0]).view(1, -1, 1, 1, 1)
    z = plain.z
    for i in range(2):
        for repeat in range(2 if i < 1 else 1):
            z = z + plain.noise(i) if repeat else z
            down = plain.step(i, plain.guided(wide.unet, i, z, plain.keys[0]), z).prev_sample
            flipped = z.flip(1)
            up = plain.step(i, plain.guided(wide.unet, i, flipped, plain.keys[1]), flipped).prev_sample.flip(1)
            z = weights * down + (1 - weights) * up
    result = inbetween(wide, *keyframes, method="trf", frames=3, steps=2, recurrence=1, seed=5, progress=False)
    assert_same(result.latents, z)


@torch.no_grad()
@pytest.mark.parametrize("method", ["vibid", "vibid-plain"])
def test_vibid_goes_down_twice(wide, keyframes, method):
    plain = Plain(wide, keyframes, frames=3, steps=2, seed=5)
    z, scale = plain.z, wide.vae.config.scaling_factor
    for i in range(2):
        sigma, below = plain.sigmas[i], plain.sigmas[i + 1]
        for turn in (0, 1):
            if turn:
                z = (z + plain.noise(i)).flip(1)
            scheduler = plain_scheduler(wide, 2, i)
            without, image = predict(wide.unet, scheduler, z, plain.timesteps[i], plain.keys[turn])
            if method == "vibid":  # CFG++: clean latents of the conditional branch, noise of the unconditional one
                eps = (z - plain.step(i, without, z).pred_original_sample) / sigma
                clean = plain.step(i, image, z).pred_original_sample
                clean[:, -1] = plain.keys[1 - turn][0] * scale
                z = clean + below * eps
            else:
                z = plain.step(i, without + plain.ramp * (image - without), z).prev_sample
        z = z.flip(1)
    result = inbetween(wide, *keyframes, method=method, frames=3, steps=2, seed=5, progress=False)
    assert_same(result.latents, z)
    if method == "vibid":  # the last thing done is the projection onto the first keyframe
        assert torch.allclose(result.latents[:, 0], plain.keys[0][0] * scale, atol=1e-5)


@torch.no_grad()
def test_forward_is_diffusers_pipeline(tiny, keyframes):
    pipeline = StableVideoDiffusionPipeline(
        vae=tiny.vae,
        image_encoder=tiny.image_encoder,
        unet=tiny.unet,
        scheduler=plain_scheduler(tiny, 1),
        feature_extractor=CLIPImageProcessor.from_pretrained(tiny.name, subfolder="feature_extractor"),
    )
    pipeline.set_progress_bar_config(disable=True)
    image, latents = to_pil(keyframes[0]), torch.randn(1, 4, 4, 8, 8)
    common = {"latents": latents, "fps": 5, "motion_bucket_id": 60, "noise_aug_strength": 0.1}
    sizes = {"height": 64, "width": 64, "num_frames": 4, "num_inference_steps": 3}
    scales, generator = {"min_guidance_scale": 1.5, "max_guidance_scale": 2.5}, torch.Generator().manual_seed(3)
    theirs = pipeline(image, generator=generator, output_type="latent", **sizes, **scales, **common).frames
    options = {"method": "forward", "frames": 4, "steps": 3, "guidance_scale": (1.5, 2.5), "seed": 3}
    ours = inbetween(tiny, image, keyframes[1], progress=False, **options, **common)
    assert_same(ours.latents, theirs)  # the same calls in the same order, so float32 will do
    decoded = pipeline.decode_latents(theirs, 4)[0].transpose(0, 1)
    assert torch.allclose(ours.frames, (decoded / 2 + 0.5).clamp(0, 1), atol=1e-3)


@torch.no_grad()
def test_reversed_animation_is_two_networks_side_by_side(wide, keyframes):
    plain = Plain(wide, keyframes[:1], frames=3, steps=2, seed=5)
    (forward, backward), seen = two_copies(wide, wide.reverse), []
    z, back = plain.z, plain.z
    for i in range(2):
        with record_temporal_attention(forward) as maps:
            v_forward = plain.guided(forward, i, z, plain.keys[0])
        with rotate_temporal_attention(backward, maps):
            v_backward = plain.guided(backward, i, back, plain.keys[0])
        z, back = plain.step(i, v_forward, z).prev_sample, plain.step(i, v_backward, back).prev_sample
    options = {"reverse": True, "frames": 3, "steps": 2, "seed": 5, "progress": False, "on_step": seen.append}
    result = animate(wide, keyframes[0], **options)
    assert_same(result.latents, back.flip(1))
    assert result.unet_calls == len(seen) == 2 and torch.equal(seen[-1].latents, result.latents)
    assert_same(seen[-1].forward, z)  # the last step goes down to sigma 0
    assert torch.equal(seen[-1].backward, seen[-1].denoised)


@pytest.mark.parametrize(
    "method, steps, recurrence, calls, batch",
    [
        ("dual", 1, 5, 1, 4),  # two directions, without and with the image, in one call
        ("dual", 3, 2, 3 + 2, 4),
        ("no-finetune", 2, 1, 2 + 1, 4),
        ("trf", 2, 1, 2 + 1, 4),
        ("forward", 2, 1, 2, 2),
        ("vibid", 2, 1, 4, 2),
    ],
)
def test_calls(tiny, keyframes, method, steps, recurrence, calls, batch):
    options = {"method": method, "steps": steps, "recurrence": recurrence, "frames": 2, "progress": False}
    with unet_batches(tiny.unet) as batches:
        result = inbetween(tiny, *keyframes, **options)
    assert batches == [batch] * calls and result.unet_calls == calls == unet_calls(method, steps, recurrence)
