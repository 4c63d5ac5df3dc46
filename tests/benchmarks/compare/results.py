"""What was measured: samples by row, figure and side, kept as JSON; and what follows from them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from .row import Goal
from .systems import KAFKA, KLAMM

SIDES: Final = (KLAMM, KAFKA)


@dataclass(slots=True)
class RowResult:
    """All rounds of one row."""

    measured: str
    """When, in UTC."""
    scale: float
    environment: Mapping[str, str]
    rounds: int = 0
    """Those that are complete."""
    seconds: float = 0.0
    """How long the row took, both systems, without the start of the clusters."""
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Samples by figure and side."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why there is nothing of a side."""
    errors: list[str] = field(default_factory=list)
    """What went wrong in rounds that do not count."""

    def add(self, figure: str, side: str, value: float) -> None:
        """Takes one sample."""
        self.figures.setdefault(figure, {name: [] for name in SIDES})[side].append(value)


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of some samples."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, samples: Iterable[float]) -> Spread | None:
        """None if there are none."""
        values = sorted(samples)
        return cls(statistics.median(values), values[0], values[-1], len(values)) if values else None

    def __str__(self) -> str:
        if self.count == 1:
            return f"{number(self.median)} (once)"
        return f"{number(self.median)} ({number(self.least)} .. {number(self.most)})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of a row, both sides of it."""

    figure: str
    klamm: Spread | None
    kafka: Spread | None
    goal: Goal | None

    @classmethod
    def of(cls, figure: str, samples: Mapping[str, Iterable[float]], goal: Goal | None) -> Comparison:
        """From the samples of both sides."""
        return cls(figure, Spread.of(samples.get(KLAMM, ())), Spread.of(samples.get(KAFKA, ())), goal)

    @property
    def ratio(self) -> float | None:
        """Klamm's median by Kafka's; None if one of them is missing or nothing can be divided by it."""
        if self.klamm is None or self.kafka is None or self.kafka.median == 0:
            return None
        return self.klamm.median / self.kafka.median

    @property
    def verdict(self) -> str:
        """Reached or not; nothing where there is no goal, or nothing to compare with."""
        if self.goal is None:
            return ""
        if self.ratio is None:
            return "not measured"
        return "yes" if self.goal.is_reached(self.ratio) else "no"


def number(value: float) -> str:
    """Three digits that mean something, or all of them before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def load(path: Path) -> dict[str, RowResult]:
    """What is there by the key of its row; empty if there is no such file."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {key: RowResult(**row) for key, row in stored["rows"].items()}


def save(path: Path, rows: Mapping[str, RowResult]) -> None:
    """Replaces the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"rows": {key: asdict(row) for key, row in rows.items()}}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    new.replace(path)
