"""How the failover demo shows itself: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from ..proto.broker_pb2 import PartitionDescription

EVENTS_SHOWN: Final = 12
PLAIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be shown at one moment."""

    total: int
    sent: int
    acked: int
    consumed: int
    partitions: tuple[PartitionDescription, ...]
    high_watermarks: dict[int, int]


class View(Protocol):
    """Shows how the demo goes. `event` may be called from any thread."""

    def __enter__(self) -> View: ...
    def __exit__(self, *_: object) -> None: ...
    def event(self, text: str) -> None:
        """Something happened."""

    def show(self, snapshot: Snapshot) -> None:
        """This is how it stands."""


class Rates:
    """How many per second, from one look to the next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._counts = (0, 0)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    def since_last(self, acked: int, consumed: int) -> tuple[int, int]:
        """Acked and consumed per second since the last call."""
        now = self._clock()
        seconds = max(now - self._last, 1e-9)
        rates = round((acked - self._counts[0]) / seconds), round((consumed - self._counts[1]) / seconds)
        self._last, self._counts = now, (acked, consumed)
        return rates


class PlainView:
    """A line every two seconds, and one per event."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._next = PLAIN_SECONDS

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, text: str) -> None:
        """Prints it with the time."""
        print(f"{self._rates.elapsed:6.1f} s  {text}", flush=True)

    def show(self, snapshot: Snapshot) -> None:
        """Prints a line if it is time for one."""
        if self._rates.elapsed < self._next:
            return
        self._next = self._rates.elapsed + PLAIN_SECONDS
        acked, consumed = self._rates.since_last(snapshot.acked, snapshot.consumed)
        leaders = ",".join(str(partition.leader_id) for partition in snapshot.partitions)
        in_sync = ",".join(str(len(partition.isr)) for partition in snapshot.partitions)
        self.event(
            f"acked {snapshot.acked:,} of {snapshot.total:,} ({acked:,}/s), consumed {snapshot.consumed:,} "
            f"({consumed:,}/s), leaders {leaders}, in sync {in_sync}"
        )


class LiveView:
    """A table that is drawn anew a few times a second."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._events: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self._live: Live | None = None
        self._shown: tuple[Snapshot, int, int] | None = None  # with acked and consumed per second

    def __enter__(self) -> LiveView:
        from rich.live import Live

        self._live = Live(refresh_per_second=8)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def event(self, text: str) -> None:
        """Shown below the table until newer ones push it out."""
        self._events.append(f"{self._rates.elapsed:6.1f} s  {text}")
        self._draw()

    def show(self, snapshot: Snapshot) -> None:
        """Draws the table anew."""
        self._shown = (snapshot, *self._rates.since_last(snapshot.acked, snapshot.consumed))
        self._draw()

    def _draw(self) -> None:
        if self._live is not None and self._shown is not None:
            self._live.update(self._render(*self._shown), refresh=True)

    def _render(self, snapshot: Snapshot, acked: int, consumed: int) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table("partition", "leader", "epoch", "ISR", "high watermark", title="klamm demo failover")
        for partition in snapshot.partitions:
            whole = len(partition.isr) == len(partition.replicas)
            table.add_row(
                str(partition.partition),
                f"broker-{partition.leader_id}" if partition.leader_id >= 0 else "[red]none[/red]",
                str(partition.leader_epoch),
                f"[{'green' if whole else 'yellow'}]{', '.join(str(broker) for broker in sorted(partition.isr))}[/]",
                f"{snapshot.high_watermarks[partition.partition]:,}"
                if partition.partition in snapshot.high_watermarks
                else "-",
            )
        counts = (
            f"acked {snapshot.acked:,} of {snapshot.total:,}, {acked:,}/s   "
            f"consumed {snapshot.consumed:,}, {consumed:,}/s"
        )
        bar = Table.grid()  # a bar by itself does not end its line
        bar.add_row(ProgressBar(total=snapshot.total, completed=snapshot.acked, width=80))
        return Group(table, Text(counts), bar, Text("\n".join(self._events)))
