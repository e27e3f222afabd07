"""Targets of pushes on the command line: seen, and enabled again."""

from __future__ import annotations

import pytest
from cli_run import Run

from huibo.storage import push_targets
from huibo.storage.database import open_engine
from huibo.storage.push_targets import Failure

pytest_plugins = ["cli_fixtures"]

GONE, SICK = "https://c.example/gone", "https://c.example/sick"
NOW = 1_700_000_000_000


@pytest.fixture
def failing(run: Run, database_url: str) -> None:
    assert run("push", "targets", "--json").json == []
    failures = [
        Failure(("shop", GONE), NOW, "HTTP 410", NOW, "HTTP 410"),
        Failure(("shop", SICK), NOW, "HTTP 500", NOW),
    ]
    engine = open_engine(database_url)
    with engine.begin() as connection:
        push_targets.fail(connection, failures, 0)
    engine.dispose()


@pytest.mark.usefixtures("failing")
def test_they_are_listed(run: Run) -> None:
    listed = run("push", "targets", "--app", "shop", "--json").json
    assert [(one["url"], one["reason"]) for one in listed] == [(GONE, "HTTP 410"), (SICK, None)]
    assert run("push", "targets", "--disabled", "--json").json == listed[:1]
    assert run("push", "targets", "--app", "nobody", "--json").json == []
    assert GONE.partition("//")[2] in run("push", "targets").out.replace("\n", "")


@pytest.mark.usefixtures("failing")
def test_one_is_enabled(run: Run) -> None:
    said = run("push", "enable", "shop", f"{GONE}?call=7").said
    assert said == f"shop {GONE} gets pushes again; what it missed: huibo push replay --app shop"
    assert [one["url"] for one in run("push", "targets", "--json").json] == [SICK]
    noted = run("audit", "--json").json
    assert [(one["author"].partition(":")[0], one["action"]) for one in noted] == [
        ("cli", "enable"),
        ("huibo", "disable"),
    ]
    for url in (GONE, SICK):
        complaint = run("push", "enable", "shop", url).complaint
        assert complaint.startswith(f"no push target shop/{url} that is disabled: ")
        assert "huibo push targets" in complaint
