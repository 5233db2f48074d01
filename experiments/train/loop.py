"""One training loop for every stage: a moving average, a log, checkpoints written whole, and exact resumption.

The batch of step k is a function of (seed, k) alone, so a run that was killed and resumed sees the same batches as an
unbroken one. The learning rate is constant until the last fifth of the steps and falls linearly from there, so that a
run can be prolonged (a larger `steps`) at any time before.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from interp_lib.files import atomic_write

LOG_EVERY = 50  # steps
DECAY_SHARE = 0.2  # of the steps, over which the learning rate falls


class Unfinished(Exception):
    """The time given ran out before the last step: the state is saved, a later call goes on."""


def save(content: Any, path: Path) -> None:
    """Call torch.save into a temporary file and rename it, making the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        torch.save(content, partial)


def learning_rate(step: int, steps: int, lr: float, warmup: int) -> float:
    """Warm up linearly, stay constant, fall linearly to a fiftieth over the last fifth of the steps."""
    fall = min(1.0, (steps - step) / (DECAY_SHARE * steps))
    return lr * min(1.0, (step + 1) / warmup) * max(0.02, fall)


def fit(
    name: str,
    networks: nn.ModuleDict,
    loss: Callable[[nn.ModuleDict, int, torch.Generator], Tensor],
    *,
    steps: int,
    lr: float,
    folder: Path,
    warmup: int = 200,
    decay: float = 0.999,
    save_every: float = 120.0,
    minutes: float | None = None,
) -> nn.ModuleDict:
    """Minimise `loss(networks, step, generator)` with AdamW; return the networks with their moving average.

    folder: holds `name.pt` (the state) and `name.jsonl` (the loss curve). decay: of the average. save_every: seconds
    between two states. Raises Unfinished when `minutes` of this call are over before the last step.
    """
    parameters = [p for p in networks.parameters() if p.requires_grad]
    average = EMAModel(parameters, decay=decay)
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    first, values, seconds = _resume(folder, name, networks, average, optimizer)
    networks.train()
    started = saved_at = time.monotonic()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, lr, warmup)
        value = loss(networks, step, torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.step(parameters)
        values.append(value.item())
        now = time.monotonic()
        spent = seconds + now - started
        if len(values) == LOG_EVERY:
            mean = round(sum(values) / LOG_EVERY, 5)
            _log(folder / f"{name}.jsonl", {"step": step + 1, "loss": mean, "seconds": round(spent)})
            values.clear()
        over = minutes is not None and now - started > 60 * minutes
        if now - saved_at > save_every or over or step + 1 == steps:
            state = {"networks": networks.state_dict(), "average": average.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "step": step + 1, "values": values, "seconds": spent}
            save(state, folder / f"{name}.pt")
            saved_at = now
        if over and step + 1 < steps:
            raise Unfinished(f"{name}: stopped after step {step + 1} of {steps}; run it again to go on.")
    average.copy_to(parameters)
    return networks.eval()


def load_average(name: str, networks: nn.ModuleDict, folder: Path) -> int:
    """Put the moving average of a saved state into `networks`; return the number of its steps."""
    state = torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=True)
    networks.load_state_dict(state["networks"])
    parameters = [p for p in networks.parameters() if p.requires_grad]
    average = EMAModel(parameters)
    average.load_state_dict(state["average"])
    average.copy_to(parameters)
    networks.eval()
    return state["step"]


def _resume(
    folder: Path, name: str, networks: nn.ModuleDict, average: EMAModel, optimizer: torch.optim.Optimizer
) -> tuple[int, list[float], float]:
    """Load a saved state; return the next step, the losses since the last line of the log, the seconds spent.

    Lines of later steps, which will be computed again, are taken out of the log.
    """
    path, log, step, values, seconds = folder / f"{name}.pt", folder / f"{name}.jsonl", 0, [], 0.0
    if path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        networks.load_state_dict(saved["networks"])
        average.load_state_dict(saved["average"])
        average.to(device=next(networks.parameters()).device)
        optimizer.load_state_dict(saved["optimizer"])
        step, values, seconds = saved["step"], saved["values"], saved["seconds"]
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        _write(log, "".join(line for line in lines if json.loads(line)["step"] <= step))
    return step, values, seconds


def _log(path: Path, line: dict[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, (path.read_text() if path.exists() else "") + json.dumps(line) + "\n")
    print(f"{path.stem}: {line}", flush=True)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text)
