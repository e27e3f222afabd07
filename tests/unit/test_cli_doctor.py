"""`huibo doctor` where neither Asterisk nor a server runs: settings, database, and what was entered."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run
from sqlalchemy import Connection, insert, text

from huibo.cli.doctor.folders import may
from huibo.engine.ari import files
from huibo.storage.database import open_engine
from huibo.storage.tables import pushes

pytest_plugins = ["cli_fixtures"]

Findings = list[tuple[str, str, str]]


@pytest.fixture(autouse=True)
def _nobody(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody listens at port 1, and all folders are the test's own."""
    monkeypatch.setenv("HUIBO_ENGINE__URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HUIBO_ENGINE__PASSWORD", "its own")
    monkeypatch.setenv("HUIBO_HTTP__PORT", "1")
    monkeypatch.setenv("HUIBO_RECORDING__FOLDER", str(tmp_path / "recordings"))
    monkeypatch.setenv("HUIBO_RECORDING__RAW_FOLDER", str(tmp_path / "raw"))
    monkeypatch.setenv("HUIBO_PROMPTS__FOLDER", str(tmp_path / "prompts"))
    monkeypatch.setenv("HUIBO_PROMPTS__VOICE", "command")
    monkeypatch.setenv("HUIBO_PROMPTS__COMMAND", '["false"]')


def examined(run: Run) -> Findings:
    done = run("doctor", "--json")
    assert (done.code, done.err) == (1, "")  # nobody answers
    return [(one["level"], one["topic"], one["text"]) for one in json.loads(done.out)["findings"]]


def bad(run: Run, *topics: str) -> Findings:
    """What is not ok, of some topics."""
    return [one for one in examined(run) if one[0] != "ok" and one[1] in topics]


def enter(run: Run, *commands: str) -> None:
    for command in commands:
        assert run(*command.split()).code == 0, command


def test_a_new_installation(run: Run, tmp_path: Path, database_url: str) -> None:
    found = examined(run)
    assert ("ok", "settings", "the defaults and the environment; HUIBO_CONFIG names no file") in found
    assert ("FAIL", "database", f"{database_url} does not exist") in found
    assert [level for level, topic, _ in found if topic in ("engine", "server")] == ["FAIL", "FAIL"]
    assert not (tmp_path / "huibo.sqlite3").exists()  # it only looks
    assert [level for level, topic, _ in found if topic == "voice"] == ["FAIL"]
    enter(run, "app list")
    assert bad(run, "database") == []
    (trunks,) = bad(run, "trunks")
    assert trunks == ("FAIL", "trunks", "there is none that takes calls")
    assert bad(run, "apps") == [("warn", "apps", "there is none that may call")]


def test_the_lines_for_people(run: Run) -> None:
    done = run("doctor")
    assert done.code == 1
    *lines, last = done.out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "FAIL"}
    assert any(line.endswith(": start `huibo serve`") for line in lines)
    fails = sum(line.startswith("FAIL") for line in lines)
    assert last == f"{len(lines) - fails} ok, 0 to look at, {fails} to repair"


def test_settings(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "huibo.toml"
    file.write_text('[engine]\npassword = "huibo"\n')
    file.chmod(0o644)
    monkeypatch.setenv("HUIBO_CONFIG", str(file))
    monkeypatch.delenv("HUIBO_ENGINE__PASSWORD")
    said = [text for _, _, text in bad(run, "settings")]
    assert said == [
        f"others may read {file}, and a password is in it",
        "[engine] password is the default one",
    ]
    file.write_text("[calls]\ncaller_ring_s = 'x'\n[engine]\nurrl = ''\n")
    found = examined(run)
    assert [level for level, *_ in found] == ["FAIL", "FAIL"]  # and no more: all else needs them
    assert {text.partition(":")[0] for *_, text in found} == {"calls.caller_ring_s", "engine.urrl"}


def test_a_database_that_others_may_read(run: Run, tmp_path: Path) -> None:
    enter(run, "app list")
    file = tmp_path / "huibo.sqlite3"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert bad(run, "database") == []
    file.chmod(0o640)
    ((level, _, said),) = bad(run, "database")
    assert (level, said) == ("warn", f"others may read {file}: numbers and passwords are in it")


@pytest.mark.parametrize(
    ("schema", "said"), [("9999", "belongs to a newer huibo"), ("0001", "has the schema 0001, not ")]
)
def test_a_database_of_another_version(run: Run, database_url: str, schema: str, said: str) -> None:
    enter(run, "app list")
    change(database_url, lambda c: c.execute(text(f"UPDATE alembic_version SET version_num = '{schema}'")))
    ((level, _, text_),) = bad(run, "database")
    assert (level, said in text_) == ("FAIL", True)
    assert bad(run, "trunks", "apps") == []  # nothing is asked of it


def test_a_database_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "huibo.sqlite3").write_text("this is a text, and no database at all, " * 100)
    ((level, _, said),) = bad(run, "database")
    assert (level, said.endswith(": file is not a database")) == ("FAIL", True)


def change(url: str, work: Callable[[Connection], Any]) -> None:
    engine = open_engine(url)
    with engine.begin() as connection:
        work(connection)
    engine.dispose()


def test_what_was_entered(run: Run, database_url: str) -> None:
    enter(run, "app add bare", "app add mutual display=mutual", "app add blocked state=blocked")
    enter(run, "trunk add t --host 192.0.2.1", "number add 02131264133 --app mutual --trunk t")
    enter(run, "rate add all 0.1", "app add paid rate-plan=default prepaid=yes display=mutual")
    assert bad(run, "trunks", "numbers") == []
    assert [said.partition(":")[0] for *_, said in bad(run, "apps")] == [
        "bare has no number to show",
        "paid is prepaid and has 0.00000 yuan left",
    ]
    enter(run, "account credit paid 1", "number set 02131264133 apps=bare,mutual", "lock add app bare 5")
    assert bad(run, "apps") == []
    assert bad(run, "locks") == [("warn", "locks", "1 locked, app: bare")]
    enter(run, "rate remove all", "trunk off t", "app set mutual record-url=https://example.com/r")
    change(database_url, lambda c: c.execute(text("UPDATE numbers SET trunks = '[\"gone\"]'")))
    assert bad(run, "apps") == [("FAIL", "apps", "paid pays by the plan default, which has no rates")]
    assert bad(run, "trunks") == [("FAIL", "trunks", "there is none that takes calls")]
    assert bad(run, "numbers") == [("warn", "numbers", "02131264133 names trunks that are not there: gone")]
    ((level, _, said),) = bad(run, "recordings")
    assert (level, said) == (
        "warn",
        "links to them begin with http://127.0.0.1:1, as [http] public_url is not set",
    )


def test_pushes_that_were_given_up(run: Run, database_url: str) -> None:
    enter(run, "app list")
    assert bad(run, "pushes") == []
    row = {"call_id": "c", "app_id": "a", "kind": "cdr", "seq": 1, "url": "http://x/", "receiver": "http://x"}
    row |= {"body": b"{}", "state": "dead", "attempts": 9, "created_at": 1, "next_at": 1}
    change(database_url, lambda c: c.execute(insert(pushes), row))
    assert bad(run, "pushes") == [("warn", "pushes", "1 were given up: customers have not got them")]


@pytest.mark.parametrize(
    ("mode", "user", "need", "granted"),
    [
        (0o700, 7, os.R_OK | os.W_OK | os.X_OK, False),
        (0o705, 7, os.R_OK | os.X_OK, True),
        (0o705, 7, os.W_OK, False),
        (0o770, 7, os.W_OK, False),
        (0o000, 0, os.W_OK, True),
        (0o077, None, os.R_OK, False),
        (0o700, None, os.R_OK | os.W_OK | os.X_OK, True),
    ],
)
def test_what_permissions_let_a_user_do(
    tmp_path: Path, mode: int, user: int | None, need: int, granted: bool
) -> None:
    """`user` None: the owner."""
    folder = tmp_path / "folder"
    folder.mkdir()
    if os.getuid() == 0:
        os.chown(folder, 4_000_001, 4_000_001)
    folder.chmod(mode)
    owner = folder.stat().st_uid
    assert may(folder, owner if user is None else user, need) == granted
    folder.chmod(0o700)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rtp.conf", "[general]\nrtpstart=20000\nrtpend=10000\n", "RTP ports 20000 to 10000 are no range"),
        ("rtp.conf", "[general]\nrtpstart => 10000\nrtpend=10399 ; end\n", None),
        ("rtp.conf", "[other]\nrtpend=10\n", None),  # its defaults
        ("http.conf", "[general]\nenabled=yes\n", "http.conf allows 100 sessions: too few for a busy server"),
        ("http.conf", "[general]\nsessionlimit=1000\n", None),
        ("ari.conf", "[general]\n", "ari.conf drops the connection of a server that is busy for 100 ms"),
        ("ari.conf", "[general]\nwebsocket_write_timeout=5000\n[huibo]\n", None),
        (
            "indications.conf",
            "[us]\nring=1\n",
            "indications.conf has no ringing tone of zone cn: callers hear none",
        ),
        ("indications.conf", "[general]\n[cn]\nring=450/1000,0/4000\n", None),
    ],
)
def test_the_files_of_asterisk(tmp_path: Path, name: str, content: str, said: str | None) -> None:
    (tmp_path / name).write_text(content)
    assert [one.text for one in files.examine(tmp_path) if one.level != "ok"] == ([said] if said else [])
    assert list(files.examine(None)) == []
