"""A private apt: asks the machine's apt-get for packages of another Debian suite, in a folder of its own.

Uses the machine's mirror, proxy and keyring; never its package lists, its package state or root's rights.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huibo.engine.install import InstallError

_KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{kind}") for kind in ("gpg", "pgp"))
_MAIN = re.compile(r"^'([^']+)/dists/[^/']+/main/binary-", re.MULTILINE)
_ARCHIVE = re.compile(r"^'[^']+' (\S+\.deb) (\d+) ", re.MULTILINE)

# The machine's own apt.conf.d stays in force (proxy, certificates); given with -c, this comes later and wins.
# An empty status file makes apt choose all that is needed, the C library included.
_CONF = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Default-Release "";
APT::Get::AllowUnauthenticated "false";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Post-Invoke-Stats;
"""


@dataclass(frozen=True, slots=True)
class Download:
    """What apt would fetch: bytes by the file name that it has in apt's archive folder."""

    sizes: dict[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())

    def version(self, package: str) -> str:
        """Debian's version of a package, without the epoch. Raises InstallError when it is not among them."""
        for name in self.sizes:
            found, version, _ = name.split("_", 2)
            if found == package:
                return version.rpartition("%3a")[2]
        raise InstallError(f"apt would fetch no {package}")


def architecture() -> str:
    """Debian's name of this machine's architecture ("amd64"). Raises InstallError where there is no dpkg."""
    return _run(["dpkg", "--print-architecture"]).strip()


def machine_mirror() -> str:
    """The Debian mirror that this machine's apt uses, known even before its first update.

    Raises InstallError when there is none, as on Ubuntu.
    """
    listed = _run(["apt-get", "-o", "Debug::NoLocking=1", "--print-uris", "update"])
    for mirror in _MAIN.findall(listed):
        # Cloud images name a file with a list of mirrors; /linux/debian is where Docker's packages are.
        if mirror.endswith(("/debian", "/debian.list")) and not mirror.endswith("/linux/debian"):
            return str(mirror)
    raise InstallError("apt here uses no Debian mirror: set DEBIAN_MIRROR to the address of one, …/debian")


class Apt:
    """An apt for one suite of one mirror. `folder` is its own: it must be empty, and may be deleted."""

    def __init__(self, folder: Path, mirror: str, suite: str) -> None:
        keyring = next((path for path in _KEYRINGS if path.exists()), None)
        if keyring is None:
            raise InstallError(
                "Debian's signing keys are missing: install the package debian-archive-keyring"
            )
        self._folder, self._suite = folder, suite
        for sub in ("lists/partial", "cache/archives/partial"):
            (folder / sub).mkdir(parents=True)
        (folder / "status").touch()
        arch = architecture()
        source = f"deb [arch={arch} target=Packages signed-by={keyring}] {mirror} {suite} main\n"
        (folder / "sources.list").write_text(source, encoding="utf-8")
        (folder / "apt.conf").write_text(_CONF.format(folder=folder, arch=arch), encoding="utf-8")

    def update(self) -> None:
        """Fetch the lists of the suite. Raises InstallError: no network, no such suite, bad signature."""
        _run(
            self._get("update"), f"cannot read Debian {self._suite} (check the network, or set DEBIAN_MIRROR)"
        )

    def plan(self, packages: tuple[str, ...]) -> Download:
        """What would be fetched for the packages and all that they need. Raises InstallError."""
        listed = _run(self._get("--print-uris", "install", *packages), f"Debian {self._suite} will not do")
        return Download({name: int(size) for name, size in _ARCHIVE.findall(listed)})

    def download(self, packages: tuple[str, ...], on_bytes: Callable[[int], None]) -> list[Path]:
        """Fetch the archives of `plan`; tells five times a second how many bytes are there. InstallError."""
        archives = self._folder / "cache/archives"
        with (self._folder / "log").open("w+", encoding="utf-8") as log:
            process = subprocess.Popen(
                self._get("--download-only", "install", *packages),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                while not _ended(process, 0.2):
                    on_bytes(_bytes_below(archives))
            finally:
                process.terminate()
                process.wait()
            if process.returncode:
                log.seek(0)
                raise InstallError(f"the download broke off, try again: {_complaint(log.read())}")
        return sorted(archives.glob("*.deb"))

    def _get(self, *words: str) -> list[str]:
        return ["apt-get", "-c", str(self._folder / "apt.conf"), "-q", "-y", *words]


def _ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _bytes_below(archives: Path) -> int:
    total = 0
    for file in archives.rglob("*.deb"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # moved from partial/ meanwhile
            continue
    return total


def _run(command: list[str], failing: str = "") -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise InstallError(f"no {command[0]} here: this is not Debian or Ubuntu") from error
    if done.returncode:
        raise InstallError(f"{failing or command[0]}: {_complaint(done.stdout + done.stderr)}")
    return done.stdout


def _complaint(output: str) -> str:
    """The line of apt's output that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marked = [line[2:].strip() for mark in ("E:", "W:") for line in lines if line.startswith(mark)]
    return next(iter(marked + lines[-1:]), "no message")
