"""Clocks and memory gauges: works timed in turns, peak memory of one work in a process of its own."""

import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.benchmark import timer

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
BLOCK = 256 * 1024  # bytes, from which a block of memory goes back to the system as soon as it is freed


def time_interleaved(works: Mapping[str, Callable[[], Any]], *, repeats: int = 3) -> dict[str, list[float]]:
    """Return the seconds of every work, each run `repeats` times after one that warms up.

    They run a, b, a, b, so that a slow minute of the machine falls on all of them. The timer waits for the GPU.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            start = timer()
            work()
            seconds[name].append(timer() - start)
    return {name: times[1:] for name, times in seconds.items()}


def ratio(seconds: Mapping[str, list[float]], name: str, base: str) -> float:
    """Return the median over the rounds of the time of one work over that of another."""
    return median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))


@contextmanager
def unet_batches(unet: torch.nn.Module) -> Iterator[list[int]]:
    """Record the batch size of every call of the U-Net, in order."""
    batches: list[int] = []
    hook = unet.register_forward_pre_hook(lambda unet, args: batches.append(len(args[0])))
    try:
        yield batches
    finally:
        hook.remove()


def peak_memory(work: Callable[[], Any], device: Any = "cpu") -> tuple[Any, float]:
    """Return what work returns, and MiB at its highest.

    On CUDA what torch had allocated; else what the process held, weights and libraries included: since `work` began on
    Linux, since the process began elsewhere.
    """
    release_freed()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return work(), torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):
        CLEAR.write_text("5")  # Linux: the high-water mark starts afresh
    result = work()
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return result, int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others KiB
    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def release_freed() -> None:
    """Give freed memory back to the system: else what comes next would be put there, and not be seen."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc


def in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a module's function returns in a fresh process, whose memory nothing else has used."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_call, torch.get_num_threads(), function, args).result()


def _call(threads: int, function: Callable[..., Any], args: tuple) -> Any:
    torch.set_num_threads(threads)
    # glibc otherwise keeps blocks of up to 32 MiB for later, a hundred MiB of them or none from one run to the next,
    # which would be taken for memory in use
    with suppress(OSError, AttributeError):
        for setting in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h; giving one stops their growth
            ctypes.CDLL(None).mallopt(setting, BLOCK)
    return function(*args)
