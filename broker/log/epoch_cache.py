"""Which leader epoch began at which offset (KIP-101, KIP-279, KIP-320). Pure; `PartitionLog` writes it to disk.

Invariant: epochs and start offsets both grow strictly from entry to entry. A batch bears its epoch too, so the cache
can be built anew from the log; it exists so that nobody needs to scan the log to answer "where does epoch e end?".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from ...proto.identifiers import LeaderEpoch, Offset


class EpochEntry(NamedTuple):
    """An epoch and the first offset written under it."""

    epoch: LeaderEpoch
    start_offset: Offset


class EpochCache:
    """The entries in order, and the questions that replication asks of them."""

    def __init__(self, entries: Iterable[EpochEntry] = ()) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        for entry in entries:
            self.assign(entry.epoch, entry.start_offset)

    @property
    def entries(self) -> tuple[EpochEntry, ...]:
        return tuple(
            EpochEntry(LeaderEpoch(epoch), Offset(start))
            for epoch, start in zip(self._epochs, self._starts, strict=True)
        )

    @property
    def latest_epoch(self) -> LeaderEpoch | None:
        """The newest epoch known, with or without batches; None if the log never had any."""
        return LeaderEpoch(self._epochs[-1]) if self._epochs else None

    @property
    def latest_start_offset(self) -> Offset | None:
        """Where the newest epoch began."""
        return Offset(self._starts[-1]) if self._starts else None

    def assign(self, epoch: LeaderEpoch, start_offset: Offset) -> bool:
        """Notes that `epoch` begins at `start_offset`; True if that changed anything (and must be written down).

        Entries that contradict it (a later epoch, or a start at or past it) describe batches that are gone: they go
        too. The first start of an epoch stays; saying it again at a later offset changes nothing.
        """
        if epoch < 0 or start_offset < 0:
            raise ValueError(f"epoch {epoch} cannot start at offset {start_offset}")
        before = (len(self._epochs), self.latest_epoch, self.latest_start_offset)
        while self._epochs and self._epochs[-1] > epoch:
            self._pop()
        if self._epochs and self._epochs[-1] == epoch and self._starts[-1] <= start_offset:
            return before != (len(self._epochs), self.latest_epoch, self.latest_start_offset)
        while self._epochs and (self._epochs[-1] >= epoch or self._starts[-1] >= start_offset):
            self._pop()
        self._epochs.append(epoch)
        self._starts.append(start_offset)
        return True

    def _pop(self) -> None:
        self._epochs.pop()
        self._starts.pop()

    def end_offset_for(self, epoch: LeaderEpoch, log_end_offset: Offset) -> tuple[LeaderEpoch | None, Offset]:
        """The largest epoch known that is not above `epoch`, and where it ends (KIP-279).

        The newest epoch ends at the log end. For an epoch older than all that is kept the answer is that epoch itself
        and the first offset kept (as Kafka does: what came before was deleted, replication goes on from there).
        (None, log end) if no epoch is known at all, that is, if the log never held a batch.
        """
        if not self._epochs or epoch < 0:
            return None, log_end_offset
        index = bisect_right(self._epochs, epoch)
        if index == 0:
            return epoch, Offset(self._starts[0])
        end = log_end_offset if index == len(self._epochs) else Offset(self._starts[index])
        return LeaderEpoch(self._epochs[index - 1]), end

    def epoch_for_offset(self, offset: int) -> LeaderEpoch | None:
        """The epoch under which `offset` was, or would be, written; None below the first entry."""
        index = bisect_right(self._starts, offset)
        return LeaderEpoch(self._epochs[index - 1]) if index else None

    def span_at(self, offset: int) -> tuple[int | None, int | None]:
        """The epoch at `offset`, and the offset at which the next epoch begins (None: there is none)."""
        index = bisect_right(self._starts, offset)
        following = self._starts[index] if index < len(self._starts) else None
        return (self._epochs[index - 1] if index else None), following

    def truncate_from_end(self, end_offset: Offset) -> bool:
        """Drops every epoch that starts at or past `end_offset`; True if there was one.

        To be called on every truncation of the log, also one that cuts nothing: a leader that was deposed before its
        first append has left an entry at its log end (KAFKA-10706, rule 14).
        """
        keep = bisect_left(self._starts, end_offset)
        changed = keep < len(self._starts)
        del self._epochs[keep:], self._starts[keep:]
        return changed

    def truncate_from_start(self, start_offset: Offset) -> bool:
        """Drops epochs that ended before `start_offset`; the one that holds it begins there now. True if changed."""
        index = bisect_right(self._starts, start_offset)
        if index == 0 or (index == 1 and self._starts[0] == start_offset):
            return False
        del self._epochs[: index - 1], self._starts[: index - 1]
        self._starts[0] = start_offset
        return True

    def clear(self) -> bool:
        """Forgets everything; True if there was anything."""
        changed = bool(self._epochs)
        self._epochs.clear()
        self._starts.clear()
        return changed
