"""The partitions that a consumer reads, each with its position, and whose turn it is. Shared by two threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from ..proto.identifiers import TopicPartition
from .positions import PartitionPosition


class Assignment:
    """The lock guards everything in here; `positions` is the same dictionary for ever."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.positions: dict[TopicPartition, PartitionPosition] = {}
        self.order: list[TopicPartition] = []  # whose turn it is: the first of it is asked first
        # Above every generation of a position that was dropped. A partition that comes back, as after each eager
        # rebalance, must not take the answer to a fetch of before for one of its own: it would skip what lies between.
        self._first_generation = 0

    def add(self, partitions: Iterable[TopicPartition], *, reset: int | None, awaits_committed: bool) -> bool:
        """Reads these too, those of them that are new; True if any is.

        They begin at the group's committed offset where they await it, else where `reset` (EARLIEST, LATEST) says.
        """
        added = False
        with self.lock:
            for topic_partition in partitions:
                if topic_partition not in self.positions:
                    position = PartitionPosition(
                        topic_partition,
                        reset=None if awaits_committed else reset,
                        generation=self._first_generation,
                    )
                    position.awaits_committed = awaits_committed
                    self.positions[topic_partition] = position
                    self.order.append(topic_partition)
                    added = True
        return added

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Reads these no more; what was fetched of them is forgotten."""
        with self.lock:
            for topic_partition in partitions:
                position = self.positions.pop(topic_partition, None)
                if position is not None:
                    self._first_generation = max(self._first_generation, position.generation + 1)
            self.order = [topic_partition for topic_partition in self.order if topic_partition in self.positions]
