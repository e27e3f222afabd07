"""Doctor: the folders of recordings and prompts, and whether the disk has room."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huibo.config import Settings
from huibo.engine.ari.examine import user_of
from huibo.findings import Finding, fail, ok, warn

_LITTLE, _NOTHING = 1_000_000_000, 100_000_000  # bytes


def examine(settings: Settings) -> Iterator[Finding]:
    recording, prompts = settings.recording, settings.prompts.folder
    engines_user = user_of(settings.engine)
    for topic, folder in (
        ("recordings", recording.folder),
        ("recordings", recording.raw_folder),
        ("prompts", prompts),
    ):
        found = _writable(topic, folder)
        yield found
        if found.level == "ok":
            yield from _room(topic, folder)
    if engines_user is not None:
        yield from _for_engine("recordings", recording.raw_folder, engines_user, os.R_OK | os.W_OK | os.X_OK)
        yield from _for_engine("prompts", prompts, engines_user, os.R_OK | os.X_OK)
    if any(char in str(prompts) for char in ",&|"):
        yield fail("prompts", f"{prompts} has a , & or | in it", "choose another [prompts] folder")


def _writable(topic: str, folder: Path) -> Finding:
    """Tried out: permissions are not all that there is."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent  # huibo makes what is missing
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x" * 4096)
    except OSError as error:
        user = pwd.getpwuid(os.getuid()).pw_name
        missing = "" if place == folder else f" (there is only {place})"
        text = f"{user} cannot write to {folder}{missing}: {error.strerror}"
        return fail(topic, text, "make it, and give it to the user that huibo runs as")
    if place != folder:
        return ok(topic, f"{folder} is not there yet, and can be made")
    return ok(topic, f"{folder} can be written to")


def _room(topic: str, folder: Path) -> Iterator[Finding]:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < _LITTLE:
        text = f"the disk of {folder} has {free // 1_000_000} MB left"
        hint = "make room, or keep recordings for fewer days"
        yield fail(topic, text, hint) if free < _NOTHING else warn(topic, text, hint)


def _for_engine(topic: str, folder: Path, user: int, need: int) -> Iterator[Finding]:
    if not folder.exists():
        if user != os.getuid():
            hint = "make it beforehand, for the group of huibo and Asterisk"
            yield warn(topic, f"{folder} will be huibo's alone, and Asterisk is another user", hint)
        return
    inside = may(folder, user, need)
    if inside and all(may(parent, user, os.X_OK) for parent in folder.parents):
        yield ok(topic, f"Asterisk may {'write to' if need & os.W_OK else 'read'} {folder}")
        return
    what = "write to" if need & os.W_OK else "read"
    hint = "give it to a group of huibo and Asterisk, with the folders above it"
    yield fail(topic, f"Asterisk, user {user}, may not {what} {folder}", hint)


def may(path: Path, user: int, need: int) -> bool:
    """Whether the permissions of a file or folder let a user do that (os.R_OK, W_OK, X_OK)."""
    found = path.stat()
    if user == 0:
        return True
    if found.st_uid == user:
        granted = found.st_mode >> 6
    elif found.st_gid in _groups(user):
        granted = found.st_mode >> 3
    else:
        granted = found.st_mode
    return stat.S_IMODE(granted) & need == need


def _groups(user: int) -> set[int]:
    try:
        entry = pwd.getpwuid(user)
        return {*os.getgrouplist(entry.pw_name, entry.pw_gid)}
    except KeyError:
        return set()
