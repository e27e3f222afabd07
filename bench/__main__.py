"""`./dev bench`: all measurements in one go, a report in Markdown and in JSON."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench import admission, calls, history, live, media, pushes
from bench.report import Section, machine, write
from huibo.engine.install.resolve import resolve

_PARTS = ("calls", "admission", "pushes", "live", "history", "media")
_QUICK = ("calls", "admission", "pushes")


async def run(quick: bool, parts: Sequence[str], turns: int, to: Path) -> tuple[Path, Path]:
    """Write the report anew after each part: a run that is ended early leaves what it has measured."""
    asterisk = resolve()
    sections = list[Section]()
    folder = Path(tempfile.mkdtemp(prefix="huibo-bench-"))
    measures: dict[str, Callable[[Path], Awaitable[Section]]] = {
        "calls": lambda own: calls.measure(asterisk, own, quick, turns),
        "admission": lambda own: admission.measure(own, quick),
        "pushes": lambda own: pushes.measure(own, quick),
        "live": lambda own: live.measure(own, quick),
        "history": lambda own: history.measure(own, quick),
        "media": lambda own: media.measure(asterisk, own, quick),
    }
    try:
        for part in parts:
            sections.append(await measures[part](folder / part))
            shutil.rmtree(folder / part, ignore_errors=True)
            print(sections[-1].markdown(), flush=True)
            written = write(sections, machine(), to)
    finally:
        shutil.rmtree(folder)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"small, in less than a minute: {', '.join(_QUICK)}"
    )
    parser.add_argument("--only", choices=_PARTS, action="append", help="these parts only")
    parser.add_argument("--turns", type=int, default=3, help="of the whole calls; medians are told")
    parser.add_argument("--to", type=Path, default=Path("bench-report"), help="the folder of the report")
    options = parser.parse_args()
    parts = options.only or (_QUICK if options.quick else _PARTS)
    text, data = asyncio.run(run(options.quick, parts, options.turns, options.to))
    print(f"written: {text}, {data}")


if __name__ == "__main__":
    main()
