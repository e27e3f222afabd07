"""What an Asterisk is to huibo: how to run it, where its modules and data are, which version it says it is.

Knows two shapes: a root folder unpacked from packages (run by its own loader) and a binary of the system.
Never decides which one is used (resolve.py) nor whether its version will do (version.py).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huibo.engine.install.version import UnsuitableAsterisk, parse

# The libssl of another release must not read the machine's openssl.cnf, and Asterisk needs nothing from it.
_ROOT_ENV = (("OPENSSL_CONF", "/dev/null"),)
_MODULES = ("lib/*/asterisk/modules", "lib/asterisk/modules", "lib64/asterisk/modules")


@dataclass(frozen=True, slots=True)
class Asterisk:
    """An Asterisk that can be run; nothing of it is ever written to."""

    argv: tuple[str, ...]  # the words that run it; its own arguments follow
    modules: Path  # astmoddir
    data: Path  # astdatadir
    version: str  # "22.10.1"
    origin: str  # "HUIBO_ASTERISK" | "system" | "private prefix"
    env: tuple[tuple[str, str], ...] = ()  # to add to the environment


def root_argv(root: Path, program: str) -> tuple[str, ...]:
    """The words that run `program` ("usr/sbin/asterisk") of an unpacked root with the root's own libraries.

    Raises FileNotFoundError when the root lacks the program or a loader.
    """
    loader = next(iter(sorted(root.glob("usr/lib/*/ld-linux-*.so.*"))), None)
    binary = root / program
    if loader is None or not binary.is_file():
        raise FileNotFoundError(f"{root} holds no {program} with a loader beside it")
    libraries = ("--inhibit-cache", "--library-path", str(loader.parent))
    return (str(loader), *libraries, "--argv0", binary.name, str(binary))


def from_root(root: Path, origin: str) -> Asterisk:
    """The Asterisk of an unpacked root. Raises FileNotFoundError; UnsuitableAsterisk when it does not run."""
    argv = root_argv(root, "usr/sbin/asterisk")
    modules, data = _belongings(root / "usr")
    return Asterisk(argv, modules, data, ask_version(argv), origin, _ROOT_ENV)


def from_binary(binary: Path, origin: str) -> Asterisk:
    """An installed Asterisk, one inside an unpacked root, or a wrapper script beside an unpacked `root`.

    Raises UnsuitableAsterisk when it does not run or its modules are not found.
    """
    binary = binary.absolute()
    if len(binary.parents) > 2 and _is_unpacked(binary.parents[2]):
        return from_root(binary.parents[2], origin)
    version = ask_version((str(binary),))
    for place in _prefixes(binary):
        try:
            modules, data = _belongings(place)
        except FileNotFoundError:
            continue
        return Asterisk((str(binary),), modules, data, version, origin)
    raise UnsuitableAsterisk(
        f"{binary} is Asterisk {version}, but its modules were found in none of "
        + ", ".join(f"{place}/lib*/asterisk/modules" for place in _prefixes(binary))
    )


def ask_version(argv: tuple[str, ...]) -> str:
    """What `asterisk -V` says, as "22.10.1". Raises UnsuitableAsterisk when it does not run."""
    try:
        done = subprocess.run(
            [*argv, "-V"], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnsuitableAsterisk(f"{argv[-1]} does not run: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UnsuitableAsterisk(f"{argv[-1]} does not run (exit code {done.returncode}): {said}")
    return parse(done.stdout)


def _is_unpacked(folder: Path) -> bool:
    return folder != Path("/") and any(folder.glob("usr/lib/*/ld-linux-*.so.*"))


def _prefixes(binary: Path) -> Iterator[Path]:
    """Where the modules of a binary may be: beside a wrapper, under its own prefix, in the usual places."""
    yield binary.parent / "root/usr"
    yield binary.parent.parent
    yield binary.resolve().parent.parent
    yield Path("/usr")
    yield Path("/usr/local")


def _belongings(prefix: Path) -> tuple[Path, Path]:
    """astmoddir and astdatadir under a prefix (packages use share/, a build from source var/lib/)."""
    modules = next((found for place in _MODULES for found in sorted(prefix.glob(place))), None)
    if modules is None:
        raise FileNotFoundError(f"no Asterisk modules under {prefix}")
    candidates = [prefix / "share/asterisk", prefix / "var/lib/asterisk", prefix.parent / "var/lib/asterisk"]
    # Without its documentation Asterisk refuses the options of half its modules.
    data = next((place for place in candidates if (place / "documentation").is_dir()), candidates[0])
    return modules, data
