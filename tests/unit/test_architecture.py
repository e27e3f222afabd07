"""The rules that keep the program legible, checked on its source: who imports what, who says which words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import huibo

ROOT = Path(huibo.__file__).parent
MAX_LINES = 400

PURE = (
    *("model", "errors", "findings", "numbers", "rating", "yuan", "engine.events", "engine.ari.objects"),
    *("flow.machine", "flow.menu", "flow.settle", "flow.state", "flow.turn"),
    *("admission.access", "admission.display", "admission.facts", "admission.hours", "admission.limits"),
    *("admission.money", "admission.routing"),
    *("wire.body", "wire.fields", "wire.menu", "wire.notifier", "wire.openapi", "wire.openapi_fields"),
    *("wire.operations", "wire.pushes", "wire.queries", "wire.tencent"),
)
# In a pure folder, yet not pure: it does what its name says.
IMPURE = {
    *("admission.abuse", "admission.admit"),
    *("flow.diary", "flow.live", "flow.runner"),
    *("wire.routes", "wire.http11"),
}
# All that a pure module may import from outside: none of these can reach the world.
HARMLESS = {
    *(
        "__future__",
        "bisect",
        "collections",
        "collections.abc",
        "dataclasses",
        "enum",
        "functools",
        "operator",
        "types",
        "typing",
    ),
    *("base64", "binascii", "datetime", "hashlib", "hmac", "ipaddress", "itertools", "json", "math", "re"),
    *("string", "textwrap", "unicodedata", "urllib.parse", "zlib"),
    *("orjson", "phonenumbers", "pydantic"),
}

# Who may look at the environment, and why.
ENVIRONMENT = {
    "config": "the settings",
    "engine.install.settings": "the installer's own: it runs before there are settings",
    "cli": "--instance chooses HUIBO_CONFIG for this process",
    "stack.stack": "hands the whole environment on to the control plane that it starts",
}

ASTERISKS_FOLDERS = ("engine.ari", "engine.install", "sandbox", "stack")
ASTERISKS_WORDS = re.compile(r"pjsip|stasis|chan_|Q\.850", re.IGNORECASE)

# The fields of the vendor's wire and the path of its requests.
VENDORS_WORDS = re.compile(
    r"\b(?:appId|callId|requestId|bizId|orderId|lastCallId|srcDisplayNum|dstDisplayNum|maxAllowTime|statusFlag"
    r"|statusUrl|hangupUrl|recordUrl|preCallerHandle|ringRecognition|errorCode|callStatus|userFlag|timeStamp"
    r"|callType|callEndStatus|disaccept|startSrcCallTime|startDstCallTime|srcAcceptTime|dstAcceptTime|endCallTime"
    r"|201511v\d|callBack)\b"
)
# Who says them outside wire/, and why.
WORDS_TO_CUSTOMERS = {
    "errors": "the texts of refusals go out on the wire and name the field at fault",
    **dict.fromkeys(("admission.access", "admission.display", "admission.hours"), "so do these"),
    "cli.apps": "tells the operator what the customer is to be given",
    "stack.demo": "places a call as a customer does",
    "stack.up": "shows how a customer places a call",
}


@cache
def sources() -> dict[str, str]:
    """The source of every module by its name within the package."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix("__init__").rstrip(".")
        found[name] = file.read_text(encoding="utf-8")
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(sources()[module])


def imports(module: str) -> set[str]:
    """Everything that a module imports, wherever in it: modules, and names that may be modules."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            own = node.module == "huibo" or node.module.startswith("huibo.")
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & own_modules()
            found |= submodules if own and submodules else {node.module}
    return found


@cache
def own_modules() -> frozenset[str]:
    return frozenset("huibo" if not name else f"huibo.{name}" for name in sources())


def texts(module: str) -> Iterator[tuple[int, str]]:
    """The string constants of a module, and in which line: what it says, docstrings aside."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree(module))
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def in_folders(module: str, folders: tuple[str, ...]) -> bool:
    return any(module == folder or module.startswith(f"{folder}.") for folder in folders)


def test_the_source_is_found() -> None:
    assert {"", "app", "flow.machine", "storage.migrations.env"} <= sources().keys()
    assert "huibo.storage.accounts" in imports("admission.admit")
    assert "asyncio" in imports("flow.runner")


def test_a_pure_module_imports_nothing_that_could_do_io() -> None:
    allowed = HARMLESS | {f"huibo.{name}" for name in PURE}
    assert {name: bad for name in PURE if (bad := imports(name) - allowed)} == {}


def test_every_module_of_a_pure_folder_is_pure_unless_it_is_named() -> None:
    folders = ("flow", "admission", "wire")
    modules = {name for name in sources() if in_folders(name, folders) and sources()[name]}
    assert modules == {name for name in PURE if in_folders(name, folders)} | IMPURE


def test_every_module_says_what_it_is_for() -> None:
    written = {name for name, source in sources().items() if source.strip()}
    assert {name for name in written if len(ast.get_docstring(tree(name)) or "") < 10} == set()


def test_every_module_is_of_readable_length() -> None:
    lengths = {name: len(source.splitlines()) for name, source in sources().items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def reads_environment(module: str) -> bool:
    names = {"environ", "environb", "getenv", "putenv"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and names & {alias.name for alias in node.names})
        for node in ast.walk(tree(module))
    )


def test_the_environment_is_the_settings_business() -> None:
    assert {module for module in sources() if reads_environment(module)} == ENVIRONMENT.keys()


def test_only_its_own_folders_know_asterisk() -> None:
    others = {name for name in sources() if not in_folders(name, ASTERISKS_FOLDERS)}
    assert {name: said for name in others if (said := ASTERISKS_WORDS.findall(sources()[name]))} == {}


def test_one_composition_root() -> None:
    assert {name for name in sources() if "huibo.app" in imports(name)} == {"cli"}
    adapter = ("huibo.engine.ari",)
    users = {name for name in sources() if any(in_folders(used, adapter) for used in imports(name))}
    # the doctor examines the engine, but drives none
    assert {name for name in users if not in_folders(name, ("engine.ari", "cli.doctor"))} == {"app"}


def test_only_the_wire_says_the_vendors_words() -> None:
    said = {
        f"{name}:{line}": words
        for name in sources()
        if not in_folders(name, ("wire",)) and name not in WORDS_TO_CUSTOMERS
        for line, text in texts(name)
        if (words := VENDORS_WORDS.findall(text))
    }
    assert said == {}


@pytest.mark.parametrize("module", WORDS_TO_CUSTOMERS)
def test_whoever_is_excepted_needs_it(module: str) -> None:
    assert any(VENDORS_WORDS.search(text) for _, text in texts(module))


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("model", "huibo"),
        ("errors", "wire storage flow admission push"),
        ("flow", "wire api push engine.ari engine.install"),
        ("admission", "wire api push engine"),
        ("storage", "wire api push admission engine.ari engine.install"),
        ("engine", "wire api push storage flow admission"),
        ("push", "wire api engine flow admission"),
        ("wire", "storage engine push stack sandbox"),
        ("http", "wire api storage engine flow admission push"),
        ("sandbox", "wire storage flow admission push"),
        ("office", "wire api cli desk app engine"),
        ("api", "engine prompts sandbox stack cli app"),
    ],
)
def test_the_middle_does_not_know_its_edges(folder: str, forbidden: str) -> None:
    edges = tuple("huibo" if name == "huibo" else f"huibo.{name}" for name in forbidden.split())
    users = {
        name: used
        for name in sources()
        if in_folders(name, (folder,)) and (used := {one for one in imports(name) if in_folders(one, edges)})
    }
    assert users == {}
