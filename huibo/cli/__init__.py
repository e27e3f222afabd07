"""The command line: `huibo serve`, a whole stack to try, and what an operator does.

Every change goes through the same units of work as everywhere else. A command's module is imported when it
is called, so that the others start fast. Exit codes: 0 done, 1 it could not be done (one line says why and
what to do), 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import gc
import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from huibo import __version__
from huibo.cli.output import Failed, complain, say

# By name: the module, and what it is for.
_GROUPS = {
    "app": ("apps", "Applications: who may call."),
    "number": ("numbers", "Display numbers: what phones show."),
    "trunk": ("trunks", "Trunks: SIP lines to carriers."),
    "rate": ("rates", "Rates: what calls cost."),
    "account": ("accounts", "Accounts: what apps have paid and used."),
    "blacklist": ("blacklist", "The blacklist: numbers that are not called, or do not call."),
    "lock": ("locks", "Locks: what may not call for a time."),
    "push": ("pushes", "Pushes: what customers were told, or were not."),
    "recording": ("recordings", "Recordings: what became of them."),
    "secret": ("secrets", "Secrets that pushes are signed with."),
    "token": ("tokens", "Tokens of the operators' API."),
}
_COMMANDS = {
    "call": ("call", "Place a call through the running server and follow it."),
    "check": ("check", "Say what would become of a call; nobody is rung."),
    "calls": ("calls", "Look for calls, or at one."),
    "audit": ("audit", "Who changed what, the newest first."),
    "health": ("health", "How the running server and its trunks are."),
    "drain": ("drain", "Have a cell take no more calls, and wait until it has none."),
    "asterisk": ("asterisk", "Make an Asterisk ready for this huibo."),
    "doctor": ("doctor", "Examine the installation from end to end and say what to repair."),
    "backup": ("backup", "Write the database to a file, while calls go on."),
    "restore": ("restore", "Make the database what it was when a backup was written."),
}


class _Later(TyperGroup):
    """A command that is imported when it is called."""

    def __init__(self, name: str, module: str, text: str, group: bool) -> None:
        super().__init__(name=name, help=text)
        self._module = module
        self._group = group

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        commands = import_module(f"huibo.cli.{self._module}").commands
        command = get_group(commands) if self._group else get_command(commands)
        return command.make_context(info_name, args, parent, **extra)


class _Root(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for table in (_GROUPS, _COMMANDS):
            for name, (module, text) in table.items():
                self.add_command(_Later(name, module, text, table is _GROUPS))


cli = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Self-hosted click-to-call on your own SIP trunk.",
)


def main() -> None:
    """Entry point: turns every expected failure into one line and an exit code."""
    try:
        cli()
    except Failed as error:
        complain(str(error))
        raise SystemExit(1) from None


@cli.callback()
def root(
    instance: Annotated[
        str | None,
        typer.Option(
            envvar="HUIBO_INSTANCE", help='"newest": talk to the stack that `huibo up` started last.'
        ),
    ] = None,
) -> None:
    if instance is None:
        return
    if instance != "newest":
        raise Failed(f'--instance {instance}: only "newest" is known; set HUIBO_CONFIG for another one')
    from huibo.engine.install.settings import install_settings
    from huibo.stack import folders

    folder = folders.newest(install_settings().cache)
    if folder is None:
        raise Failed("no stack is running here: start one with ./dev up")
    os.environ["HUIBO_CONFIG"] = str(folder / "huibo.toml")


@cli.command()
def up(
    ready_file: Annotated[
        Path | None, typer.Option(help="Write one JSON object here when everything answers.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the HTTP API; default: a free one.")] = None,
) -> None:
    """Start a whole huibo with a sandbox carrier on this machine, and keep it running."""
    from huibo.cli.output import console
    from huibo.engine.install import InstallError
    from huibo.stack.children import ChildFailed
    from huibo.stack.up import up as run

    try:
        asyncio.run(run(console(), ready_file, port))
    except (ChildFailed, InstallError) as error:
        raise Failed(str(error)) from error


@cli.command()
def demo() -> None:
    """Place one real call between two sandbox phones and show it step by step."""
    from huibo.cli.output import console
    from huibo.engine.install import InstallError
    from huibo.stack.children import ChildFailed
    from huibo.stack.demo import DemoFailed
    from huibo.stack.demo import demo as run

    try:
        asyncio.run(run(console()))
    except (DemoFailed, ChildFailed, InstallError) as error:
        raise Failed(str(error)) from error


@cli.command("say")
def speak(
    text: Annotated[str, typer.Argument(help="What a prompt would say.")],
    gender: Annotated[int, typer.Option(min=1, max=2, help="1 female, 2 male.")] = 1,
    output: Annotated[Path, typer.Option("--output", "-o", help="The WAV file to write.")] = Path("say.wav"),
) -> None:
    """Have the configured voice speak a text as a caller would hear it."""
    from huibo.cli.store import settings
    from huibo.prompts.choose import say_once
    from huibo.prompts.voice import Gender, VoiceFailed

    try:
        sound = asyncio.run(say_once(settings().prompts, text, Gender(gender)))
        output.write_bytes(sound)
    except VoiceFailed as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{output}: {error.strerror}") from error
    say(f"{output}: {(len(sound) - 44) / 16000:.1f} s")


@cli.command()
def version() -> None:
    """Print the version."""
    say(__version__)


@cli.command()
def serve() -> None:
    """Run the control plane until it is told to stop."""
    gc.disable()  # what is loaded now stays; the server has it begin again when it has settled
    from huibo import log
    from huibo.app import Huibo
    from huibo.cli.store import database, settings
    from huibo.engine.install import InstallError
    from huibo.storage.tenure import Taken

    chosen = settings()
    with database():  # one that cannot be used is told in one line
        pass
    log.configure(chosen.log)
    try:
        Huibo(chosen).serve()
    except (InstallError, Taken) as error:
        raise Failed(str(error)) from error
