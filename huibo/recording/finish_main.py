"""The helper process that finishes recordings: one job a line on standard input, one answer a line back.

Ends with its input. Works behind everything else that the machine has to do.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huibo.recording.finish import finish
from huibo.recording.job import Job, Unfinished

_NICE = 10


def main() -> None:
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's: whoever started us ends us
    with suppress(BrokenPipeError):
        for line in sys.stdin:
            sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
            sys.stdout.flush()


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    paths = {name: Path(asked[name]) for name in ("said", "heard", "into")}
    try:
        return asdict(finish(Job(**asked | paths)))
    except Unfinished as error:
        return {"reason": error.reason, "blameless": error.blameless}
    except Exception as error:
        traceback.print_exc()
        return {"reason": f"{type(error).__name__}: {error}", "blameless": False}


if __name__ == "__main__":
    main()
