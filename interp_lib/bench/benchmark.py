"""Methods x cases x seeds, measured and written to one table; interrupted, the same call goes on where it was."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from interp_lib.bench.cases import Case
from interp_lib.bench.content_hash import case_hashes, content_hash, weights_hash
from interp_lib.bench.datasets import list_cases, load_case
from interp_lib.bench.evaluate import check_metrics, evaluate
from interp_lib.bench.methods import Method, find_method
from interp_lib.bench.metrics import end_point_error, pck, resize_flow
from interp_lib.bench.sweep import load_model, sweep
from interp_lib.bench.tables import round_digits
from interp_lib.checks import check_int, check_size
from interp_lib.files import atomic_write
from interp_lib.images import to_pil
from interp_lib.models.folder import EMBEDDED, find_folder, pick_device, read_settings
from interp_lib.types import Interpolation, Pair

VERSION = 1  # raise it when a change of the code changes a digit: results on disk are then computed again
COST = ["seconds", "device", "file"]  # what no two runs share: in the returned table, not in the written one
MEMORY = "out of memory: try a smaller size=, settings={'batch_size': 1}, fewer workers=, or another device="


@dataclass(frozen=True)
class Settings:
    """What all items share: the arguments of `benchmark`, checked; `scratch` is a folder for a case's LoRA."""

    frames: int
    size: int | tuple[int, int] | None
    models: dict[str, str]
    device: str
    options: dict[str, Any]
    metrics: list[str]
    out: Path
    scratch: Path


def benchmark(
    methods: str | Sequence[str],
    pairs: str | Pair | Sequence[str | Pair],
    out: str | os.PathLike,
    *,
    workers: int | None = None,
    seeds: int | Sequence[int] = 1,
    frames: int = 7,
    size: int | tuple[int, int] | None = None,
    model: str = "embedded",
    video_model: str = "embedded",
    device: str = "auto",
    settings: dict[str, Any] | None = None,
    metrics: str | Sequence[str] = "auto",
    retry: bool = False,
    ray: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run every method on every case with every seed, measure the frames, write `out`/table.csv and return the table.

    methods: names of `interp_lib.bench.methods.METHODS`, or external:FOLDER. pairs: names of cases or of data sets
    ("world-bench:50", "calm-bench", "clip-bench", "pairs:FOLDER"; see `interp_lib.bench.datasets`), or pairs you have
    loaded. frames: between the keyframes. size: in px, None is the data set's own. settings: options for all methods
    that take them, such as {"steps": 20}. metrics: as in `evaluate`. workers, ray: as in `sweep`.
    The table has one row per item; a method that raises is a row with status "failed" and the reason. The result of an
    item lies in `out`/items under a hash of all that it depends on (method, case, seed, settings, weights, VERSION),
    its frames, side by side, in `out`/frames. It is not computed again, whichever call did it, unless it failed or
    lacked a network ("n/a: weights") and `retry` is set.
    Raises ValueError or FileNotFoundError, before any work, for a name or a number that does not fit.
    """
    chosen, cases = [find_method(name) for name in _as_list(methods)], _list_cases(pairs)
    if not chosen or not cases:
        raise ValueError("there is nothing to do: name one method and one pair at least.")
    if not isinstance(out, (str, os.PathLike)) or not os.fspath(out):
        raise ValueError(f"out={out!r} is no folder: name one for the results.")
    for name, source in (("model", model), ("video_model", video_model)):
        if not isinstance(source, (str, os.PathLike)):
            raise ValueError(f"{name}={source!r}: give 'embedded', a diffusers folder, or a hub name.")
    folder, models = Path(out).resolve(), {"image": os.fspath(model), "video": os.fspath(video_model)}
    run = Settings(
        frames=check_int("frames", frames, 1),
        size=None if size is None else check_size("size", size, 8),
        models=models,
        device=device,
        options=_check_options(settings, chosen),
        metrics=check_metrics(metrics),
        out=folder,
        scratch=folder / "scratch" / content_hash(weights_hash("image", models["image"])),
    )
    if isinstance(seeds, Iterable):
        seeds = [check_int("seeds", seed, 0, 2**63 - 1) for seed in seeds]
    else:
        seeds = range(check_int("seeds", seeds, 1))
    workers = None if workers is None else check_int("workers", workers, 1)
    for pair in cases:
        if isinstance(pair, Pair) and pair.frames is not None and (count := len(pair.frames)) != frames + 2:
            rule = f"ask for frames={count - 2}, or set its .frames to None"
            raise ValueError(f"{pair.name} has {count} true frames, both ends included: {rule}.")
    if ray is None:  # the machines of a cluster have devices and folders of their own
        pick_device(device)
        for kind in {method.kind for method in chosen} - {None}:
            find_folder(models[kind], embedded=kind)

    items = _plan(chosen, cases, seeds, run)
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    if retry:
        _remove_failed(folder / "items", items)
    shown = {"describe": lambda row: f"{row['method']} on {row['case']}: {row['status']}", "progress": progress}
    options = {"workers": workers, "ray": ray, "device": device, "label": "benchmark"}
    table = pd.DataFrame(sweep(_measure, items, folder / "items", **options, **shown))
    with atomic_write(folder / "table.csv") as temporary:
        table.drop(columns=COST, errors="ignore").to_csv(temporary, index=False)
    return table


def _plan(methods: list[Method], cases: list[str | Pair], seeds: Iterable[int], run: Settings) -> dict[str, tuple]:
    """Return the arguments of `_measure` for every item, under a hash of all that its result depends on."""
    networks = {}
    for kind in {method.kind for method in methods} - {None}:  # by the weights and the model's own recommendations
        source = run.models[kind]
        folder = EMBEDDED / kind if source == "embedded" else Path(source)
        networks[kind] = weights_hash(kind, source), read_settings(folder)
    items = {}
    for method, (case, case_hash), seed in product(methods, zip(cases, case_hashes(cases), strict=True), seeds):
        options = {name: value for name, value in run.options.items() if name in method.takes()} | method.options
        own = (method.name, options, networks.get(method.kind), method.brings(_name(case)))
        key = content_hash(VERSION, case_hash, seed, run.frames, run.size, run.metrics, *own)
        items[key] = (key, method.name, case, seed, run)
    return items


def _measure(key: str, name: str, source: str | Pair, seed: int, run: Settings) -> dict[str, Any]:
    """Return the row of one item. Whatever a method raises becomes a row, so that it stops no other item."""
    row = {"method": name, "case": _name(source), "seed": seed, "status": "ok", "reason": "", "file": key}
    try:
        case = Case(source) if isinstance(source, Pair) else load_case(source, frames=run.frames, size=run.size)
        method = find_method(name)
        model = load_model(method.kind, run.models[method.kind], run.device) if method.kind else None
        options = {"device": run.device, "scratch": str(run.scratch)} | run.options
        start = time.perf_counter()
        result = method.run(model, case.pair, frames=run.frames, seed=seed, settings=options)
        seconds = time.perf_counter() - start
        values = evaluate_case(result, case, frames=run.frames, metrics=run.metrics)
        with atomic_write(run.out / "frames" / f"{key}.png") as temporary:  # before the row: what is there is whole
            to_pil(torch.cat(list(result.frames.float().clamp(0, 1)), dim=2)).save(temporary, "png")
    except Exception as error:
        full = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
        reason = MEMORY if full else " ".join(str(error).split()) or type(error).__name__
        return row | {"status": "failed", "reason": reason}
    return row | case.tags | values | {"seconds": seconds, "device": run.device}


def evaluate_case(result: Interpolation, case: Case, *, frames: int, metrics: list[str]) -> dict[str, Any]:
    """Return the measures of a method's result on a case, rounded to six digits, and its notes.

    Warping errors take the true flow where the case has one, else TV-L1. epe, pck: of the flow that the method used, on
    the visible foreground pixels, where both it and the truth are known.
    """
    images, pair = result.frames.float().cpu(), case.pair
    expected = (frames + 2, *pair.image0.shape[1:])
    if tuple(images.shape) != expected or not bool(torch.isfinite(images).all()):
        raise ValueError(f"a method must return finite frames {expected}, both ends included: got {images.shape}.")
    keyframes, truth = torch.cat([pair.image0, pair.image1]), {"reference": pair.frames, "flow": case.flow or "tvl1"}
    known = {"moving": case.moving, "ground": case.ground, "facing": case.facing}
    values = evaluate(images, endpoints=keyframes, metrics=metrics, **truth, **known)
    flows = (result.flow01, pair.flow01, pair.visible01, pair.actor0)
    if all(x is not None for x in flows) and (counted := pair.visible01 & pair.actor0).any():
        used = resize_flow(result.flow01.float().cpu(), tuple(pair.flow01.shape[-2:]))
        values["epe"] = float(end_point_error(used, pair.flow01)[counted].mean())
        values["pck"] = pck(used, pair.flow01, counted)
    values["unet_calls"] = result.unet_calls
    return round_digits(values) | {"notes": " ".join([*pair.notes, *result.notes])}


def _name(case: str | Pair) -> str:
    return case if isinstance(case, str) else case.name


def _as_list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, Iterable) and not isinstance(x, str) else [x]


def _list_cases(pairs: Any) -> list[str | Pair]:
    cases: list[str | Pair] = []
    for entry in _as_list(pairs):
        if not isinstance(entry, (str, Pair)):
            raise ValueError(f"{entry!r} is no case: give the name of one or of a data set, or a Pair.")
        cases += list_cases(entry) if isinstance(entry, str) else [entry]
    return cases


def _check_options(settings: dict[str, Any] | None, methods: list[Method]) -> dict[str, Any]:
    options, known = {} if settings is None else settings, set().union(*(method.takes() for method in methods))
    if not isinstance(options, dict):
        raise ValueError(f"settings={settings!r}: give a dictionary of options, such as {{'steps': 20}}.")
    if unknown := sorted(set(options) - known):
        raise ValueError(f"settings has {unknown[0]!r}, which none of these methods takes: they take {sorted(known)}.")
    if not all(isinstance(value, (str, int, float, bool, type(None))) for value in options.values()):
        raise ValueError(f"settings={options!r}: give numbers, texts and switches only, which name a result on disk.")
    return options


def _remove_failed(folder: Path, names: Iterable[str]) -> None:
    """Remove the results that `retry` is to compute again: failures, and measures that lacked a package or weights."""
    for path in (folder / f"{name}.json" for name in names):
        if path.is_file():
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["status"] == "failed" or any(str(x).startswith(("n/a: weights", "n/a: pip")) for x in row.values()):
                path.unlink()
