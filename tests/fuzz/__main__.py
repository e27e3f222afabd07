"""The long form: `./dev python -m tests.fuzz --inputs 1000000`, shared over the targets.

Guided by coverage where atheris is installed, else random. What makes a target fail is written to a file.
"""

from __future__ import annotations

import argparse
import importlib
import random
import subprocess
import sys
import tempfile
import time
import traceback
from importlib.util import find_spec
from pathlib import Path

NAMES = ("wire", "ari", "machine", "http")
_MAX_LEN = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--target", choices=NAMES, help="only this one")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--random", action="store_true", help="without atheris, also where it is installed")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)  # the process of one target
    asked = parser.parse_args()
    if asked.guided:
        return guided(asked.target, asked.inputs, asked.seed)
    targets = (asked.target,) if asked.target else NAMES
    each, failed = -(-asked.inputs // len(targets)), 0
    use_atheris = find_spec("atheris") is not None and not asked.random
    print(
        f"seed {asked.seed}, {'guided by coverage' if use_atheris else 'random (atheris is not installed)'}"
    )
    for name in targets:
        began = time.monotonic()
        if use_atheris:
            command = (sys.executable, "-m", "tests.fuzz", "--guided", "--target", name)
            bad = subprocess.run([*command, f"--inputs={each}", f"--seed={asked.seed}"]).returncode != 0
        else:
            bad = not at_random(name, each, asked.seed)
        took = time.monotonic() - began
        print(f"{name:8} {each} inputs in {took:.0f} s: {'FAILED' if bad else 'nothing found'}", flush=True)
        failed += bad
    return 1 if failed else 0


def at_random(name: str, inputs: int, seed: int) -> bool:
    target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    chance = random.Random(f"{seed} {name}")
    for _ in range(inputs):
        data = chance.randbytes(chance.randrange(_MAX_LEN))
        try:
            target(data)
        except Exception:
            traceback.print_exc()
            found = Path(tempfile.gettempdir()) / f"huibo-fuzz-{name}-{seed}"
            found.write_bytes(data)
            print(f"{name}: this input is in {found}")
            return False
    return True


def guided(name: str, inputs: int, seed: int) -> int:
    import atheris  # type: ignore[import-not-found,unused-ignore]

    with atheris.instrument_imports(include=["huibo"]):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    folder = tempfile.mkdtemp(prefix=f"huibo-fuzz-{name}-")
    options = [f"-runs={inputs}", f"-seed={seed % 2**31 or 1}", f"-max_len={_MAX_LEN}", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/found-"], target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
