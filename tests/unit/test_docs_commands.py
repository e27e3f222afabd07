"""The commands that the documents show are commands that there are, with the options that they have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command, get_group

from huibo.cli import _COMMANDS, _GROUPS, cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "README.zh-CN.md", "docs/first-call.md", "docs/operate.md", "docs/pushes.md"]
_CALL = r"(?:\./dev cli|huibo) ([a-z][^`\n]*)"
_IN_A_BLOCK = re.compile(rf"^\s*(?:\$ )?{_CALL}", re.MULTILINE)
_IN_A_LINE = re.compile(rf"`{_CALL}`")


def commands(document: str) -> Iterator[list[str]]:
    """The words after `huibo`, up to a comment or an explanation; a line that goes on is put together."""
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    parts = text.split("```")
    found = [shown for block in parts[1::2] for shown in _IN_A_BLOCK.findall(block)]
    found += [shown for prose in parts[::2] for shown in _IN_A_LINE.findall(prose.replace("\n", " "))]
    for shown in found:
        yield shlex.split(re.split(r"\s#|\s{3,}", shown)[0])


def named(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words call, and what is left of them. Fails where there is none."""
    first, *rest = words
    if first in _GROUPS:
        group = get_group(import_module(f"huibo.cli.{_GROUPS[first][0]}").commands)
        if not rest or rest[0].startswith("-"):
            return group, rest
        assert rest[0] in group.commands, f"huibo {first} {rest[0]}"
        return group.commands[rest[0]], rest[1:]
    if first in _COMMANDS:
        return get_command(import_module(f"huibo.cli.{_COMMANDS[first][0]}").commands), rest
    built_in = get_command(cli)
    assert isinstance(built_in, typer.core.TyperGroup)
    assert first in built_in.commands, f"huibo {first}"
    return built_in.commands[first], rest


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_is_shown_exists(document: str) -> None:
    seen = list(commands(document))
    assert len(seen) > 3
    for words in seen:
        command, rest = named(words)
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert used <= known, f"huibo {shlex.join(words)}"
