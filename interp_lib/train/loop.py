"""One training loop for every stage: EMA, a log, checkpoints written whole, and exact resumption.

The batch of step k is a function of (seed, k) alone, so a run that was killed and resumed sees the same batches as an
unbroken one.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn


def write_whole(path: Path, save: Callable[[Path], None]) -> None:
    """Write under a temporary name, then rename: a file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save(partial)
    os.replace(partial, path)


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
    """Minimise `loss(networks, step, generator)` with AdamW on a cosine schedule; returns the exponential moving
    average.

    folder: holds `name.pt` (the state), `name.jsonl` (the loss curve). minutes: stop early after this much wall time in
    this call and return the average so far; a later call goes on. The bf16 arithmetic of `loss` is its own business.
    """
    state, log = folder / f"{name}.pt", folder / f"{name}.jsonl"
    average = deepcopy(networks).eval().requires_grad_(False)
    parameters = list(networks.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=1e-3)
    first = 0
    if state.exists():
        saved = torch.load(state, map_location="cpu", weights_only=True)
        networks.load_state_dict(saved["networks"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    if first >= steps:
        return average

    def checkpoint(step: int) -> None:
        content = {"networks": networks.state_dict(), "average": average.state_dict()}
        content |= {"optimizer": optimizer.state_dict(), "step": step}
        write_whole(state, lambda path: torch.save(content, path))

    networks.train()
    started = saved_at = time.monotonic()
    total, counted = 0.0, 0
    for step in range(first, steps):
        rate = lr * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = loss(networks, step, torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        weight = min(decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in parameters], 1 - weight)
        total, counted = total + value.item(), counted + 1
        now = time.monotonic()
        if counted == 50:
            line = {"step": step + 1, "loss": round(total / counted, 5), "seconds": round(now - started, 1)}
            folder.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name}: {line}", flush=True)
            total, counted = 0.0, 0
        over = minutes is not None and now - started > 60 * minutes
        if now - saved_at > save_every or over or step + 1 == steps:
            checkpoint(step + 1)
            saved_at = now
        if over:
            break
    return average
