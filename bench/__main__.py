"""`./dev bench`: all measurements in one go, a report in Markdown and in JSON."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path

from bench import admission, calls, history, live, media, pushes
from bench.report import Section, machine, write
from huibo.engine.install.resolve import resolve

_PARTS = ("calls", "admission", "pushes", "live", "history", "media")
_QUICK = ("calls", "admission", "pushes")


async def run(quick: bool, parts: list[str], turns: int) -> list[Section]:
    asterisk = resolve()
    sections = []
    folder = Path(tempfile.mkdtemp(prefix="huibo-bench-"))
    try:
        for part in parts:
            if part == "calls":
                sections.append(await calls.measure(asterisk, folder / part, quick, turns))
            elif part == "admission":
                sections.append(await admission.measure(folder / part, quick))
            elif part == "live":
                sections.append(await live.measure(folder / part, quick))
            elif part == "media":
                sections.append(await media.measure(asterisk, folder / part, quick))
            elif part == "history":
                sections.append(await history.measure(folder / part, quick))
            elif part == "pushes":
                sections.append(await pushes.measure(folder / part, quick))
            print(sections[-1].markdown(), flush=True)
    finally:
        shutil.rmtree(folder)
    return sections


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
    sections = asyncio.run(run(options.quick, list(parts), options.turns))
    text, data = write(sections, machine(), options.to)
    print(f"written: {text}, {data}")


if __name__ == "__main__":
    main()
