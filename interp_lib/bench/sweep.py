"""Measure many items in processes or on a Ray cluster, with one JSON file per item, so that a killed run resumes."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
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

    items: {name: arguments}; the result, a JSON value, is written to `folder`/name.json by the process that computed
    it, so that an interrupted run keeps what is finished. workers: processes of one thread each; 1 (or None) measures
    in this process, also in one thread, because sums depend on the number of threads: workers change no digit.
    ray: address of a Ray cluster, "auto" or "local", whose machines share `folder`; one worker per GPU, or per core
    where there is no GPU or `device` is "cpu". label, describe: what the progress bar says of the run and of a result.
    Raises RuntimeError when a worker dies, and what `measure` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(folder)
    paths = {name: folder / f"{name}.json" for name in items}
    jobs = [
        joblib.delayed(_measure_to_file)(measure, arguments, paths[name], os.getpid())
        for name, arguments in items.items()
        if not paths[name].is_file()
    ]
    if jobs:
        count = min(workers or 1, len(jobs))
        backend = nullcontext(count) if ray is None else _ray_backend(ray, device, len(jobs))
        try:
            with backend as processes, tqdm(total=len(jobs), desc=label, disable=not progress) as bar:
                parallel = joblib.Parallel(processes, return_as="generator_unordered", batch_size=1)
                for result in parallel(jobs):
                    bar.set_postfix_str(describe(result), refresh=False)
                    bar.update()
        except TerminatedWorkerError:
            died = f"one of {workers} worker processes died, perhaps for lack of memory"
            raise RuntimeError(f"{died}: finished items are kept, run again with fewer workers.") from None
        finally:
            load_model.cache_clear()
            if ray is None and count > 1:
                get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)  # and the models they hold
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths.values()]


@lru_cache(maxsize=2)
def load_model(kind: str, source: str, device: str = "auto") -> Any:
    """Return the image or video model of a worker, loaded once for all of its items."""
    from interp_lib.models import load_image_model, load_video_model

    return (load_video_model if kind == "video" else load_image_model)(source, device=device)


@contextmanager
def _ray_backend(address: str, device: str, jobs: int) -> Iterator[int]:
    """Make joblib send its jobs to a Ray cluster, and yield the number of workers; joblib runs a single one here."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise ValueError("ray is not installed: pip install -e '.[ray]' in the clone, or leave ray= away.") from None
    register_ray()
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, log_to_driver=False)
    try:
        resources = ray.cluster_resources()
        gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
        with joblib.parallel_config("ray", ray_remote_args={"num_gpus": 1 if gpus else 0, "num_cpus": 1}):
            yield min(gpus or int(resources["CPU"]), jobs)
    finally:
        if started:
            ray.shutdown()


def _measure_to_file(measure: Callable[..., Any], arguments: tuple, path: Path, starter: int) -> Any:
    if os.getpid() != starter:
        _prepare_worker()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = measure(*arguments)
    finally:
        torch.set_num_threads(threads)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


@lru_cache
def _prepare_worker() -> None:
    """Leave Ctrl-C to the process that started this one, and end when that process ends."""

    def end_with(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    with suppress(ValueError):  # signals can only be set in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
