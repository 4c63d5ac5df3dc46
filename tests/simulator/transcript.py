"""The story of a run: one line an event, in simulated time. Two runs of one seed have the same, to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.loop import SimulatedLoop


class Transcript:
    """Lines, oldest first."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._begin_s = loop.now_s
        self.lines: list[str] = []

    def note(self, event: str) -> None:
        """One line; `event` has no line break."""
        self.lines.append(f"{self._loop.now_s - self._begin_s:9.4f} {event}")

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"
