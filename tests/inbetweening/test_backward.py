"""The backward-motion fine-tune: it learns, it resumes to the bit, and it leaves the model as it was."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from interp_lib import draw_clips, fit_backward_motion, load_video_model
from interp_lib.inbetweening import backward
from interp_lib.inbetweening.backward import BackwardMotion, backward_loss
from interp_lib.inbetweening.temporal import temporal_attentions
from interp_lib.models.load import load_deltas

ROOT = Path(__file__).resolve().parents[2]
CONDITIONING = (7, torch.tensor([127.0]), 0.02)


@pytest.fixture(scope="session")
def clips(keyframes):
    """[2,2,3,64,64] in [0,1]: each keyframe going left, or up"""
    a, b = keyframes
    return torch.stack([torch.stack([a, a.roll(8, -1)]), torch.stack([b, b.roll(8, -2)])])


def fit(model, clips, **options):
    return fit_backward_motion(model, clips, **{"steps": 2, "lr": 1e-2, "progress": False, **options})


def loss_of(model, clip, deltas, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return backward_loss(model, model.encode(clip), [clip[:1], clip[-1:]], CONDITIONING, deltas, generator)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns(tiny, clips):
    result = fit(tiny, clips[:1], steps=6, lr=3e-2)
    zero = {name: torch.zeros_like(x) for name, x in tiny.reverse.items()}
    with torch.no_grad():  # the same draws before and after
        before, after = (
            sum(float(loss_of(tiny, clips[0], deltas, seed)) for seed in range(3)) for deltas in (zero, result.deltas)
        )
    assert len(result.losses) == 6 and after < 0.8 * before, (before, after)


@pytest.mark.parametrize("rotate", [True, False])
def test_what_learns(tiny, clips, rotate):
    before = tiny.unet_calls
    result = fit(tiny, clips, steps=1, rotate=rotate)
    projections = ("to_v", "to_out.0") if rotate else ("to_q", "to_k", "to_v", "to_out.0")
    assert set(result.deltas) == {f"{name}.{p}.weight" for name in temporal_attentions(tiny.unet) for p in projections}
    assert tiny.unet_calls - before == 1 + rotate  # the frozen model's maps, then the prediction
    for value in result.deltas.values():
        assert value.dtype == torch.float32 and not value.requires_grad and 0 < value.abs().max() < 2e-2


def plain_fit(model, clips, *, steps, ranks, lr=1e-2):
    """Alg. 1 by hand: to_v and to_out as leaves, AdamW at weight decay 0.01, gradients of all ranks clipped at 1."""
    base = {name: p.detach().clone() for name, p in model.unet.named_parameters() if name in model.reverse}
    masters = {name: value.clone().requires_grad_() for name, value in base.items()}
    optimizer, buckets = torch.optim.AdamW(masters.values(), lr=lr, weight_decay=0.01), [20.0, 90.0]
    for step in range(steps):
        losses = []
        for rank in range(ranks):
            generator = torch.Generator().manual_seed(step * 64 + rank)  # seed 0
            (k,) = torch.randint(len(clips), (1,), generator=generator).tolist()
            deltas, clip = {name: masters[name] - base[name] for name in masters}, clips[k]
            conditioning, ends = (7, torch.tensor([buckets[k]]), 0.02), [clip[:1], clip[-1:]]
            losses.append(backward_loss(model, model.encode(clip), ends, conditioning, deltas, generator))
        optimizer.zero_grad()
        (sum(losses) / ranks).backward()
        torch.nn.utils.clip_grad_norm_(list(masters.values()), 1.0)
        optimizer.step()
    return {name: (masters[name] - base[name]).detach() for name in masters}


def test_it_is_the_plain_loop(tiny, clips):
    expected = plain_fit(tiny, clips, steps=2, ranks=1)
    for name, value in fit(tiny, clips, motion_bucket_id=[20, 90]).deltas.items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_gradients_are_the_deltas_own_and_agree_with_a_finite_difference(tiny, clips):
    deltas = {name: torch.zeros_like(x).requires_grad_() for name, x in tiny.reverse.items()}
    loss_of(tiny, clips[0], deltas).backward()
    assert all(x.grad.abs().max() > 0 for x in deltas.values())
    assert all(p.grad is None for p in tiny.unet.parameters())
    name, h, values = max(tiny.reverse), 1e-2, []
    gradient = deltas[name].grad
    at = divmod(int(gradient.abs().argmax()), gradient.shape[1])
    for sign in (1, -1):
        moved = {n: x.detach().clone() for n, x in deltas.items()}
        moved[name][at] += sign * h
        with torch.no_grad():
            values.append(float(loss_of(tiny, clips[0], moved)))
    slope = (values[0] - values[1]) / (2 * h)
    # float32 resolves a loss near 1 to about 1e-6 here, so the quotient to 1e-4; its curvature term is of order h^2
    assert abs(slope - float(gradient[at])) < 0.02 * abs(float(gradient[at])) + 2e-4, (slope, float(gradient[at]))
    assert abs(float(gradient[at])) > 5e-3


def test_gradient_checkpointing_gives_the_same(tiny, clips, monkeypatch):
    monkeypatch.setattr(backward, "LARGE", 0)  # so that it is chosen where nothing is said
    fits, ran = [], []
    resnet = tiny.unet.up_blocks[-1].resnets[-1]
    hook = resnet.register_forward_pre_hook(lambda m, a: ran.append(1))  # going back it stops before its end
    # a step calls the network twice; with checkpointing the second call's blocks run once more, going back
    for switch, runs in ((False, 4), (True, 6), (None, 6)):
        ran.clear()
        fits.append(fit(tiny, clips, gradient_checkpointing=switch))
        assert len(ran) == runs
    hook.remove()
    for name, value in fits[0].deltas.items():
        # the same operations in the same order; AdamW turns a gradient's rounding into at most that share of lr
        assert torch.allclose(fits[1].deltas[name], value, atol=1e-4 * 1e-2), name
    assert fits[0].losses == pytest.approx(fits[1].losses, rel=1e-5)


def test_a_float16_model_learns_from_the_first_step(tiny, clips):
    """The loss is scaled, but not so much that the first gradients overflow and the step is lost."""
    model = load_video_model(tiny.name, device="cpu", dtype=torch.float16, reverse=None)
    half, full = fit(model, clips, steps=1), fit(tiny, clips, steps=1)
    # AdamW's first step is lr in the direction of each gradient's sign
    same_sign = [(half.deltas[name].sign() == value.sign()).float().mean() for name, value in full.deltas.items()]
    assert float(torch.stack(same_sign).mean()) > 0.9


def test_the_model_is_as_it_was_after_an_exception(tiny, clips):
    """What is checked is in the fixture `tiny`; here the fit is stopped halfway."""

    def stop(module, args, out):
        raise KeyboardInterrupt

    hook = tiny.unet.conv_out.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny, clips, gradient_checkpointing=True)
    hook.remove()


# by several processes, and resumed (tests/robustness kills it)


RANK = """
import os, sys, torch
torch.set_num_threads(1)
from interp_lib import fit_backward_motion, load_video_model
model = load_video_model(sys.argv[1], device="cpu", reverse=None)
options = {"steps": 2, "lr": 1e-2, "motion_bucket_id": [20, 90], "progress": False}
fit_backward_motion(model, torch.load("clips.pt"), **options).save("deltas" + os.environ["RANK"])
"""


@pytest.mark.slow  # three interpreters import torch and diffusers
def test_two_processes_average_their_draws(tiny, clips, tmp_path):
    (tmp_path / "script.py").write_text(RANK)
    torch.save(clips, tmp_path / "clips.pt")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    # what `accelerate launch` runs for several devices; on the CPU it would start a single process
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "script.py"]
    subprocess.run([*command, tiny.name], cwd=tmp_path, env=environment, check=True, timeout=3600)
    first, second = (load_deltas(tmp_path / f"deltas{rank}", tiny.unet) for rank in (0, 1))
    assert same(first, second)
    expected, alone = (plain_fit(tiny, clips, steps=2, ranks=ranks) for ranks in (2, 1))
    worst = [max(float((first[n] - other[n]).abs().max()) for n in first) for other in (expected, alone)]
    assert worst[0] < 1e-5 < 1e-3 < worst[1]  # half a gradient each, summed in another order


@pytest.fixture(scope="module")
def checkpoint(_tiny, clips, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "fit.pt"
    fit(_tiny, clips, steps=1, checkpoint=path)
    return path


@pytest.mark.parametrize("other", [{"lr": 1e-3}, {"seed": 1}, {"batch": 2}, {"rotate": False}, {"log_sigma": (0, 1)}])
def test_a_checkpoint_of_another_run_is_refused(tiny, clips, checkpoint, other):
    before, calls = checkpoint.read_bytes(), tiny.unet_calls
    for given, options in ((clips, other), (clips[:1], {})):
        with pytest.raises(ValueError, match="checkpoint of another fine-tune .*: remove or rename it"):
            fit(tiny, given, checkpoint=checkpoint, **options)
    assert tiny.unet_calls == calls and checkpoint.read_bytes() == before


def test_what_was_done_is_not_done_again(tiny, clips, checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path / "fit.pt")
    calls = tiny.unet_calls
    resumed = fit(tiny, clips, checkpoint=tmp_path / "fit.pt")
    assert tiny.unet_calls - calls == 2  # the second step alone
    unbroken = fit(tiny, clips)
    assert same(resumed.deltas, unbroken.deltas) and resumed.losses == unbroken.losses


def test_saved_and_loaded(tiny, tmp_path):
    motion, path = BackwardMotion(dict(tiny.reverse)), tmp_path / "deltas.safetensors"
    assert same(load_deltas(motion.save(path), tiny.unet), tiny.reverse)
    assert [p.name for p in tmp_path.iterdir()] == ["deltas.safetensors"]
    full = path.stat().st_size
    rounded = load_deltas(motion.save(path, dtype=torch.float16), tiny.unet)
    assert all(torch.allclose(rounded[name], value, rtol=2**-11, atol=1e-7) for name, value in tiny.reverse.items())
    assert path.stat().st_size < 0.6 * full


def test_clips_drawn_from_the_model(tiny, keyframes):
    options = {"frames": 2, "steps": 1, "progress": False}
    clips = draw_clips(tiny, keyframes, seed=3, **options)
    assert clips.shape == (2, 2, 3, 64, 64) and float(clips.min()) >= 0 and float(clips.max()) <= 1
    assert torch.equal(draw_clips(tiny, keyframes[1:], seed=4, **options)[0], clips[1])  # image k takes seed + k
    assert not torch.equal(draw_clips(tiny, keyframes[1:], seed=3, **options)[0], clips[1])
