"""Methods x cases x seeds, every result on disk as soon as it is made: interrupted, it goes on where it was."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp_lib.bench.cases import Case
from interp_lib.bench.datasets import list_cases
from interp_lib.bench.evaluate import check_metrics
from interp_lib.bench.fingerprint import weights_hash
from interp_lib.bench.marks import case_marks, file_mark
from interp_lib.bench.methods import Method, find_method
from interp_lib.bench.results import Results
from interp_lib.bench.work import Item, Settings, run_items
from interp_lib.checks import check_int, check_size
from interp_lib.files import atomic_write, remove_stale_temporaries
from interp_lib.models.folder import find_folder, pick_device
from interp_lib.types import Pair

VERSION = 1  # raised when a change of the code changes a digit of the results: those on disk are then made again
FIRST = ("method", "case", "seed", "status", "reason")  # columns of the table, before the measures


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
) -> Results:
    """Run every method on every case with every seed, measure the frames, and write `out`/table.csv.

    methods: names of `interp_lib.bench.methods.METHODS`, or external:FOLDER. pairs: names of cases or of data sets
    ("world-bench:50", "calm-bench", "clip-bench", "pairs:FOLDER"; see `interp_lib.bench.datasets`), or pairs you have
    loaded. frames: between the ends. size: in px, None is the data set's own. settings: options for all methods that
    take them, such as {"steps": 20, "inversion_steps": 14}. metrics: as in `evaluate`. save_frames: keep the frames of
    every item, side by side, in `out`/frames. workers: processes on this machine, None is this one alone; a script that
    asks for more needs `if __name__ == "__main__":`. ray: address of a Ray cluster, "auto" or "local"; one worker a
    GPU.
    An item's result lies in `out`/items under a name that depends on what it is made from: method, case, seed,
    settings, weights and VERSION. An item that is there is not made again, whoever made it; a failed one keeps its
    reason
    and is only tried again with `retry`, as is one whose network was not to be had ("n/a: weights"). The number and
    kind of workers change no digit of the table.
    Returns the table. Raises ValueError, before any work, for a name or a number that does not fit.
    """
    how = {"seeds": seeds, "frames": frames, "size": size, "model": model, "video_model": video_model}
    how |= {"device": device, "settings": settings, "metrics": metrics, "save_frames": save_frames}
    items, told = plan(methods, pairs, **how)
    if ray is None:  # on a cluster the workers know
        _check_machine(items, told)
    if not isinstance(out, (str, os.PathLike)) or not os.fspath(out):
        raise ValueError(f"out={out!r} is no folder: name one for the results.")
    folder, workers = Path(out), None if workers is None else check_int("workers", workers, 1)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out={str(out)!r} is a file: name a folder for the results.")
    store = _Store(folder)
    waiting = [item for item in {x.digest: x for x in items}.values() if not store.has(item, retry=retry)]
    shared = replace(told, scratch=str(_scratch(folder, told)))
    for digest, row, strip in run_items(waiting, shared, workers=workers, ray=ray, progress=progress):
        store.keep(digest, row, strip)
    return _write_table(folder, [store.row(item) for item in items], told)


def plan(
    methods: str | Sequence[str],
    pairs: str | Pair | Case | Sequence[str | Pair | Case],
    *,
    seeds: int | Sequence[int] = 1,
    frames: int = 7,
    size: int | tuple[int, int] | None = None,
    model: str = "embedded",
    video_model: str = "embedded",
    device: str = "auto",
    settings: dict[str, Any] | None = None,
    metrics: str | Sequence[str] = "auto",
    save_frames: bool = True,
) -> tuple[list[Item], Settings]:
    """What `benchmark` would do with these arguments: the items, in the order of the table, and what they share."""
    several = isinstance(methods, Iterable) and not isinstance(methods, str)
    chosen = [find_method(name) for name in (methods if several else [methods])]
    cases = _cases(pairs)
    frames, numbers = check_int("frames", frames, 1), _seeds(seeds)
    if not isinstance(settings, (dict, type(None))):
        raise ValueError(f"settings={settings!r}: give a dictionary of options, such as {{'steps': 20}}.")
    for name, source in (("model", model), ("video_model", video_model)):
        if not isinstance(source, (str, os.PathLike)):
            raise ValueError(f"{name}={source!r}: give 'embedded', a diffusers folder, or a hub name.")
    shared = dict(settings or {})
    known = set().union(*(method.takes() for method in chosen))
    if unknown := sorted(set(shared) - known):
        raise ValueError(f"settings has {unknown[0]!r}, which none of these methods takes: they take {sorted(known)}.")
    if not chosen or not cases:
        raise ValueError("there is nothing to do: name one method and one pair at least.")
    if not all(isinstance(value, (str, int, float, bool, type(None))) for value in shared.values()):
        raise ValueError(f"settings={shared!r}: give numbers, texts and switches only, by which a result can be known.")
    size, metrics = None if size is None else check_size("size", size, 8), check_metrics(metrics)
    for pair in (_pair(case) for case in cases if not isinstance(case, str)):
        if pair.frames is not None and len(pair.frames) != frames + 2:
            raise ValueError(
                f"{pair.name} has {len(pair.frames)} true frames, both ends included: ask for frames="
                f"{len(pair.frames) - 2}, or set its .frames to None."
            )
    how = Settings(frames, size, {"image": model, "video": video_model}, device, shared, metrics, save_frames)
    marked = list(zip(cases, case_marks(cases), strict=True))
    return [_item(method, *case, seed, how) for method in chosen for case in marked for seed in numbers], how


def _check_machine(items: list[Item], how: Settings) -> None:
    """ValueError or FileNotFoundError for a device or a model that no item could be made with here."""
    pick_device(how.device)
    for kind in {find_method(item.method).kind for item in items} - {None}:
        find_folder(how.models[kind], embedded=kind)


def _scratch(folder: Path, how: Settings) -> Path:
    """For what items share: another folder for other weights and another version."""
    made_by = [weights_hash("image", how.models["image"]), str(VERSION)]
    return folder.resolve() / "scratch" / hashlib.sha256("".join(made_by).encode()).hexdigest()[:16]


def _cases(pairs: Any) -> list[str | Pair | Case]:
    listed = [pairs] if isinstance(pairs, (str, Pair, Case)) or not isinstance(pairs, Iterable) else list(pairs)
    names: list[str | Pair | Case] = []
    for entry in listed:
        if not isinstance(entry, (str, Pair, Case)):
            raise ValueError(f"{entry!r} is no case: give the name of one or of a data set, or a Pair.")
        names += list_cases(entry) if isinstance(entry, str) else [entry]
    return names


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, (list, tuple, range)) and seeds:
        return [check_int("seeds", seed, 0, 2**63 - 1) for seed in seeds]
    return list(range(check_int("seeds", seeds, 1)))


def _item(method: Method, case: str | Pair | Case, mark: str, seed: int, how: Settings) -> Item:
    """What to make, and the name of its result, which depends on everything that the result depends on."""
    taken = {name: value for name, value in how.shared.items() if name in method.takes()} | method.options
    weights = weights_hash(method.kind, how.models[method.kind]) if method.kind else ""
    brought = [file_mark(path) for path in method.brings(case if isinstance(case, str) else _pair(case).name)]
    parts = [VERSION, method.name, mark, seed, how.frames, how.size, how.metrics, taken, weights, brought]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return Item(method.name, case, seed, digest)


def _pair(case: Pair | Case) -> Pair:
    return case.pair if isinstance(case, Case) else case


@dataclass
class _Store:
    """Results on disk, one JSON file an item, written whole or not at all."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("items", "frames"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            remove_stale_temporaries(self.folder / name)

    def path(self, digest: str) -> Path:
        return self.folder / "items" / f"{digest}.json"

    def has(self, item: Item, *, retry: bool) -> bool:
        if not self.path(item.digest).is_file() or not retry:
            return self.path(item.digest).is_file()
        row = self.row(item)
        lacking = any(str(value).startswith(("n/a: weights", "n/a: pip")) for value in row.values())
        return row["status"] != "failed" and not lacking

    def row(self, item: Item) -> dict[str, Any]:
        return json.loads(self.path(item.digest).read_text(encoding="utf-8"))

    def keep(self, digest: str, row: dict[str, Any], strip: bytes | None) -> None:
        if strip is not None:  # first, so that an item that is there has its frames
            with atomic_write(self.folder / "frames" / f"{digest}.png") as temporary:
                temporary.write_bytes(strip)
        with atomic_write(self.path(digest)) as temporary:
            temporary.write_text(json.dumps(row, indent=1), encoding="utf-8")


def _write_table(folder: Path, rows: list[dict[str, Any]], how: Settings) -> Results:
    """table.csv with the measures; cost.csv with the seconds, which no two runs share; settings.json."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    rows = [{name: row.get(name) for name in names} for row in rows]
    cost = [name for name in names if name in ("seconds", "device", "file")]
    columns = [*FIRST, *(name for name in names if name not in (*FIRST, *cost))]
    for name, chosen in (("table.csv", columns), ("cost.csv", [*FIRST[:3], *cost])):
        text = io.StringIO()
        writer = csv.DictWriter(text, chosen, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
    with atomic_write(folder / "settings.json") as temporary:
        temporary.write_text(json.dumps(how.about(), indent=1, default=str) + "\n", encoding="utf-8")
    return Results(f"{len(rows)} items, {how.frames} frames between", rows)
