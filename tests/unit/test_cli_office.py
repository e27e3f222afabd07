"""The command line of money, rules and access: what is entered is there, and said as it is."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_run import Run

pytest_plugins = ["cli_fixtures"]

ME = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def test_rates(run: Run) -> None:
    assert run("rate", "add", "all", "0.12").said == "rate default/all: 0.12000 yuan a minute"
    more = ("--plan", "p", "--first-s", "6", "--next-s", "1", "--setup", "0.00001", "--note", "night")
    assert run("rate", "add", "+86 138", "1", *more).said == "rate p/86138: 1.00000 yuan a minute"
    first, second = run("rate", "list", "--json").json
    assert first == {
        "plan": "default",
        "prefix": "",
        "per_minute": 12_000,
        "first_s": 60,
        "next_s": 60,
        "setup": 0,
        "note": "",
    }
    assert (second["per_minute"], second["setup"], second["first_s"]) == (100_000, 1, 6)
    assert run("rate", "list", "--plan", "p", "--json").json == [second]
    assert "0.00001" in run("rate", "list").out
    assert run("rate", "remove", "138", "--plan", "p").said == "rate p/86138 removed"
    assert run("rate", "remove", "138").complaint.startswith("no rate default/86138: ")
    assert (
        run("rate", "add", "138", "0.1234567").complaint
        == "per-minute=0.1234567: an amount has at most 5 decimals"
    )
    assert run("rate", "add", "138", "-1").code == 2
    assert run("rate", "add", "x", "1").complaint.startswith("prefix x: not the beginning of a number")


def test_accounts(run: Run, tmp_path: Path) -> None:
    assert run("account", "credit", "shop", "1").complaint.startswith("no app shop: ")
    run("rate", "add", "all", "0.12")
    assert run("app", "add", "shop", "rate-plan=default", "prepaid=yes").code == 0
    assert "100.50000" in run("account", "credit", "shop", "100.5", "--reason", "receipt").out
    account = run("account", "adjust", "shop", "-0.00001", "--reason", "a fault", "--json").json
    assert account == {"app_id": "shop", "balance": 10_049_999, "held": 0, "available": 10_049_999}
    assert run("account", "show", "shop", "--json").json == account
    assert run("account", "adjust", "shop", "-101", "--reason", "x").complaint.startswith("amount: more than")
    assert run("account", "adjust", "shop", "1", "--reason", " ").complaint == "reason: must not be empty"
    assert run("account", "adjust", "shop", "1").code == 2
    for amount in ("1.123456", "1e3", "a lot", "¥1"):
        assert run("account", "credit", "shop", amount).complaint.startswith(f"{amount}: ")
    assert run("account", "credit", "shop", "0").complaint.startswith("amount 0: ")
    entries = run("account", "ledger", "shop", "--json").json
    assert [(e["kind"], e["amount"], e["author"], e["reason"]) for e in entries] == [
        ("adjustment", -1, ME, "a fault"),
        ("credit", 10_050_000, ME, "receipt"),
    ]
    assert run("account", "show", "shop", "--json").json == account
    file = tmp_path / "statement.csv"
    assert run("account", "statement", "shop", "2020-01", "-o", str(file)).said == f"{file} written"
    assert file.read_bytes().decode() == run("account", "statement", "shop", "2020-01").out
    assert run("account", "statement", "shop", "2020").complaint == "month: a month is written like 2026-11"
    complaint = run("account", "statement", "shop", "2020-01", "-o", "/nonexistent/x").complaint
    assert complaint == "/nonexistent/x: No such file or directory"


def test_long_lists_say_how_to_go_on(run: Run) -> None:
    assert run("app", "add", "shop").code == 0
    for amount in ("1", "2", "3"):
        assert run("account", "credit", "shop", amount).code == 0
    first = run("account", "ledger", "shop", "--limit", "2", "--json")
    assert [entry["amount"] for entry in json.loads(first.out)] == [300_000, 200_000]
    _, _, cursor = first.err.strip().rpartition(" ")
    rest = run("account", "ledger", "shop", "--limit", "2", "--after", cursor, "--json").json
    assert [entry["amount"] for entry in rest] == [100_000]
    assert run("account", "ledger", "shop", "--after", "x").complaint == "cursor: not one of ours"


def test_the_blacklist_by_hand(run: Run) -> None:
    assert run("app", "add", "shop").code == 0
    options = ("--app", "shop", "--as", "callee", "--expires", "2026-12-31", "--reason", "asked")
    assert (
        run("blacklist", "add", "13800138000", *options).said == "blacklist shop/callee/8613800138000 added"
    )
    assert run("blacklist", "add", "010", "--prefix").said == "blacklist */both/8610* added"
    everybodys, of_app = run("blacklist", "list", "--json").json
    assert (everybodys["number"], everybodys["kind"], everybodys["expires_at"]) == ("8610", "prefix", None)
    assert (of_app["app"], of_app["direction"], of_app["reason"]) == ("shop", "callee", "asked")
    assert of_app["expires_at"] == 1798732800000
    for only, entry in (
        (("--global",), everybodys),
        (("--app", "shop"), of_app),
        (("--as", "callee"), of_app),
        (("--number", "01088880000"), everybodys),
        (("--number", "138"), of_app),
    ):
        assert run("blacklist", "list", *only, "--json").json == [entry]
    assert run("blacklist", "remove", "010").complaint.startswith("no blacklist */both/8610: ")
    assert run("blacklist", "remove", "010", "--prefix").said == "blacklist */both/8610* removed"
    assert run("blacklist", "add", "x").complaint.startswith("number x: not the beginning of a number")
    assert run("blacklist", "add", "110", "--app", "nobody").complaint == "app: no app nobody"
    complaint = run("blacklist", "add", "110", "--expires", "soon").complaint
    assert complaint.startswith("expires: 'soon' is not a date like")


def test_the_blacklist_from_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes("number,reason\n13800138000,投诉\n13800138001,b\n".encode("utf-8-sig"))
    assert run("blacklist", "import", str(file)).said == "2 taken, 0 refused"
    assert [entry["reason"] for entry in run("blacklist", "list", "--json").json] == ["投诉", "b"]
    file.write_bytes("number,reason\n13800138002,投诉\nnobody,\n13800138003,a\n".encode("gbk"))
    done = run("blacklist", "import", str(file))
    assert (done.code, done.out) == (1, "1 taken, 2 refused\n")
    second, third, last = done.err.splitlines()
    assert second.startswith("line 2: reason: not a text")
    assert third.startswith("line 3: not the beginning of a number")
    assert last == f"huibo: {file}: 2 lines were refused; the others are in force"
    again = run("blacklist", "import", str(file), "--json")
    assert (again.code, [one["line"] for one in json.loads(again.out)["problems"]]) == (1, [2, 3])
    assert run("blacklist", "import", "/nonexistent").complaint == "/nonexistent: No such file or directory"
    file.write_text("13800138000\n")
    assert run("blacklist", "import", str(file)).complaint.startswith(
        f"{file}: line 1: it must name the columns"
    )


def test_locks(run: Run) -> None:
    assert run("lock", "add", "address", "203.0.113.7", "5", "--reason", "guesses").code == 0
    (lock,) = run("lock", "list", "--json").json
    assert (lock["kind"], lock["subject"], lock["reason"]) == ("address", "203.0.113.7", "guesses")
    assert lock["until"] - lock["since"] == 300_000
    assert "guesses" in run("lock", "list").out
    assert run("lock", "list", "--kind", "app", "--json").json == []
    assert run("lock", "lift", "address", "203.0.113.7").said == "address 203.0.113.7 is locked no longer"
    assert run("lock", "lift", "address", "203.0.113.7").complaint.startswith("no lock address/203.0.113.7: ")
    assert run("lock", "add", "app", "nobody", "5").complaint == "subject: no app nobody"
    assert run("lock", "add", "app", "nobody", "0").complaint.startswith("minutes 0: ")


def test_tokens_are_shown_once(run: Run) -> None:
    made = run("token", "add", "monitoring", "--role", "viewer", "--days", "30", "--json").json
    assert made["token"].startswith(f"hb_{made['id']}_")
    assert made["expires_at"] - made["created_at"] == pytest.approx(30 * 86_400_000, abs=60_000)
    said = run("token", "add", "x", "--role", "admin")
    assert said.out.startswith("hb_")
    assert made["token"] not in run("token", "list", "--json").out
    assert [token["name"] for token in run("token", "list", "--json").json] == ["x", "monitoring"]
    assert run("token", "revoke", made["id"]).said == f"token {made['id']} revoked"
    assert [token["name"] for token in run("token", "list", "--json").json] == ["x"]
    assert len(run("token", "list", "--all", "--json").json) == 2
    assert run("token", "revoke", made["id"]).complaint.startswith(f"no token {made['id']}: ")
    assert run("token", "add", "x", "--role", "god").code == 2


def test_secrets_are_shown_once(run: Run) -> None:
    assert run("secret", "rotate", "shop").complaint.startswith("no app shop: `huibo app list`")
    assert run("app", "add", "shop").code == 0
    first = run("secret", "rotate", "shop", "--json").json
    assert first["secret"].startswith("whsec_")
    assert run("secret", "rotate", "shop", "--keep-old-s", "0").out.startswith("whsec_")
    (left,) = run("secret", "list", "shop", "--json").json
    assert "secret" not in left
    assert left["fingerprint"] != first["fingerprint"]
    refused = run("secret", "rotate", "shop", "--secret", "guess-me").complaint
    assert "guess-me" not in refused
    assert run("secret", "remove", "shop").said == "app shop: its pushes are not signed any longer"
    assert run("secret", "list", "shop", "--json").json == []


def test_the_audit_log_says_who_did_what(run: Run) -> None:
    assert run("app", "add", "shop").code == 0
    assert run("app", "set", "shop", "name=Shop").code == 0
    assert (
        run("trunk", "add", "t", "--host", "192.0.2.1", "--username", "u", "--password", "s3cret").code == 0
    )
    trunk, changed, added = run("audit", "--json").json
    assert [one["author"] for one in (trunk, changed, added)] == [ME] * 3
    assert [one["origin"] for one in (trunk, changed, added)] == ["cli"] * 3
    assert (changed["action"], changed["kind"], changed["subject"]) == ("change", "app", "shop")
    assert (changed["before"]["name"], changed["after"]["name"]) == ("", "Shop")
    assert run("audit", "--kind", "app", "--limit", "1", "--json").out.count('"action"') == 1
    assert run("audit", "--subject", "t", "--json").json == [trunk]
    assert run("audit", "--author", "nobody", "--json").json == []
    said = run("audit").out
    assert "name=Shop" in said
    assert "s3cret" not in said + json.dumps(trunk)


def test_pushes_and_calls_there_are_none_of(run: Run) -> None:
    assert run("push", "list", "--json").json == []
    assert run("push", "show", "7").complaint.startswith("no push 7: ")
    assert run("push", "replay", "7").complaint.startswith("no push 7: ")
    assert run("push", "replay").complaint.startswith("say which: ")
    assert run("push", "replay", "--all").said == "0 pushes are sent once more"
    assert run("calls", "--json").json == []
    assert run("calls", "no-such").complaint == "no call no-such: `huibo calls` shows those there are"
    assert run("calls", "--caller", "12").complaint.startswith("caller 12: not a Chinese mobile or landline")
    assert run("recording", "list", "--json").json == []


@pytest.mark.parametrize("argv", ["call 13800138000 13900139000 --app x", "check 1 2 --app x", "health"])
def test_what_needs_the_server_says_that_it_does_not_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, argv: str
) -> None:
    with socket.socket() as nobodys:
        nobodys.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = nobodys.getsockname()[1]
        monkeypatch.setenv("HUIBO_HTTP__PORT", str(port))
        complaint = run(*argv.split()).complaint
    assert complaint.startswith(f"no huibo answers at 127.0.0.1:{port} (Connection refused): start it")


def test_whose_name_the_system_does_not_know_is_a_number(database_url: str) -> None:
    """As in a container: only the number of the user is known there."""
    code = (
        "import os; os.getuid = lambda: 4_000_000; from huibo.cli.store import author; print(author().name)"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUIBO_")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("cli:4000000\n", "")
