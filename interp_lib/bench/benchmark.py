"""Methods x cases x seeds, measured and written to one table; interrupted, the same call goes on where it was."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from interp_lib.bench.cases import Case
from interp_lib.bench.content_hash import case_hashes, content_hash, weights_hash
from interp_lib.bench.datasets import list_cases, load_case
from interp_lib.bench.evaluate import check_metrics
from interp_lib.bench.evaluate_case import evaluate_case
from interp_lib.bench.methods import Method, find_method
from interp_lib.bench.sweep import load_model, sweep
from interp_lib.checks import check_int, check_size
from interp_lib.files import atomic_write
from interp_lib.models.folder import EMBEDDED, find_folder, pick_device, read_settings
from interp_lib.types import Pair

VERSION = 1  # raise it when a change of the code changes a digit: results on disk are then computed again
FIRST = ["method", "case", "seed", "status", "reason"]  # columns of the table, before the measures
COST = ["seconds", "device"]  # what no two runs share: beside the table, not in it


@dataclass(frozen=True)
class Settings:
    """What all items of a benchmark share.

    options: of the methods. out: folder of the results. scratch: folder for what the items of one case share, such as a
    LoRA; it changes their time and nothing else.
    """

    frames: int
    size: int | tuple[int, int] | None
    models: dict[str, str]
    device: str
    options: dict[str, Any]
    metrics: list[str]
    save_frames: bool
    out: Path
    scratch: Path


def benchmark(
    methods: str | Sequence[str],
    pairs: str | Pair | Case | Sequence[str | Pair | Case],
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
    save_frames: bool = True,
    retry: bool = False,
    ray: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run every method on every case with every seed, measure the frames, write `out`/table.csv and return the table.

    methods: names of `interp_lib.bench.methods.METHODS`, or external:FOLDER. pairs: names of cases or of data sets
    ("world-bench:50", "calm-bench", "clip-bench", "pairs:FOLDER"; see `interp_lib.bench.datasets`), or pairs you have
    loaded. frames: between the keyframes. size: in px, None is the data set's own. settings: options for all methods
    that take them, such as {"steps": 20}. metrics: as in `evaluate`. save_frames: write the frames of every item, side
    by side, to `out`/frames. workers, ray: as in `sweep`.
    The table has one row per item; a method that raises is a row with status "failed" and the reason. The result of an
    item lies in `out`/items under a hash of all that it depends on: method, case, seed, settings, weights, VERSION. It
    is not computed again, whichever call did it, unless it failed or lacked a network ("n/a: weights") and `retry` is
    set. Seconds and device of each item are in `out`/cost.csv.
    Raises ValueError or FileNotFoundError, before any work, for a name or a number that does not fit.
    """
    several = isinstance(methods, Iterable) and not isinstance(methods, str)
    chosen = [find_method(name) for name in (methods if several else [methods])]
    cases, seed_list = _list_cases(pairs), _list_seeds(seeds)
    if not chosen or not cases:
        raise ValueError("there is nothing to do: name one method and one pair at least.")
    if not isinstance(out, (str, os.PathLike)) or not os.fspath(out):
        raise ValueError(f"out={out!r} is no folder: name one for the results.")
    if Path(out).is_file():
        raise ValueError(f"out={str(out)!r} is a file: name a folder for the results.")
    for name, source in (("model", model), ("video_model", video_model)):
        if not isinstance(source, (str, os.PathLike)):
            raise ValueError(f"{name}={source!r}: give 'embedded', a diffusers folder, or a hub name.")
    models = {"image": os.fspath(model), "video": os.fspath(video_model)}
    folder = Path(out).resolve()
    run = Settings(
        frames=check_int("frames", frames, 1),
        size=None if size is None else check_size("size", size, 8),
        models=models,
        device=device,
        options=_check_options(settings, chosen),
        metrics=check_metrics(metrics),
        save_frames=save_frames,
        out=folder,
        scratch=folder / "scratch" / content_hash(weights_hash("image", models["image"])),
    )
    workers = None if workers is None else check_int("workers", workers, 1)
    _check_true_frames(cases, frames)
    if ray is None:  # the machines of a cluster have devices and folders of their own
        pick_device(device)
        for kind in {method.kind for method in chosen} - {None}:
            find_folder(run.models[kind], embedded=kind)

    hashes = case_hashes(cases)
    items = {
        (key := _item_hash(method, case, case_hash, seed, run)): (key, method.name, case, seed, run)
        for method in chosen
        for case, case_hash in zip(cases, hashes, strict=True)
        for seed in seed_list
    }
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    if retry:
        _remove_failed(folder / "items", items)
    shown = {"label": "benchmark", "describe": _describe, "progress": progress}
    rows = sweep(_measure, items, folder / "items", workers=workers, ray=ray, device=device, **shown)
    table = pd.DataFrame(rows)
    _write_tables(table, folder)
    return table


def _describe(row: dict[str, Any]) -> str:
    return f"{row['method']} on {row['case']}: {row['status']}"


def _measure(key: str, name: str, case: str | Pair | Case, seed: int, run: Settings) -> dict[str, Any]:
    """Return the row of one item. Whatever a method raises becomes a row, so that it stops no other item."""
    row = {"method": name, "case": _name(case), "seed": seed, "status": "ok", "reason": "", "file": key}
    try:
        if not isinstance(case, Case):
            case = Case(case) if isinstance(case, Pair) else load_case(case, frames=run.frames, size=run.size)
        method = find_method(name)
        model = load_model(method.kind, run.models[method.kind], run.device) if method.kind else None
        options = {"device": run.device, "scratch": str(run.scratch)} | run.options
        start = time.perf_counter()
        result = method.run(model, case.pair, frames=run.frames, seed=seed, settings=options)
        seconds = time.perf_counter() - start
        values = evaluate_case(result, case, frames=run.frames, metrics=run.metrics)
        if run.save_frames:  # before the row is written, so that an item that is there has its frames
            with atomic_write(run.out / "frames" / f"{key}.png") as temporary:
                temporary.write_bytes(_png_strip(result.frames))
    except Exception as error:
        return row | {"status": "failed", "reason": " ".join(str(error).split()) or type(error).__name__}
    return row | case.tags | values | {"seconds": seconds, "device": run.device}


def _name(case: str | Pair | Case) -> str:
    return case if isinstance(case, str) else case.name


def _item_hash(method: Method, case: str | Pair | Case, case_hash: str, seed: int, run: Settings) -> str:
    options = {name: value for name, value in run.options.items() if name in method.takes()} | method.options
    source = run.models[method.kind] if method.kind else ""
    folder = EMBEDDED / method.kind if source == "embedded" else Path(source)
    model = (weights_hash(method.kind, source), read_settings(folder)) if method.kind else ()
    files = method.brings(_name(case))
    settings = (run.frames, run.size, run.metrics, options)
    return content_hash(VERSION, method.name, case_hash, seed, settings, model, files)


def _list_cases(pairs: Any) -> list[str | Pair | Case]:
    entries = [pairs] if isinstance(pairs, (str, Pair, Case)) or not isinstance(pairs, Iterable) else list(pairs)
    cases: list[str | Pair | Case] = []
    for entry in entries:
        if not isinstance(entry, (str, Pair, Case)):
            raise ValueError(f"{entry!r} is no case: give the name of one or of a data set, or a Pair.")
        cases += list_cases(entry) if isinstance(entry, str) else [entry]
    return cases


def _list_seeds(seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, (list, tuple, range)) and seeds:
        return [check_int("seeds", seed, 0, 2**63 - 1) for seed in seeds]
    return list(range(check_int("seeds", seeds, 1)))


def _check_options(settings: dict[str, Any] | None, methods: list[Method]) -> dict[str, Any]:
    if not isinstance(settings, (dict, type(None))):
        raise ValueError(f"settings={settings!r}: give a dictionary of options, such as {{'steps': 20}}.")
    options, known = dict(settings or {}), set().union(*(method.takes() for method in methods))
    if unknown := sorted(set(options) - known):
        raise ValueError(f"settings has {unknown[0]!r}, which none of these methods takes: they take {sorted(known)}.")
    if not all(isinstance(value, (str, int, float, bool, type(None))) for value in options.values()):
        raise ValueError(
            f"settings={options!r}: give numbers, texts and switches only, by which a result can be known."
        )
    return options


def _check_true_frames(cases: list[str | Pair | Case], frames: int) -> None:
    for pair in (case.pair if isinstance(case, Case) else case for case in cases if not isinstance(case, str)):
        if pair.frames is not None and len(pair.frames) != frames + 2:
            raise ValueError(
                f"{pair.name} has {len(pair.frames)} true frames, both ends included: ask for frames="
                f"{len(pair.frames) - 2}, or set its .frames to None."
            )


def _remove_failed(folder: Path, names: Iterable[str]) -> None:
    """Remove the results that `retry` is to compute again: failures, and measures that lacked a package or weights."""
    for path in (folder / f"{name}.json" for name in names):
        if path.is_file():
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["status"] == "failed" or any(str(x).startswith(("n/a: weights", "n/a: pip")) for x in row.values()):
                path.unlink()


def _write_tables(table: pd.DataFrame, folder: Path) -> None:
    measures = [name for name in table if name not in (*FIRST, *COST, "file")]
    cost = [*FIRST[:3], *(name for name in COST if name in table), "file"]
    for name, columns in (("table.csv", [*FIRST, *measures]), ("cost.csv", cost)):
        with atomic_write(folder / name) as temporary:
            table.to_csv(temporary, columns=columns, index=False)


def _png_strip(frames: Tensor) -> bytes:
    """Encode frames side by side as an 8-bit PNG: what a picture or a distance between sets needs later."""
    pixels = torch.cat(list(frames.float().cpu()), dim=2).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "png")
    return file.getvalue()
