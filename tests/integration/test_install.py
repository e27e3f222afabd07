"""Real: the resolved Asterisk runs, a prefix is fetched and unpacked, ./dev makes environments."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from huibo.engine.install import InstallError, apt
from huibo.engine.install.binary import Asterisk, root_argv
from huibo.engine.install.instance import Instance
from huibo.engine.install.prefix import Progress, ensure
from huibo.engine.install.resolve import resolve
from huibo.engine.install.settings import InstallSettings
from huibo.engine.install.version import check

REPO = Path(__file__).parents[2]
UNREACHABLE = "http://127.0.0.1:1/debian"
needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs Debian's or Ubuntu's apt")


# --- a private Asterisk ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asterisk() -> Asterisk:
    return resolve()


async def cli(instance: Instance, command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *instance.cli(command),
        env=instance.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def booted(instance: Instance, process: asyncio.subprocess.Process) -> None:
    """Asks until Asterisk answers: before that there is nothing that could be awaited."""
    async with asyncio.timeout(20):
        while (await cli(instance, "core waitfullybooted"))[0] != 0:
            assert process.returncode is None, "Asterisk ended while it started"


@pytest.mark.parametrize("folder", ["plain", "with space; and mark", "deep/" + "x" * 120])
async def test_it_starts_answers_and_stops_with_a_silent_log(
    asterisk: Asterisk, tmp_path: Path, folder: str
) -> None:
    instance = Instance(asterisk, tmp_path / folder)
    instance.write({})
    process = await asyncio.create_subprocess_exec(
        *instance.argv, env=instance.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await booted(instance, process)
        code, said = await cli(instance, "core show version")
        assert code == 0
        assert f"Asterisk {asterisk.version}" in said
        paths = (await cli(instance, "core show settings"))[1]
        for path in (instance.etc, instance.log.parent, instance.run, asterisk.modules, asterisk.data):
            assert str(path) in paths
        process.terminate()
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if not instance.run.is_relative_to(instance.folder):
            shutil.rmtree(instance.run)
    log = instance.log.read_text(encoding="utf-8")
    assert "Asterisk Ready" in log
    assert [line for line in log.splitlines() if "WARNING" in line or "ERROR" in line] == []


def test_the_resolved_one_is_suitable_and_has_what_ari_needs(asterisk: Asterisk) -> None:
    check(asterisk.version)
    for module in ("res_ari.so", "res_http_websocket.so", "chan_pjsip.so"):
        assert (asterisk.modules / module).is_file()
    assert (asterisk.data / "documentation").is_dir()


# --- a prefix, fetched ----------------------------------------------------------------------------

# Prints each stage once, then the root.
BUILD = """
import sys
from pathlib import Path
from huibo.engine.install.prefix import ensure
from huibo.engine.install.settings import InstallSettings
stages = []
def show(progress):
    if progress.stage not in stages:
        stages.append(progress.stage)
root = ensure(("sip-tester",), "usr/bin/sipp", InstallSettings(cache=Path(sys.argv[1])), show)
print(",".join(stages), root, sep="|")
"""


@dataclass(frozen=True)
class Built:
    cache: Path
    root: Path
    stages: list[str]  # of each of the two processes


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Two processes want the same prefix at once, and an earlier one was killed over it."""
    cache = tmp_path_factory.mktemp("a cache")
    (cache / "prefix/.sip-tester-killed.part/root").mkdir(parents=True)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(cache)],
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": str(REPO)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=200)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    stages, roots = zip(*(line.split("|") for line in said), strict=True)
    assert roots[0] == roots[1]
    yield Built(cache, Path(roots[0]), sorted(stages))
    shutil.rmtree(cache)


@needs_apt
def test_one_of_two_processes_builds_and_the_other_waits(built: Built) -> None:
    assert built.stages == ["lists,download,unpack", "wait"]


@needs_apt
def test_nothing_is_left_but_the_prefix_and_its_lock(built: Built) -> None:
    assert {path.name for path in (built.cache / "prefix").iterdir()} == {built.root.name, ".sip-tester.lock"}


@needs_apt
def test_the_program_runs_from_there(built: Built) -> None:
    done = subprocess.run([*root_argv(built.root, "usr/bin/sipp"), "-v"], capture_output=True, text=True)
    assert "SIPp v3." in done.stdout + done.stderr


@needs_apt
def test_a_second_time_needs_no_network(built: Built) -> None:
    seen: list[Progress] = []
    settings = InstallSettings(cache=built.cache, mirror=UNREACHABLE)
    assert ensure(("sip-tester",), "usr/bin/sipp", settings, seen.append) == built.root
    assert seen == []


@needs_apt
def test_the_mirror_is_named_in_no_file(built: Built) -> None:
    host = (urlsplit(apt.machine_mirror()).hostname or "").encode()
    assert host
    files = [path for path in built.cache.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 50
    assert [path for path in files if host in path.read_bytes()] == []


@needs_apt
def test_no_file_runs_with_the_rights_of_its_owner(built: Built) -> None:
    assert [path for path in built.root.rglob("*") if path.lstat().st_mode & 0o6000] == []


@needs_apt
def test_an_unreachable_mirror_is_one_clear_line_and_leaves_nothing(tmp_path: Path) -> None:
    settings = InstallSettings(cache=tmp_path, mirror=UNREACHABLE)
    with pytest.raises(InstallError, match="check the network, or set DEBIAN_MIRROR") as error:
        ensure(settings=settings)
    assert "\n" not in str(error.value)
    assert {path.name for path in (tmp_path / "prefix").iterdir()} == {".asterisk.lock"}


@needs_apt
def test_a_version_that_will_not_do_is_not_downloaded(tmp_path: Path) -> None:
    def refuse(version: str) -> None:
        raise InstallError(f"{version} will not do")

    seen: list[Progress] = []
    settings = InstallSettings(cache=tmp_path, suites=("forky",))
    with pytest.raises(InstallError, match=r"3\.\S+ will not do"):
        ensure(("sip-tester",), "usr/bin/sipp", settings, seen.append, refuse)
    assert [progress.stage for progress in seen] == ["lists"]


# --- ./dev ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the repository, as far as ./dev needs it, that locks no package: nothing is downloaded."""
    tree = tmp_path_factory.mktemp("my copy")
    shutil.copy(REPO / "dev", tree)
    (tree / "huibo").mkdir()
    (tree / "huibo/__init__.py").touch()  # or one on PYTHONPATH, such as the tests' own, would come first
    (tree / "huibo/__main__.py").write_text(
        "import os, sys\nprint(sys.argv[1:], os.environ.get('HUIBO_INSTANCE'), __file__)\n", encoding="utf-8"
    )
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (tree / lock).write_text("# nothing\n", encoding="utf-8")
    yield tree
    shutil.rmtree(tree)


def dev(tree: Path, *words: str, path: str | None = None) -> subprocess.Popen[str]:
    """Starts it from a folder elsewhere."""
    environment = {**os.environ, **({"PATH": path} if path else {})}
    return subprocess.Popen(
        [str(tree / "dev"), *words],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out.strip(), err.strip()


INSTALLING = "installing Python packages …"


def test_two_at_once_make_one_environment_then_it_is_there(tree: Path) -> None:
    both = [finish(process) for process in (dev(tree, "demo", "--fast"), dev(tree, "cli", "two words"))]
    assert [code for code, _, _ in both] == [0, 0]
    assert [err for _, _, err in both].count(INSTALLING) == 1
    main = tree / "huibo/__main__.py"
    assert both[0][1] == f"['demo', '--fast'] None {main}"
    assert both[1][1] == f"['two words'] newest {main}"
    assert finish(dev(tree, "up")) == (0, f"['up'] None {main}", "")


def test_a_changed_lock_is_installed_and_an_interrupted_one_is_begun_anew(tree: Path) -> None:
    finish(dev(tree, "up"))
    (tree / "requirements.lock").write_text("# still nothing\n", encoding="utf-8")
    assert finish(dev(tree, "up"))[2] == INSTALLING
    (tree / ".venv/.unfinished").touch()
    (tree / ".venv/half-done").touch()
    assert finish(dev(tree, "up"))[2] == INSTALLING
    assert not (tree / ".venv/half-done").exists()


def test_a_failure_shows_why_and_is_tried_again(tree: Path) -> None:
    (tree / "requirements.lock").write_text("no valid requirement\n", encoding="utf-8")
    code, out, err = finish(dev(tree, "demo"))
    assert (code, out) == (1, "")
    assert "requirement" in err
    assert err.endswith("see above, then run this again")
    (tree / "requirements.lock").write_text("# nothing\n", encoding="utf-8")
    assert finish(dev(tree, "demo"))[0] == 0


@pytest.mark.parametrize(
    ("python", "complaint"),
    [
        (None, "Python 3.11 or newer is needed"),
        ('[ "$1" = -V ] && echo Python 3.9.2\n[ "$1" = -V ] || [ "$2" = "" ]', "here is Python 3.9.2"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt install python3-venv, or install uv"),
        ("echo shim: command not found >&2; exit 127", "Python 3.11 or newer is needed"),
    ],
)
def test_without_a_python_that_will_do_one_line_says_what_to_install(
    tmp_path: Path, python: str | None, complaint: str
) -> None:
    tree = tmp_path / "tree"
    tools = tmp_path / "bin"
    tools.mkdir(parents=True)
    tree.mkdir()
    shutil.copy(REPO / "dev", tree)
    (tree / "requirements.lock").touch()
    for tool in ("bash", "cat", "dirname", "flock", "mktemp", "readlink", "rm", "sha256sum", "tail"):
        (tools / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool} here"))
    if python is not None:
        (tools / "python3").write_text(f"#!/bin/sh\n{python}\n", encoding="utf-8")
        (tools / "python3").chmod(0o755)
    code, out, err = finish(dev(tree, "demo", path=str(tools)))
    assert (code, out) == (1, "")
    first, last = err.splitlines()
    assert first == INSTALLING
    assert complaint in last


def test_the_locks_name_versions_and_hashes_and_no_place() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        for line in (REPO / name).read_text(encoding="utf-8").splitlines():
            assert line.startswith("    --hash=sha256:") or "==" in line, line
            assert "://" not in line
            assert " @ " not in line
