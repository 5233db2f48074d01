"""One progress bar for a run of several stages, each of which shows a bar of its own when it is called alone."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm

PERCENT = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
_run: ContextVar[tuple[tqdm, dict[str, float]] | None] = ContextVar("run", default=None)


@contextmanager
def one_bar(stages: Sequence[tuple[str, int, float]], *, shown: bool) -> Iterator[None]:
    """Show one bar within the block, which every `track` of a stage moves.

    stages: name, how often the run calls it, and what one call costs, in any unit that is the same for all.
    """
    cost = {name: one for name, _, one in stages}
    total = sum(calls * one for _, calls, one in stages)
    with tqdm(total=total, bar_format=PERCENT, disable=not shown) as bar:
        token = _run.set((bar, cost))
        try:
            yield
        finally:
            _run.reset(token)


def track(items: Iterable[Any], stage: str, count: int, *, shown: bool) -> Iterator[Any]:
    """Yield `count` items and move the bar: the run's if there is one, else one of their own."""
    if (run := _run.get()) is None:
        yield from tqdm(items, total=count, desc=stage, disable=not shown or not count)
        return
    bar, cost = run
    bar.set_description(stage)
    for item in items:
        yield item
        bar.update(cost.get(stage, 0) / count)
