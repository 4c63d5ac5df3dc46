"""What groups have committed when all clients have stopped: told by the coordinators, and as it lies on the disks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos.aftermath import read_compacted_logs
from chaos.client import Spot
from chaos.cluster import HostedCluster
from harness.history import CompactedLog, Operation, Outcome, Position
from klamm.client import Consumer
from klamm.deploy.errors import DeployError
from klamm.proto.errors import KafkaError

OFFSETS_TOPIC: Final = "__consumer_offsets"
ANSWER_SECONDS_MAX: Final = 30.0


def ask_coordinators(servers: str, groups: Sequence[str], spots: Sequence[Spot], process: int) -> Iterator[Operation]:
    """A `final-committed` of each group; it failed where the coordinator did not answer in time."""
    for group in groups:
        began_ns = time.monotonic_ns()
        positions: tuple[Position, ...] = ()
        error = None
        try:
            with Consumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False) as consumer:
                positions = tuple(Position(number, _offset(consumer, spot)) for number, spot in enumerate(spots))
        except KafkaError as failure:
            error = f"{type(failure).__name__}: {failure}"
        times = (began_ns, time.monotonic_ns())
        outcome: Outcome = "ok" if error is None else "failed"
        yield Operation(
            process, "klamm", "final-committed", *times, outcome, positions=positions, group=group, error=error
        )


def _offset(consumer: Consumer, spot: Spot) -> int | None:
    offset = consumer.committed(spot, timeout_ms=ANSWER_SECONDS_MAX * 1000)
    assert offset is None or isinstance(offset, int)  # metadata was not asked for
    return offset


class OffsetsTopic:
    """Where the replicas of __consumer_offsets are, and how far all of them have come: looked at before the stop."""

    def __init__(self, replicas: Mapping[int, Sequence[int]], high_watermarks: Mapping[int, int]) -> None:
        self._replicas = replicas
        self._high_watermarks = high_watermarks

    @classmethod
    def look(cls, cluster: HostedCluster) -> OffsetsTopic | None:
        """None where not every leader tells."""

        def ask() -> OffsetsTopic | None:
            topic = cluster.observer.topic(OFFSETS_TOPIC)
            if topic is None:
                return None
            ends = cluster.observer.high_watermarks(topic)
            replicas = {one.partition: list(one.replicas) for one in topic.partitions}
            return cls(replicas, ends) if ends.keys() == replicas.keys() else None

        try:
            return cluster.wait_until(ask, timeout_s=ANSWER_SECONDS_MAX, what=f"high watermarks of {OFFSETS_TOPIC}")
        except DeployError:
            return None

    def read(self, folders: Mapping[int, Path], spots: Sequence[Spot]) -> Iterator[CompactedLog]:
        """Every replica, when the brokers have stopped.

        :raises DamagedReplicaError: one is not as such a log must be.
        """
        numbers = {spot: number for number, spot in enumerate(spots)}
        return read_compacted_logs(folders, OFFSETS_TOPIC, self._replicas, self._high_watermarks, numbers)
