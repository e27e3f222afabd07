"""`huibo up`: a whole huibo to play with and to test against, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from rich.console import Console
from rich.table import Table

from huibo.engine.install import progress
from huibo.engine.install.resolve import resolve
from huibo.engine.install.settings import install_settings
from huibo.sandbox import phones
from huibo.stack.stack import Stack


def prepare(console: Console, http_port: int | None = None) -> Stack:
    """Find or fetch Asterisk and write a run folder; says what is used. Raises `InstallError`."""
    settings = install_settings()
    with progress.shown(console) as show:
        asterisk = resolve(settings, show)
    console.print(f"Asterisk {asterisk.version} ({asterisk.origin})", style="dim")
    return Stack.create(asterisk, settings.cache, http_port)


async def up(console: Console, ready_file: Path | None, http_port: int | None) -> None:
    """Start everything, say how to use it, keep it alive until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    stack = await asyncio.to_thread(prepare, console, http_port)
    stack.on_event = lambda text: console.print(text, style="yellow")
    if stop.is_set():
        return
    async with stack:
        stack.supervise()
        if ready_file is not None:
            stack.announce(ready_file)
        _explain(console, stack)
        await stop.wait()
        console.print("stopping …", style="dim")


def curl(stack: Stack) -> str:
    """A command to paste: a call between two sandbox phones."""
    body = '{"appId":"demo","requestId":"hello","src":"008613800138000","dst":"008613900139001"}'
    return f"curl -s '{stack.base_url}/201511v3/callBack?id=demo' -d '{body}'"


def _explain(console: Console, stack: Stack) -> None:
    console.print(f"\nhuibo answers at [bold]{stack.base_url}[/]")
    console.print(f"run folder {stack.folder}", style="dim", soft_wrap=True, markup=False)
    console.print("\nPaste this to have two sandbox phones talk to each other:\n")
    console.print(f"  {curl(stack)}\n", soft_wrap=True, style="bold green", markup=False)
    table = Table("last digits", "the phone", "这部电话", title="Sandbox numbers, e.g. 0086138001380[b]05[/]")
    for row in phones.describe():
        table.add_row(*row)
    console.print(table)
    console.print("`./dev cli app list` talks to this instance. Ctrl-C stops everything.\n", markup=False)
