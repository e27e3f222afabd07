"""The command line: what an operator enters is there, and what goes wrong is told in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run
from sqlalchemy import Connection, text
from typer.testing import CliRunner

from huibo import __version__
from huibo.cli import cli
from huibo.model import App, DisplayNumber, Trunk
from huibo.stack import folders
from huibo.storage import catalog
from huibo.storage.database import open_engine
from huibo.storage.migrate import is_current, migrate

pytest_plugins = ["cli_fixtures"]


FULL_APP = (
    *("--url-id", "u1", "--name", "[red]Shop :x:", "--allow-ip", "10.0.0.0/8", "--allow-ip", "1:a:2::/48"),
    *("--status-url", "http://example.com/" + "q" * 100, "--cdr-url", "http://example.com/c"),
)


def test_apps(run: Run) -> None:
    assert "callBack?id=shop" in run("app", "add", "shop").out
    added = run("app", "add", "s" * 64, *FULL_APP)
    assert (added.code, added.err) == (0, "")
    assert added.out == f"app {'s' * 64} added: its requests go to /201511v3/callBack?id=u1\n"
    plain, full = run("app", "list", "--json").json
    assert (plain["app_id"], plain["url_id"], plain["status_url"]) == ("shop", "shop", None)
    assert plain["allowed_ips"] == list(App("", "").allowed_ips)
    assert full["name"] == "[red]Shop :x:"
    assert full["allowed_ips"] == ["10.0.0.0/8", "1:a:2::/48"]
    assert full["status_url"] == "http://example.com/" + "q" * 100
    assert full["cdr_url"] == "http://example.com/c"
    assert run("app", "show", "s" * 64, "--json").json == full | {"numbers": []}
    for said in (run("app", "list").out, run("app", "show", "s" * 64).out):
        assert said.count("q") == 100  # broken into lines, but all there
        assert "[red]Shop" in said
        assert ":x:" in said
        assert "1:a:2::/48" in said
    assert run("app", "remove", "shop").out == "app shop removed\n"
    assert [app["app_id"] for app in run("app", "list", "--json").json] == ["s" * 64]


def test_an_app_is_changed_word_by_word(run: Run) -> None:
    assert run("app", "add", "shop", "--cdr-url", "http://example.com/c").code == 0
    before = run("app", "show", "shop", "--json").json
    changes = ("name=A=B", "allow-ip=10.0.0.0/8, ::1", "cdr-url=", "display=mutual", "warn=both")
    limits = ("caller-ring-s=20", "hours=mon-fri 09:00-21:00, sat 10:00-12:00", "calls_at_once=5")
    assert run("app", "set", "shop", *changes, *limits).said == "app shop changed"
    app = run("app", "show", "shop", "--json").json
    assert (app["name"], app["allowed_ips"], app["cdr_url"]) == ("A=B", ["10.0.0.0/8", "::1"], None)
    assert (app["display"], app["warn"]) == ("mutual", ["caller", "callee"])
    assert (app["caller_ring_s"], app["calls_at_once"]) == (20, 5)
    assert app["hours"] == ["mon-fri 09:00-21:00", "sat 10:00-12:00"]
    assert app["url_id"] == before["url_id"]
    assert run("app", "set", "shop", "warn=none").code == 0
    assert run("app", "show", "shop", "--json").json["warn"] == []
    back = ("allow-ip=", "name=", f"cdr-url={before['cdr_url']}", "hours=", "calls-at-once=")
    assert run("app", "set", "shop", *back, "display=", "warn=", "caller-ring-s=").code == 0
    assert run("app", "show", "shop", "--json").json == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("name", "name: write it as name=VALUE"),
        ("colour=red", "colour: there is no such setting; there are name, allow-ip, "),
        ("url-id=", "url-id: must not be empty"),
        ("allow-ip=10.0.0.0/8,x", "allow-ip x: not an address or network"),
        ("display=nothing", "display nothing: Input should be 'pool', 'fixed', 'mutual' or 'callee'"),
        ("warn=all", "warn all: Input should be 'caller' or 'callee'"),
        ("caller-ring-s=long", "caller-ring-s long: Input should be a valid integer"),
        ("caller-ring-s=0", "caller-ring-s 0: Input should be greater than"),
        ("prepaid=yes", "prepaid: needs a rate_plan"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(run: Run, change: str, complaint: str) -> None:
    assert run("app", "add", "shop").code == 0
    before = run("app", "show", "shop", "--json").json
    assert run("app", "set", "shop", "name=new", change).complaint.startswith(complaint)
    assert run("app", "show", "shop", "--json").json == before
    assert run("app", "set", "nobody", "name=new").complaint.startswith("no app nobody: ")


def test_numbers(run: Run) -> None:
    for app in ("one", "two"):
        assert run("app", "add", app).code == 0
    added = run("number", "add", "02131264133", "--app", "one", "--app", "two")
    assert (added.code, added.out) == (0, "number 02131264133 added\n")
    assert run("number", "add", "4001360123").code == 0
    plain = {"area": "", "enabled": True, "trunks": []}
    entries = [
        plain | {"number": "02131264133", "apps": ["one", "two"]},
        plain | {"number": "4001360123", "apps": []},
    ]
    assert run("number", "list", "--json").json == entries
    assert run("number", "show", "02131264133", "--json").json == entries[0]
    assert "one, two" in run("number", "list").out
    assert "one, two" in run("number", "show", "02131264133").out
    assert run("app", "show", "two", "--json").json["numbers"] == ["02131264133"]
    assert run("number", "set", "4001360123", "area=all", "app=two", "enabled=no").code == 0
    entries[1] |= {"area": "all", "apps": ["two"], "enabled": False}
    assert run("number", "list", "--app", "two", "--json").json == entries
    assert run("number", "remove", "02131264133").out == "number 02131264133 removed\n"
    assert run("number", "list", "--json").json == entries[1:]


def test_trunks_without_their_passwords(run: Run) -> None:
    plain = run("trunk", "add", "plain", "--host", "192.0.2.1")
    assert (plain.code, plain.out) == (0, "trunk plain added\n")
    auth = ("--username", "user", "--password", "s3cret", "--port", "5080", "--codecs", "ulaw")
    added = run("trunk", "add", "first", "--host", "2001:db8::1", *auth, "--priority", "-1")
    listed, shown = run("trunk", "list", "--json").json, run("trunk", "show", "first", "--json").json
    assert [trunk["name"] for trunk in listed] == ["first", "plain"]
    assert listed[0] == shown
    assert (shown["host"], shown["port"], shown["codecs"]) == ("2001:db8::1", 5080, ["ulaw"])
    assert (shown["username"], shown["has_password"]) == ("user", True)
    assert (shown["priority"], shown["state"]) == (-1, "active")
    assert (listed[1]["username"], listed[1]["has_password"]) == (None, False)
    said = [added, run("trunk", "list"), run("trunk", "show", "first")]
    assert "s3cret" not in json.dumps([listed, shown]) + "".join(done.out + done.err for done in said)
    assert run("trunk", "remove", "first").out == "trunk first removed\n"
    assert [trunk["name"] for trunk in run("trunk", "list", "--json").json] == ["plain"]


def test_trunks_are_changed_and_drained(run: Run) -> None:
    assert run("trunk", "add", "t", "--host", "192.0.2.1", "cost=0.05", "prefix=138,010").code == 0
    shown = run("trunk", "show", "t", "--json").json
    assert (shown["cost"], shown["prefixes"]) == (5000, ["86138", "8610"])
    assert run("trunk", "show", "t").out.count("0.05000") == 1
    for word, state in (("drain", "draining"), ("off", "off"), ("on", "active")):
        assert run("trunk", word, "t").said.startswith("trunk t ")
        assert run("trunk", "show", "t", "--json").json["state"] == state
    changes = ("username=u", "password=s3cret", "register=yes", "channels=30", "dial-format=+86", "cost=")
    assert run("trunk", "set", "t", *changes).said == "trunk t changed"
    now = run("trunk", "show", "t", "--json").json
    assert now == shown | {
        "username": "u",
        "has_password": True,
        "register": True,
        "channels": 30,
        "dial_format": "+86",
        "cost": 0,
    }
    assert (
        run("trunk", "set", "t", "cost=0.000001").complaint
        == "cost=0.000001: an amount has at most 5 decimals"
    )
    refused = run("trunk", "set", "t", "password=new\nline").complaint
    assert refused == "password: control characters"
    assert run("trunk", "set", "none", "cost=1").complaint.startswith("no trunk none: ")


def test_a_password_that_is_not_given_is_asked_for(run: Run, database_url: str) -> None:
    argv = ["trunk", "add", "t", "--host", "192.0.2.1", "--username", "user"]
    asked = CliRunner().invoke(cli, argv, input="s3cret\n")
    assert asked.exit_code == 0
    assert "s3cret" not in asked.output
    engine = open_engine(database_url)
    with engine.connect() as connection:
        assert [trunk.password for trunk in catalog.list_trunks(connection)] == ["s3cret"]
    engine.dispose()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("app add it", "app it exists already"),
        ("number add 4001360123", "number 4001360123 exists already"),
        ("number add 4001360124 --app nobody", "apps: there is no app nobody"),
        ("trunk add it --host 192.0.2.9", "trunk it exists already"),
        ("app show [/x]", "no app [/x]: `huibo app list` shows those there are"),
        ("app remove nobody", "no app nobody: `huibo app list` shows those there are"),
        ("number show 123", "no number 123: `huibo number list` shows those there are"),
        ("number remove 123", "no number 123: `huibo number list` shows those there are"),
        ("trunk show nothing", "no trunk nothing: `huibo trunk list` shows those there are"),
        ("trunk remove :x:", "no trunk :x:: `huibo trunk list` shows those there are"),
        (
            "app add new --allow-ip 10.0.0.0/33",
            "allow-ip 10.0.0.0/33: not an address or network, like 203.0.113.7 or 10.0.0.0/8",
        ),
        ("number add +862131264133", "number +862131264133: 3 to 20 digits, e.g. 02131264133"),
        ("number add 12", "number 12: 3 to 20 digits, e.g. 02131264133"),
        ("number add １２３", "number １２３: 3 to 20 digits, e.g. 02131264133"),
        ("trunk add a/b --host x", "name a/b: up to 40 letters, digits, - and _"),
        (
            f"trunk add {'t' * 41} --host x",
            f"name {'t' * 41}: up to 40 letters, digits, - and _",
        ),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    run: Run, database_url: str, argv: str, complaint: str
) -> None:
    engine = open_engine(database_url)
    migrate(engine)
    with engine.begin() as connection:
        catalog.add_app(connection, App("it", "it"), 1)
        catalog.add_number(connection, DisplayNumber("4001360123", apps=("it",)), 1)
        catalog.add_trunk(connection, Trunk("it", "192.0.2.1"), 1)
        before = everything(connection)
    assert run(*argv.split()).complaint == complaint
    with engine.connect() as connection:
        assert everything(connection) == before
    engine.dispose()


def everything(connection: Connection) -> list[Any]:
    lists = (catalog.list_apps, catalog.list_numbers, catalog.list_trunks)
    return [entries(connection) for entries in lists]


@pytest.mark.parametrize(
    "argv",
    [
        "nonsense",
        "app nonsense",
        "app add",
        "app show",
        "app list --nonsense",
        "trunk add t",
        "trunk add t --host x --port 0",
        "trunk add t --host x --port 65536",
        "trunk add t --host x --port five",
        "number add",
    ],
)
def test_wrong_usage(run: Run, argv: str) -> None:
    done = run(*argv.split())
    assert (done.code, done.out) == (2, "")
    assert "Usage:" in done.err


@pytest.mark.parametrize("command", [("app", "list"), ("serve",)])
@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite:////nonexistent/x.db", "database sqlite:////nonexistent/x.db: unable to open database file"),
        ("sqlite:///{junk}", "database sqlite:///{junk}: file is not a database"),
        ("sqlite:///{newer}", "database sqlite:///{newer} belongs to a newer huibo"),
        ("nonsense", "database_url: Could not parse"),
        ("foo://user:s3cret@127.0.0.1/x", "database_url: Can't load plugin"),
    ],
)
def test_a_database_that_cannot_be_used(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: tuple[str, ...],
    url: str,
    complaint: str,
) -> None:
    junk, newer = tmp_path / "junk", tmp_path / "newer"
    junk.write_text("this is a text, and no database at all, " * 100)
    engine = open_engine(f"sqlite:///{newer}")
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    monkeypatch.setenv("HUIBO_DATABASE_URL", url.format(junk=junk, newer=newer))
    said = run(*command).complaint
    assert said.startswith(complaint.format(junk=junk, newer=newer))
    assert "s3cret" not in said


@pytest.mark.parametrize("command", [("app", "list"), ("serve",)])
def test_settings_that_cannot_be_used(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "own.toml"
    monkeypatch.setenv("HUIBO_CONFIG", str(file))
    assert run(*command).complaint == f"no such settings file: {file}"
    file.write_text("[http]\nport = 'eighty'\n")
    assert run(*command).complaint.startswith("http.port: Input should be a valid integer")
    file.write_text("[http\n")
    assert run(*command).complaint.startswith(f"{file}: ")


@pytest.fixture
def stack_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run folder of a stack that this process could have started, with one app."""
    monkeypatch.delenv("HUIBO_DATABASE_URL")
    folder = folders.make(tmp_path / "cache")
    (folder / "huibo.toml").write_text(f'database_url = "sqlite:///{folder}/huibo.sqlite3"\n')
    monkeypatch.setenv("HUIBO_CONFIG", str(folder / "huibo.toml"))
    assert run("app", "add", "of-the-stack").code == 0
    monkeypatch.setenv("HUIBO_CONFIG", "")
    yield folder
    (folder / "up.pid").unlink()


def test_the_newest_stack_can_be_talked_to(
    run: Run, stack_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (app,) = run("--instance", "newest", "app", "list", "--json").json
    assert app["app_id"] == "of-the-stack"
    monkeypatch.setenv("HUIBO_CONFIG", "")
    monkeypatch.setenv("HUIBO_INSTANCE", "newest")
    (app,) = run("app", "list", "--json").json
    assert app["app_id"] == "of-the-stack"


def test_there_is_no_stack_to_talk_to(run: Run) -> None:
    complaint = "no stack is running here: start one with ./dev up"
    assert run("--instance", "newest", "app", "list").complaint == complaint
    assert run("--instance", "other", "app", "list").complaint.startswith('--instance other: only "newest"')


def test_help_and_version(run: Run) -> None:
    assert run("version").out == f"{__version__}\n"
    done = run("--help")
    assert done.code == 0
    for command in ("app", "number", "trunk", "serve", "up", "demo", "call", "doctor"):
        assert f" {command} " in done.out


def test_a_database_is_brought_up_to_date_once(run: Run, database_url: str) -> None:
    engine = open_engine(database_url)
    assert not is_current(engine)
    assert run("app", "list", "--json").json == []
    assert is_current(engine)
    with engine.begin() as connection:  # another writer is in nobody's way who only reads
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
        assert run("app", "list", "--json").json == []
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    assert not is_current(engine)
    engine.dispose()


def test_what_a_command_does_not_need_is_not_imported(database_url: str) -> None:
    """The command line starts fast: databases, voices and the server are for those who ask for them."""
    heavy = ("sqlalchemy", "alembic", "fastapi", "aiohttp", "numpy", "pydantic", "rich")
    code = f"import sys, huibo.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("argv", "code"), [(("app", "list", "--json"), 0), (("app", "show", "x"), 1)])
def test_as_a_module(database_url: str, argv: tuple[str, ...], code: int) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUIBO_")}
    done = subprocess.run(
        [sys.executable, "-m", "huibo", *argv],
        env=env | {"HUIBO_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == code
    if code == 0:
        assert (json.loads(done.stdout), done.stderr) == ([], "")
    else:
        assert done.stderr == "huibo: no app x: `huibo app list` shows those there are\n"
