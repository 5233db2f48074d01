"""The work behind one item of a benchmark, and who does it: this process, several, or a Ray cluster. Same digits."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp_lib.bench.cases import Case
from interp_lib.bench.datasets import load_case
from interp_lib.bench.methods import find_method
from interp_lib.bench.pool import workers
from interp_lib.bench.score import score
from interp_lib.types import Pair

Row = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One method on one case with one seed; digest: the name of its result."""

    method: str
    case: str | Pair | Case
    seed: int
    digest: str

    @property
    def name(self) -> str:
        return self.case if isinstance(self.case, str) else self.case.name


@dataclass(frozen=True)
class Settings:
    """What all items of a run share. models: the source of each kind. shared: options of the methods. scratch: a folder
    for what items of one case share, such as a LoRA; it changes their time and nothing else."""

    frames: int
    size: int | tuple[int, int] | None
    models: dict[str, str]
    device: str
    shared: dict[str, Any]
    metrics: Any
    save_frames: bool
    scratch: str | None = None

    def about(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "scratch"}


Done = tuple[str, Row, bytes | None]


def run_items(
    items: list[Item], how: Settings, *, workers: int | None, ray: str | None, progress: bool
) -> Iterator[Done]:
    """Yield (digest, row, PNG of the frames) of every item as they come."""
    if not items:
        return
    count = min(workers or 1, len(items))
    if ray is not None:
        done = _by_ray(items, how, ray)
    else:
        done = _by_processes(items, how, count) if count > 1 else _here(items, how)
    bar = tqdm(done, total=len(items), desc="benchmark", disable=not progress)
    for digest, row, strip in bar:
        bar.set_postfix_str(f"{row['method']} on {row['case']}: {row['status']}", refresh=False)
        yield digest, row, strip


def _here(items: list[Item], how: Settings) -> Iterator[Done]:
    worker, threads = Worker(how), torch.get_num_threads()
    for item in items:
        torch.set_num_threads(1)  # as in every other worker: the order of sums is the same
        try:
            done = worker.do(item)
        finally:
            torch.set_num_threads(threads)
        yield done


_worker: Worker | None = None  # of a process of the pool


def _start(how: Settings) -> None:
    global _worker
    _worker = Worker(how)


def _do(item: Item) -> Done:
    return _worker.do(item)


def _by_processes(items: list[Item], how: Settings, count: int) -> Iterator[Done]:
    with workers(count, _start, how) as submit:
        for job in as_completed(submit(_do, [(item,) for item in items])):
            yield job.result()


def _by_ray(items: list[Item], how: Settings, address: str) -> Iterator[Done]:
    """One actor a GPU of the cluster, or a core where there is none, each with models of its own that it loads once."""
    try:
        ray = import_module("ray")
    except ImportError:
        raise ValueError("ray is not installed: pip install -e '.[ray]' in the clone, or leave ray= away.") from None
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, log_to_driver=False)
    gpus = 0 if how.device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
    count = min(gpus or int(ray.cluster_resources()["CPU"]), len(items))

    class Actor(Worker):
        def __init__(self, how: Settings):
            torch.set_num_threads(1)
            super().__init__(how)

    remote = ray.remote(num_gpus=1 if gpus else 0, num_cpus=1)(Actor)
    pool = import_module("ray.util").ActorPool([remote.remote(how) for _ in range(count)])
    try:
        yield from pool.map_unordered(lambda actor, item: actor.do.remote(item), items)
    finally:
        if started:
            ray.shutdown()


@dataclass
class Worker:
    """Makes items, keeping the models and the last case that it has loaded."""

    how: Settings
    models: dict[str, Any] = field(default_factory=dict)
    loaded: tuple[Any, Case] | None = None

    def do(self, item: Item) -> Done:
        """The row of an item, failed or not, and its frames as a PNG. Nothing that a method raises stops the others."""
        row: Row = {"method": item.method, "case": item.name, "seed": item.seed, "status": "ok", "reason": ""}
        row["file"] = item.digest
        try:
            case, method = self.case(item.case), find_method(item.method)
            model, how = self.model(method.kind), self.how
            told = {"device": how.device, "scratch": how.scratch} | how.shared
            start = time.perf_counter()
            made = method.run(model, case.pair, frames=how.frames, seed=item.seed, settings=told)
            seconds = time.perf_counter() - start
            values = score(made, case, frames=how.frames, metrics=how.metrics)
            strip = _strip(made.frames) if how.save_frames else None
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            return item.digest, row | {"status": "failed", "reason": reason}, None
        return item.digest, row | case.tags | values | {"seconds": seconds, "device": how.device}, strip

    def model(self, kind: str | None) -> Any:
        """The model of a kind, loaded once."""
        if kind is None:
            return None
        if kind not in self.models:
            from interp_lib.models import load_image_model, load_video_model

            load = load_video_model if kind == "video" else load_image_model
            self.models[kind] = load(self.how.models[kind], device=self.how.device)
        return self.models[kind]

    def case(self, case: str | Pair | Case) -> Case:
        """The case of that name, the last one being kept; a pair in memory as it is."""
        if not isinstance(case, str):
            return case if isinstance(case, Case) else Case(case)
        if self.loaded is None or self.loaded[0] != case:
            self.loaded = case, load_case(case, frames=self.how.frames, size=self.how.size)
        return self.loaded[1]


def _strip(frames: Tensor) -> bytes:
    """Frames side by side as a PNG, 8 bits: what a picture or a set measure needs later."""
    from PIL import Image

    pixels = torch.cat(list(frames.float().cpu()), dim=2).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "png")
    return file.getvalue()
