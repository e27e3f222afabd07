"""Shows on a terminal how far a prefix is. Owns no state of the installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from huibo.engine.install.prefix import OnProgress, Progress

_WORDS = {
    "wait": "waiting for another huibo that fetches {what}",
    "lists": "looking for {what}",
    "download": "fetching {what}",
    "unpack": "unpacking {what}",
}


@contextmanager
def shown(console: Console, what: str = "Asterisk") -> Iterator[OnProgress]:
    """A listener for `prefix.ensure` and `resolve`; draws nothing before there is something to do.

    On a terminal one bar a stage, gone at the end; elsewhere one line a stage.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"))
    bars = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
    stage: list[str] = []

    def show(progress: Progress) -> None:
        if stage[-1:] != [progress.stage]:
            stage.append(progress.stage)
            words = _WORDS[progress.stage].format(what=what)
            if not console.is_terminal:
                console.print(f"{words} …", highlight=False)
            for task in bars.task_ids:
                bars.remove_task(task)
            bars.start()
            bars.add_task(words, total=None, amount="")
        if progress.total:
            bars.update(
                bars.task_ids[-1], completed=progress.done, total=progress.total, amount=_amount(progress)
            )

    try:
        yield show
    finally:
        bars.stop()


def _amount(progress: Progress) -> str:
    if progress.stage == "download":
        return f"{progress.done // 10**6} of {progress.total // 10**6} MB"
    return f"{progress.done} of {progress.total} packages"
