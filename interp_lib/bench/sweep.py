"""Measure many items in processes or on a Ray cluster, with one JSON file per item, so that a killed run resumes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from interp_lib.files import atomic_write, remove_stale_temporaries


def sweep(
    measure: Callable[..., Any],
    items: dict[str, tuple],
    folder: Path,
    *,
    workers: int | None = None,
    ray: str | None = None,
    device: str = "auto",
    label: str = "sweep",
    describe: Callable[[Any], str] = lambda result: "",
    progress: bool = True,
) -> list[Any]:
    """Call measure(*arguments) for each item that has no file in `folder` yet; return the results of all, in order.

    items: {name: arguments}; the result, a JSON value, is written to `folder`/name.json as soon as it is there, by the
    process that computed it, so that an interrupted run keeps what is finished and a second call goes on from it.
    workers: processes of one thread each; None or 1 measures in this process, also in one thread, because sums depend
    on the number of threads: the number of workers changes no digit. ray: the address of a Ray cluster, "auto" or
    "local", whose machines share `folder`; one worker per GPU unless `device` is "cpu", or per core without a
    GPU. label: of the progress bar; describe: what it says of a result.
    Raises RuntimeError when a worker dies, ValueError when Ray is not installed, and what `measure` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(folder)
    paths = {name: folder / f"{name}.json" for name in items}
    jobs = [
        joblib.delayed(_measure_to_file)(measure, arguments, paths[name], os.getpid())
        for name, arguments in items.items()
        if not paths[name].is_file()
    ]
    if ray is not None and jobs:
        _run_on_ray(jobs, ray, device)
    elif jobs:
        bar = {"total": len(jobs), "desc": label, "disable": not progress}
        try:
            parallel = joblib.Parallel(min(workers or 1, len(jobs)), return_as="generator_unordered", batch_size=1)
            with tqdm(**bar) as shown:
                for result in parallel(jobs):
                    shown.set_postfix_str(describe(result), refresh=False)
                    shown.update()
        except TerminatedWorkerError:
            raise RuntimeError(
                f"one of {workers} worker processes died, perhaps for lack of memory: finished items are kept, run "
                "again with fewer workers."
            ) from None
        finally:
            load_model.cache_clear()
            if (workers or 1) > 1:
                get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)  # and the models they hold
    if missing := [str(path) for path in paths.values() if not path.is_file()]:
        raise RuntimeError(f"{missing[0]} is not there: the machines of the cluster must share this folder.")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths.values()]


@lru_cache(maxsize=2)
def load_model(kind: str, source: str, device: str = "auto") -> Any:
    """Return the image or video model of a worker, loaded once for all of its items."""
    from interp_lib.models import load_image_model, load_video_model

    return (load_video_model if kind == "video" else load_image_model)(source, device=device)


def _run_on_ray(jobs: list, address: str, device: str) -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise ValueError("ray is not installed: pip install -e '.[ray]' in the clone, or leave ray= away.") from None
    register_ray()
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, log_to_driver=False)
    gpus = 0 if device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
    count = min(gpus or int(ray.cluster_resources()["CPU"]), len(jobs))
    try:
        with joblib.parallel_config("ray", ray_remote_args={"num_gpus": 1 if gpus else 0, "num_cpus": 1}):
            joblib.Parallel(count, batch_size=1)(jobs)
    finally:
        if started:
            ray.shutdown()


def _measure_to_file(measure: Callable[..., Any], arguments: tuple, path: Path, starter: int) -> Any:
    if os.getpid() != starter:
        _prepare_worker()
    with _one_thread():
        result = measure(*arguments)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache
def _prepare_worker() -> None:
    """Let Ctrl-C be the business of the process that started this one, and end when that process ends."""
    with suppress(ValueError):  # signals can only be set in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
