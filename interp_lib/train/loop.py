"""One training loop for every stage: EMA, a log, checkpoints written whole, and exact resumption.

The batch of step k is a function of (seed, k) alone, so a run that was killed and resumed sees the same batches as an
unbroken one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp_lib.files import atomic_write

LOG_EVERY = 50  # steps


class Unfinished(Exception):
    """The time given ran out before the last step: the state is saved, a later call goes on."""


def save(content: Any, path: Path) -> None:
    """torch.save, whole or not at all, making the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        torch.save(content, partial)


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
    """Minimise `loss(networks, step, generator)` with AdamW on a cosine schedule; return the moving average.

    folder: holds `name.pt` (the state) and `name.jsonl` (the loss curve); save_every: seconds between two states.
    Raises Unfinished when `minutes` of this call are over before the last step.
    """
    parts = {"networks": networks, "average": deepcopy(networks).eval().requires_grad_(False)}
    parts["optimizer"] = torch.optim.AdamW(networks.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-3)
    first, values = _resume(name, folder, parts)
    networks.train()
    started = saved_at = time.monotonic()
    for step in range(first, steps):
        rate = lr * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        value = loss(networks, step, torch.Generator().manual_seed(step))
        _descend(parts, value, rate, min(decay, (1 + step) / (10 + step)))
        values.append(value.item())
        now = time.monotonic()
        if len(values) == LOG_EVERY:
            mean = round(sum(values) / LOG_EVERY, 5)
            _log(name, folder, {"step": step + 1, "loss": mean, "seconds": round(now - started)})
            values.clear()
        over = minutes is not None and now - started > 60 * minutes
        if now - saved_at > save_every or over or step + 1 == steps:
            state = {key: part.state_dict() for key, part in parts.items()} | {"step": step + 1, "values": values}
            save(state, folder / f"{name}.pt")
            saved_at = now
        if over and step + 1 < steps:
            raise Unfinished(f"{name}: stopped after step {step + 1} of {steps}; run it again to go on.")
    return parts["average"]


def _resume(name: str, folder: Path, parts: dict[str, Any]) -> tuple[int, list[float]]:
    """The step to go on from, 0 where there is no state yet, and the losses since the last line of the log.

    Lines of later steps, which will be made again, are taken out of the log.
    """
    state, log, step, values = folder / f"{name}.pt", folder / f"{name}.jsonl", 0, []
    if state.exists():
        saved = torch.load(state, map_location="cpu", weights_only=True)
        for key, part in parts.items():
            part.load_state_dict(saved[key])
        step, values = saved["step"], saved.get("values", [])
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        _write(log, "".join(line for line in lines if json.loads(line)["step"] <= step))
    return step, values


def _descend(parts: dict[str, Any], value: Tensor, rate: float, decay: float) -> None:
    """One step of the optimiser at a learning rate, and of the average."""
    optimizer, parameters = parts["optimizer"], list(parts["networks"].parameters())
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    with torch.no_grad():
        torch._foreach_lerp_(list(parts["average"].parameters()), [p.detach() for p in parameters], 1 - decay)


def _log(name: str, folder: Path, line: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.jsonl"
    _write(log, (log.read_text() if log.exists() else "") + json.dumps(line) + "\n")
    print(f"{name}: {line}", flush=True)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text)
