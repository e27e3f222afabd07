"""The folder and the configuration of a private Asterisk, without starting one."""

from __future__ import annotations

import os
import stat
from configparser import RawConfigParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.engine.install.binary import Asterisk
from huibo.engine.install.instance import Instance, Template, render

ASTERISK = Asterisk(
    argv=("/r/ld.so", "--argv0", "asterisk", "/r/usr/sbin/asterisk"),
    modules=Path("/r/modules"),
    data=Path("/r/share"),
    version="22.10.1",
    origin="private prefix",
    env=(("OPENSSL_CONF", "/dev/null"),),
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def directories(instance: Instance) -> dict[str, str]:
    conf = RawConfigParser(delimiters=("=>",), comment_prefixes=(";",))
    conf.read(instance.etc / "asterisk.conf", encoding="utf-8")
    return dict(conf["directories"])


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(ASTERISK, tmp_path / "with space")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("bind=127.0.0.1:@{port}", "bind=127.0.0.1:5060"),
        ("same => n,Set(X=${EXTEN:@{port}})", "same => n,Set(X=${EXTEN:5060})"),
        ("Dial(PJSIP/${EXTEN}@trunk)", "Dial(PJSIP/${EXTEN}@trunk)"),
        ("sip:a@@{port}", "sip:a@5060"),
        ("sip:a@@b", "sip:a@b"),
    ],
)
def test_only_braced_placeholders_are_replaced(text: str, result: str) -> None:
    assert Template(text).substitute(port=5060) == result


@given(st.text(alphabet=st.characters(exclude_characters="@")), st.text())
def test_a_value_comes_out_as_it_is_and_the_rest_stays(text: str, value: str) -> None:
    assert Template(text + "@{x}" + text).substitute(x=value) == text + value + text


def test_every_conf_of_a_folder_is_rendered_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[@{name}]\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("@{other}", encoding="utf-8")
    assert render(tmp_path, {"name": "主叫"}) == {"a.conf": "[主叫]\n"}
    with pytest.raises(KeyError, match="name"):
        render(tmp_path, {})


def test_folders_and_files_are_ours_alone(instance: Instance) -> None:
    instance.write({"ari.conf": "password=secret\n"})
    assert mode(instance.folder) == mode(instance.etc) == mode(instance.run) == 0o700
    assert {mode(file) for file in instance.etc.iterdir()} == {0o600}


def test_a_given_file_replaces_the_base_and_one_left_over_goes(instance: Instance) -> None:
    instance.write({"extensions.conf": "[old]\n"})
    instance.write({"stasis.conf": "[declined_message_types]\ndecline=x\n"})
    assert not (instance.etc / "extensions.conf").exists()
    assert (instance.etc / "stasis.conf").read_text(encoding="utf-8").endswith("decline=x\n")
    assert (instance.etc / "modules.conf").read_text(encoding="utf-8") == "[modules]\nautoload=no\n"


def test_every_directory_is_in_the_folder_or_in_the_asterisk(instance: Instance) -> None:
    instance.write({})
    told = directories(instance)
    assert told.pop("astmoddir") == "/r/modules"
    assert told.pop("astdatadir") == "/r/share"
    assert told.pop("astsbindir") == "/r/usr/sbin"
    assert len(told) == 9
    for name, path in told.items():
        assert Path(path).is_relative_to(instance.folder), name
        assert Path(path).is_dir() or name == "astagidir", name
    assert (Path(told["astkeydir"]) / "keys").is_dir()


def test_a_semicolon_in_a_path_does_not_begin_a_comment(tmp_path: Path) -> None:
    instance = Instance(ASTERISK, tmp_path / "a;b")
    instance.write({})
    assert directories(instance)["astetcdir"] == str(instance.etc).replace(";", "\\;")


def test_a_deep_folder_gets_a_short_run_folder_of_its_own(tmp_path: Path) -> None:
    one, two = (Instance(ASTERISK, tmp_path / ("x" * 100) / name) for name in "ab")
    one.write({})
    try:
        assert len(os.fsencode(one.run / "asterisk.ctl")) < 108
        assert not one.run.is_relative_to(one.folder)
        assert mode(one.run) == 0o700
        assert directories(one)["astrundir"] == str(one.run)
        assert one.run != two.run
        assert one.run == Instance(ASTERISK, one.folder).run
    finally:
        one.run.rmdir()


def test_a_run_folder_that_somebody_else_prepared_is_not_used(tmp_path: Path) -> None:
    instance = Instance(ASTERISK, tmp_path / ("x" * 100))
    instance.run.symlink_to(tmp_path)
    try:
        with pytest.raises(PermissionError, match="somebody else"):
            instance.write({})
    finally:
        instance.run.unlink()


def test_the_words_that_run_it(instance: Instance) -> None:
    conf = str(instance.etc / "asterisk.conf")
    assert instance.argv[: len(ASTERISK.argv)] == instance.cli("x")[: len(ASTERISK.argv)] == ASTERISK.argv
    assert instance.argv[-2:] == ("-C", conf)
    assert "-f" in instance.argv
    assert instance.cli("core show version")[-4:] == ("-C", conf, "-rx", "core show version")
    assert instance.env["OPENSSL_CONF"] == "/dev/null"
    assert instance.env["PATH"]
