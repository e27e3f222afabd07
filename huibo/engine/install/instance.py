"""One private Asterisk: its folders, its base configuration, the words that start it and talk to it.

Owns everything below its folder and nothing else. Starts no process, and knows nothing of calls: what the
instance is for comes in as `files`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template as _StringTemplate

from huibo.engine.install.binary import Asterisk

# sun_path holds 108 bytes with the closing zero (unix(7)); Asterisk would cut off the rest.
_SOCKET_PATH_MAX = 107

_BASE = {
    "modules.conf": "[modules]\nautoload=no\n",
    "logger.conf": "[general]\nqueue_log=no\n[logfiles]\nmessages => notice,warning,error,verbose(3)\n",
    "indications.conf": (
        "[general]\ncountry=cn\n[cn]\ndescription=China\nringcadence=1000,4000\ndial=450\nbusy=450/350,0/350\n"
        "ring=450/1000,0/4000\ncongestion=450/700,0/700\n"
    ),
    # Not needed by anyone, but missed loudly in the log.
    "acl.conf": "",
    "websocket_client.conf": "",
    "cdr.conf": "[general]\nenable=no\n",
    "stasis.conf": "[declined_message_types]\n",
} | {f"{name}.conf": "[general]\n" for name in ("cel", "features", "udptl", "pjproject", "ccss", "manager")}
_FOLDERS = (
    *("etc", "run", "log", "lib", "db", "keys/keys", "cache"),
    *("spool/recording", "spool/monitor", "spool/outgoing", "spool/tmp"),
)


class Template(_StringTemplate):
    """A configuration text with `@{name}` placeholders; any other `@`, and Asterisk's own `${…}`, stay."""

    delimiter = "@"
    pattern = r"@(?:(?P<escaped>@(?!\{))|\{(?P<braced>[^{}\s]+)\}|(?P<named>(?!))|(?P<invalid>(?!)))"  # type: ignore[assignment]


def render(templates: Path, values: Mapping[str, object]) -> dict[str, str]:
    """Every *.conf of a folder, by file name, placeholders replaced. Raises KeyError for a missing value."""
    return {
        file.name: Template(file.read_text(encoding="utf-8")).substitute(values)
        for file in sorted(templates.glob("*.conf"))
    }


@dataclass(frozen=True, slots=True)
class Instance:
    """An Asterisk that runs in a folder of its own, as the user who starts it."""

    asterisk: Asterisk
    folder: Path

    @property
    def etc(self) -> Path:
        """The configuration folder."""
        return self.folder / "etc"

    @property
    def log(self) -> Path:
        """The log that Asterisk writes: notices, warnings, errors, and what it does up to verbosity 3."""
        return self.folder / "log/messages"

    @property
    def run(self) -> Path:
        """The folder of the control socket and the pid file: `run/`, or a short one when that is too long."""
        run = self.folder.absolute() / "run"
        if len(os.fsencode(run / "asterisk.ctl")) <= _SOCKET_PATH_MAX:
            return run
        digest = hashlib.sha256(os.fsencode(self.folder.absolute())).hexdigest()[:16]
        short = Path(tempfile.gettempdir(), f"huibo-{os.getuid()}-{digest}")
        return (
            short
            if len(os.fsencode(short / "asterisk.ctl")) <= _SOCKET_PATH_MAX
            else Path("/tmp", short.name)
        )

    def write(self, files: Mapping[str, str]) -> None:
        """Make the folders (0700) and the configuration (0600: there are passwords in it).

        `files` by name replace or join the base; what an earlier write left besides is removed.
        Raises PermissionError when the short run folder belongs to somebody else.
        """
        for name in _FOLDERS:
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for private in (self.folder, self.etc):
            private.chmod(0o700)
        _own(self.run)
        texts = _BASE | {"asterisk.conf": self._asterisk_conf()} | dict(files)
        for stale in set(os.listdir(self.etc)) - texts.keys():
            (self.etc / stale).unlink()
        for name, text in texts.items():
            _write(self.etc / name, text)

    @property
    def argv(self) -> tuple[str, ...]:
        """Runs it in the foreground until it is told to stop (SIGTERM stops it at once)."""
        return (*self.asterisk.argv, "-f", "-n", "-C", str(self._conf))

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of the process: it inherits nothing by chance."""
        base = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder.absolute()),
        }
        return base | dict(self.asterisk.env)

    def cli(self, command: str) -> tuple[str, ...]:
        """Runs one console command on the running instance and prints what it says."""
        return (*self.asterisk.argv, "-C", str(self._conf), "-rx", command)

    @property
    def _conf(self) -> Path:
        return self.etc.absolute() / "asterisk.conf"

    def _asterisk_conf(self) -> str:
        own = self.folder.absolute()
        directories = {
            "astetcdir": own / "etc",
            "astmoddir": self.asterisk.modules,
            "astvarlibdir": own / "lib",
            "astdbdir": own / "db",
            "astkeydir": own / "keys",
            "astdatadir": self.asterisk.data,
            "astagidir": own / "lib/agi-bin",
            "astspooldir": own / "spool",
            "astrundir": self.run,
            "astlogdir": own / "log",
            "astsbindir": Path(self.asterisk.argv[-1]).parent,
            "astcachedir": own / "cache",
        }
        # A semicolon begins a comment in Asterisk's files.
        lines = [
            f"{name} => ".ljust(16) + str(path).replace(";", "\\;") for name, path in directories.items()
        ]
        return "\n".join(["[directories]", *lines, "[options]", "hideconnect => yes", ""])


def _own(folder: Path) -> None:
    """Make a folder that only we can enter; one that somebody else made first is not trusted."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
        raise PermissionError(f"{folder} belongs to somebody else: remove it or use a shorter path")
    folder.chmod(0o700)


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
