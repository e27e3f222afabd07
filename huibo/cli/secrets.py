"""`huibo secret`: what an app's pushes are signed with. A secret is shown once, when it is made."""

from __future__ import annotations

from typing import Annotated

import typer

from huibo.cli import changes
from huibo.cli.output import AsJson, clock_time, hint, print_json, say, table
from huibo.cli.store import author, change, read, settings
from huibo.office import secrets
from huibo.office.secrets import Rotation

commands = typer.Typer(no_args_is_help=True)


@commands.command("rotate")
def rotate(
    app_id: str,
    keep_old_s: Annotated[
        int | None, typer.Option(help="How long those before it sign too; default: as configured.")
    ] = None,
    secret: Annotated[
        str | None, typer.Option(help="One that the customer has already: whsec_…; default: a new one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give an app a new secret, its first or another, and show it, this once."""
    rotation = changes.read(Rotation, [], {"keep_old_s": keep_old_s, "secret": secret})
    made = change(secrets.rotate, app_id, rotation, settings().push.keep_old_secret_s)
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    say(made.secret)
    hint(f"app {app_id} signs with it from now on: give it to the customer, it is not shown again")


@commands.command("list")
def list_(app_id: str, as_json: AsJson = False) -> None:
    """List the secrets that sign an app's pushes, by how their SHA-256 begins."""
    found = read(secrets.page, app_id, author().at)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    table(
        ("id", "fingerprint", "made", "expires"),
        [(s.id, s.fingerprint, clock_time(s.created_at), clock_time(s.expires_at)) for s in found],
    )


@commands.command("remove")
def remove(app_id: str) -> None:
    """Sign an app's pushes no longer."""
    change(secrets.remove_all, app_id)
    say(f"app {app_id}: its pushes are not signed any longer")
