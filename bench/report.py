"""What was measured, as tables for people and as JSON for programs, and on which machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huibo


@dataclass
class Section:
    """One part of the report. `figures`: what the tables show, unrounded."""

    title: str
    figures: dict[str, Any] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = [heads, ["---"] * len(heads), *rows]
        self.parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))

    def text(self, words: str) -> None:
        self.parts.append(words)

    def markdown(self) -> str:
        return f"## {self.title}\n\n" + "\n\n".join(self.parts) + "\n"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95, p99."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    cut = statistics.quantiles(values, n=100, method="inclusive")
    return cut[49], cut[94], cut[98]


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "huibo": huibo.__version__,
    }


def write(sections: Sequence[Section], about: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """report.md and report.json; returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    text, data = folder / "report.md", folder / "report.json"
    text.write_text(
        f"# Measurements\n\n{lines}. Ratios of one run on one machine.\n\n"
        + "\n".join(section.markdown() for section in sections)
    )
    figures = {section.title: section.figures for section in sections}
    data.write_text(json.dumps({"machine": about, "figures": figures}, indent=1, ensure_ascii=False) + "\n")
    return text, data
