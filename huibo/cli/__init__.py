"""The command line: `huibo serve`, a whole stack to try, and what an operator enters.

Every change goes through the same units of work as everywhere else. Exit codes: 0 done, 1 it could not be
done (one line says why and what to do), 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from huibo import __version__, config, log
from huibo.cli import apps, numbers, recordings, trunks
from huibo.cli.output import Failed, console, database, errors
from huibo.engine.install import InstallError
from huibo.engine.install.settings import install_settings
from huibo.stack import folders
from huibo.stack.children import ChildFailed
from huibo.storage import catalog

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Self-hosted click-to-call on your own SIP trunk.",
)
cli.add_typer(apps.commands, name="app")
cli.add_typer(numbers.commands, name="number")
cli.add_typer(trunks.commands, name="trunk")
cli.add_typer(recordings.commands, name="recording")


def main() -> None:
    """Entry point: turns every expected failure into one line and an exit code."""
    try:
        cli()
    except (Failed, catalog.Conflict, ChildFailed, InstallError, config.BadSettings) as error:
        errors.print(f"huibo: {error}", style="red", markup=False, emoji=False, soft_wrap=True)
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
    from huibo.stack.up import up as run  # the other commands need none of it, and start faster

    asyncio.run(run(console, ready_file, port))


@cli.command()
def demo() -> None:
    """Place one real call between two sandbox phones and show it step by step."""
    from huibo.stack.demo import DemoFailed
    from huibo.stack.demo import demo as run

    try:
        asyncio.run(run(console))
    except DemoFailed as error:
        raise Failed(str(error)) from error


@cli.command()
def say(
    text: Annotated[str, typer.Argument(help="What a prompt would say.")],
    gender: Annotated[int, typer.Option(min=1, max=2, help="1 female, 2 male.")] = 1,
    output: Annotated[Path, typer.Option("--output", "-o", help="The WAV file to write.")] = Path("say.wav"),
) -> None:
    """Have the configured voice speak a text as a caller would hear it."""
    from huibo.prompts.choose import say_once  # the other commands need none of it, and start faster
    from huibo.prompts.voice import Gender, VoiceFailed

    try:
        sound = asyncio.run(say_once(config.load().prompts, text, Gender(gender)))
        output.write_bytes(sound)
    except VoiceFailed as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{output}: {error.strerror}") from error
    console.print(f"{output}: {(len(sound) - 44) / 16000:.1f} s", markup=False)


@cli.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)


@cli.command()
def serve() -> None:
    """Run the control plane until it is told to stop."""
    from huibo.app import Huibo  # the other commands need none of it, and start faster

    settings = config.load()
    with database():  # one that cannot be used is told in one line
        pass
    log.configure(settings.log)
    Huibo(settings).serve()
