"""confluent-kafka consumers of `group.protocol=consumer`, each polled by a thread of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from confluent_kafka import Consumer

Partition = tuple[str, int]


class PolledConsumer:
    """A consumer that is polled until `close`. Attributes are replaced whole: they may be read by any thread."""

    def __init__(self, bootstrap_servers: str, group_id: str, topics: Sequence[str], **config: Any) -> None:
        settings = {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group_id,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 500,
        }
        self.values: Counter[bytes] = Counter()
        self.errors: list[str] = []
        self.revoked: list[Partition] = []
        self.owned: frozenset[Partition] = frozenset()
        self._ends = threading.Event()
        self._consumer = Consumer(settings | {name.replace("_", "."): value for name, value in config.items()})
        self._consumer.subscribe(list(topics), on_revoke=self._on_revoke)
        self._thread = threading.Thread(target=self._poll, name=f"consumer-{group_id}")
        self._thread.start()

    def _on_revoke(self, _: Any, partitions: Sequence[Any]) -> None:
        self.revoked += [(one.topic, one.partition) for one in partitions]

    def _poll(self) -> None:
        while not self._ends.is_set():
            message = self._consumer.poll(0.05)
            self.owned = frozenset((one.topic, one.partition) for one in self._consumer.assignment())
            if message is None:
                continue
            if message.error() is not None:
                self.errors.append(str(message.error()))
            else:
                self.values[message.value()] += 1
        self._consumer.close()
        self.owned = frozenset()

    def close(self) -> None:
        """Leaves the group."""
        self._ends.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def __enter__(self) -> PolledConsumer:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()


def shared_out(consumers: Sequence[PolledConsumer], partitions: Sequence[Partition]) -> bool:
    """Has each partition one owner, and nobody none or two more than another?"""
    counts = [len(consumer.owned) for consumer in consumers]
    owned = sorted(one for consumer in consumers for one in consumer.owned)
    return owned == sorted(partitions) and max(counts) - min(counts) <= 1
