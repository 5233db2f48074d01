"""Clocks and memory gauges: works timed in turns, peak memory of one work in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch

BLOCK = 256 * 1024  # bytes, from which a block of memory is the system's own
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def in_turns(
    works: Mapping[str, Callable[[], Any]], *, repeats: int = 3, device: Any = "cpu"
) -> dict[str, list[float]]:
    """Seconds of every work, each run `repeats` times after one that warms up: a, b, a, b, so that a slow minute of
    the machine falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            finish(device)
            start = time.perf_counter()
            work()
            finish(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, base: str) -> float:
    """Median over the turns of the time of one work over that of another."""
    return median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))


def finish(device: Any) -> None:
    """Wait for what has been sent to a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def unet_batches(unet: torch.nn.Module) -> Iterator[list[int]]:
    """The batch size of every call of the U-Net while it lasts, in order."""
    batches: list[int] = []
    hook = unet.register_forward_pre_hook(lambda unet, given: batches.append(len(given[0])))
    try:
        yield batches
    finally:
        hook.remove()


def peak_memory(work: Callable[[], Any], device: Any = "cpu") -> tuple[Any, float]:
    """(what work returns, MiB at its highest). On CUDA what torch had allocated; else what the process held, weights
    and libraries included: since `work` began on Linux, since the process began elsewhere."""
    give_back()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        result = work()
        return result, torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):
        CLEAR.write_text("5")  # Linux: the high-water mark starts afresh
    result = work()
    return result, _highest()


def give_back() -> None:
    """What has been freed goes back to the system: or else what comes next would be put there, and not be seen."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc


def _keep_nothing() -> None:
    """From now on every block goes back to the system when it is freed. glibc otherwise keeps blocks of up to 32 MiB
    for later, a hundred MiB of them or none from one run to the next, which would be taken for memory in use."""
    with suppress(OSError, AttributeError):
        for setting in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h; giving one stops their growth
            ctypes.CDLL(None).mallopt(setting, BLOCK)


def _highest() -> float:
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def in_own_process(function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """What a module's function returns when it is run in a fresh process, whose memory nothing else has used."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_call, torch.get_num_threads(), function, given, options).result()


def _call(threads: int, function: Callable[..., Any], given: tuple, options: dict[str, Any]) -> Any:
    torch.set_num_threads(threads)
    _keep_nothing()
    return function(*given, **options)
