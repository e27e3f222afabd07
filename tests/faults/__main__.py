"""`./dev faults`: real calls while everything around them breaks, and then: what did that do to them?

`--minutes N` goes on for so long, `--calls N --faults N` until that many are done. `--examine FILE` looks
again at what an earlier run kept.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from rich.console import Console

from huibo.stack.stack import Stack
from huibo.storage.database import open_engine
from huibo.storage.tables import metadata
from tests.faults import report
from tests.faults.checker import check
from tests.faults.disk import let_go_below, part_from_others
from tests.faults.evidence import Evidence
from tests.faults.nemesis import KINDS
from tests.faults.run import Budget, Run, asterisk
from tests.faults.world import World, database_url

_PER_SECOND = 1.2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev faults", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long there are faults; default: 5")
    parser.add_argument("--calls", type=int, default=0, help="at least so many")
    parser.add_argument("--faults", type=int, help="so many, whatever it takes")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", action="append", help="faults whose names begin so; may be repeated")
    parser.add_argument("--without", action="append", help="no faults whose names begin so")
    parser.add_argument("--rate", type=float, default=_PER_SECOND, help="calls asked for in a second")
    parser.add_argument(
        "--linger", type=float, default=120, help="seconds until calls are cancelled at the end"
    )
    parser.add_argument("--brisk", action="store_true", help="all as short and as dense as still counts")
    parser.add_argument("--keep", action="store_true", help="keep the evidence also without violations")
    parser.add_argument("--list", action="store_true", help="name the faults")
    parser.add_argument("--examine", type=Path, metavar="FILE", help="the evidence.json of an earlier run")
    return parser.parse_args()


def main() -> int:
    asked, console = arguments(), Console(width=150)
    if asked.list:
        print("\n".join(kind.name for kind in KINDS))
        return 0
    if asked.examine is not None:
        return examine(console, Evidence.load(asked.examine))
    own_mounts = part_from_others()
    if not own_mounts:
        console.print("no right to mount here: the recording disk is not filled up", style="yellow")
    print(f"seed {asked.seed}, {asked.database}", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="huibo-faults-"))
    folder.chmod(0o711)
    keep = True  # whatever goes wrong here is to be looked at
    try:
        with database_url(asked.database) as url:
            code, keep = asyncio.run(play(console, asked, folder, url, own_mounts))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped")
        code = 130
    finally:
        if keep:
            console.print(f"kept in {folder}", soft_wrap=True)
        else:
            let_go_below(folder)
            shutil.rmtree(folder, ignore_errors=True)
    console.print(f"seed {asked.seed}")
    return code


async def play(
    console: Console, asked: argparse.Namespace, folder: Path, url: str | None, own_mounts: bool
) -> tuple[int, bool]:
    """The exit code, and whether the evidence is to be kept."""
    minutes = None if asked.faults is not None else asked.minutes or 5
    budget = Budget(
        None if minutes is None else minutes * 60,
        asked.calls,
        asked.faults or 0,
        asked.rate,
        asked.linger,
        asked.brisk,
    )
    kinds = [kind for kind in KINDS if wanted(kind.name, asked.only, asked.without)]
    # as Ctrl-C does: nothing of this run may be left behind
    current = asyncio.current_task()
    assert current is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    world = World(await asterisk(), folder, url, Random(f"{asked.seed} receivers"), own_mounts)
    try:
        async with world:
            run = Run(world, asked.seed, budget, kinds)
            evidence = await run.play()
            code = await asyncio.to_thread(examine, console, evidence)
            for bad in filter(None, (run.unsettled, *run.deaths)):
                console.print(bad, style="bold red", soft_wrap=True)
                code = 1
            keep = bool(code) or asked.keep
            if keep:
                await asyncio.to_thread(keep_evidence, world.stack, evidence)
    except BaseException:
        keep_disks(world.stack)
        raise
    return code, keep


def examine(console: Console, evidence: Evidence) -> int:
    """Ask the checker, tell what it found. 1 when something is broken."""
    violations = check(evidence)
    report.tell(console, evidence, violations)
    return 1 if violations else 0


def wanted(name: str, only: Sequence[str] | None, without: Sequence[str] | None) -> bool:
    return (not only or name.startswith(tuple(only))) and not name.startswith(tuple(without or ()))


def keep_evidence(stack: Stack, evidence: Evidence) -> None:
    """All of it in the run folder: what lies on disks or in a server of this run goes with them."""
    recordings = keep_disks(stack)
    database = stack.folder / "evidence.sqlite3"
    source, target = open_engine(evidence.database_url), open_engine(f"sqlite:///{database}")
    metadata.create_all(target)
    with source.connect() as from_it, target.begin() as into:
        into.exec_driver_sql("PRAGMA foreign_keys = OFF")
        for table in metadata.sorted_tables:
            rows = [dict(row) for row in from_it.execute(table.select()).mappings()]
            if rows:
                into.execute(table.insert(), rows)
    for engine in (source, target):
        engine.dispose()
    kept = replace(evidence, database_url=f"sqlite:///{database}", recordings=recordings)
    kept.save(stack.folder / "evidence.json")


def keep_disks(stack: Stack) -> Path:
    """A copy of what is on the disks of recordings; where the finished ones are."""
    for name in ("recordings", "recordings-raw"):
        if (stack.folder / name).is_dir():
            shutil.copytree(stack.folder / name, stack.folder / f"kept-{name}", dirs_exist_ok=True)
    return stack.folder / "kept-recordings"


if __name__ == "__main__":
    sys.exit(main())
