"""The load: two producers, two readers of everything, a group of two, each in a process of its own.

Half of them are the SDK's, half confluent-kafka's. `Load` starts them, sets their rates, ends them in an order in which
everything can be counted, and says what is amiss with the counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from klamm.client import Admin, Consumer, NewTopic, TopicPartition
from klamm.deploy.local import LocalCluster
from soak.client_process import ClientProcess, Line
from soak.verify import Partition, check_committed, check_group, check_producer, check_reader, given_again

PARTITIONS: Final = 6
RECORD_BYTES: Final = 1000
CATCH_UP_SECONDS_MAX: Final = 120.0
COMMIT_SECONDS: Final = 3.0
START_SECONDS_MAX: Final = 60.0
AS_FAST_AS_THEY_CAN: Final = -1.0

KEPT_SECONDS: Final = 100.0
"""Of the load: from then on segments go as they come. A reader may be that far behind, and no more."""
HOLD_BACK_SECONDS: Final = 40.0
GO_ON_SECONDS: Final = 10.0
"""A reader so many seconds of the load behind stops the producers, until it is no more than so many behind: where
others use the machine, too, there is nothing to be learned from records that went before they were read."""
SEGMENTS_KEPT: Final = 8
SEGMENT_BYTES_MIN: Final = 1024 * 1024

OnLine = Callable[[str, int, Line], None]
"""A client's name, its pid, and what it said."""


class Load:
    """Six clients at two topics of their own; `with` ends them whatever happens."""

    def __init__(
        self,
        cluster: LocalCluster,
        prefix: str,
        rates: Mapping[str, float],
        folder: Path,
        on_line: OnLine,
    ) -> None:
        """`rates` are records a second for "produce-sdk" and "produce-confluent".

        `prefix` begins the names of topics, group and files.
        """
        self._cluster = cluster
        self._topics = {kind: f"{prefix}-{kind}" for kind in ("sdk", "confluent")}
        self._group = f"{prefix}-group"
        self._rates = dict(rates)
        self._folder = folder
        self._on_line = on_line
        self.clients: dict[str, ClientProcess] = {}
        self._held_since: float | None = None
        self.held_back_s = 0.0

    @property
    def topics(self) -> list[str]:
        return list(self._topics.values())

    def __enter__(self) -> Self:
        with Admin(bootstrap_servers=self._cluster.bootstrap_servers) as admin:
            admin.create_topics(
                [
                    NewTopic(topic, PARTITIONS, 3, topic_configs=_topic_config(self._rates[f"produce-{kind}"]))
                    for kind, topic in self._topics.items()
                ]
            )
        for kind in ("sdk", "confluent"):
            self._start(f"read-{kind}", f"consume-{kind}")
            self._start(f"group-{kind}", f"consume-{kind}", group=self._group)
        for kind, topic in self._topics.items():
            self._start(f"produce-{kind}", f"produce-{kind}", topics=[topic], rate=self._rates[f"produce-{kind}"])
        return self

    def _start(self, name: str, role: str, **more: object) -> None:
        servers = self._cluster.bootstrap_servers if role.endswith("sdk") else self._cluster.kafka_bootstrap_servers
        options = {"role": role, "servers": servers, "topics": self.topics, "partitions": PARTITIONS}
        options |= {"size": RECORD_BYTES, **more}
        log = self._folder / f"{self._group}-{name}.log"
        self.clients[name] = ClientProcess(name, options, log, lambda pid, line: self._on_line(name, pid, line))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self.clients.values():
            client.kill()
        for client in self.clients.values():
            client.close()

    def balance(self) -> int:
        """How many records the slowest reader is behind; holds the producers back or lets them go on.

        To be called every second or so.
        """
        done = self.done()
        behind = sum(done[name] for name in self._rates) - min(done["read-sdk"], done["read-confluent"])
        rate = sum(self._rates.values())
        if self._held_since is None and behind > HOLD_BACK_SECONDS * rate:
            self._held_since = time.monotonic()
            for name in self._rates:
                self.clients[name].order("0")
        elif self._held_since is not None and behind < GO_ON_SECONDS * rate:
            self.held_back_s += time.monotonic() - self._held_since
            self._held_since = None
            for name, own in self._rates.items():
                self.clients[name].order(str(own))
        return behind

    def await_start(self) -> None:
        """Until each producer had something acked. :raises TimeoutError: that took too long."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not all(self.clients[name].done for name in self._rates):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"nothing was acked within {START_SECONDS_MAX:g} s: {self.done()}")
            time.sleep(0.1)

    def done(self) -> dict[str, int]:
        """What each has acked or read so far."""
        return {name: client.done for name, client in self.clients.items()}

    def finish(self) -> tuple[list[str], list[str]]:
        """Ends the load; complaints, and what was done in words.

        :raises ClientError: a client failed or could not finish.
        """
        complaints, acked, waits_s = self._end_producers()
        total = sum(acked.values())
        complaints += self._await_readers(total)
        runs: dict[str, dict[Partition, list[list[int]]]] = {}
        for name in ("read-sdk", "read-confluent", "group-sdk", "group-confluent"):
            line = self.clients[name].end()
            complaints += [f"{name}: {text}" for text in line["complaints"]]
            runs[name] = _runs(line)
        for name in ("read-sdk", "read-confluent"):
            complaints += [f"{name}: {text}" for text in check_reader(acked, runs[name])]
        members = [runs["group-sdk"], runs["group-confluent"]]
        complaints += check_group(acked, members) + self._check_offsets(acked)
        waits = ", ".join(f"{name} {wait_s:.1f} s" for name, wait_s in waits_s.items())
        return complaints, [
            f"{total:,} records acked; {given_again(members, acked):,} given to the group again after a rebalance",
            f"longest time without an ack: {waits}",
        ]

    def _end_producers(self) -> tuple[list[str], dict[Partition, int], dict[str, float]]:
        complaints: list[str] = []
        acked: dict[Partition, int] = {}
        waits_s: dict[str, float] = {}
        for kind, topic in self._topics.items():
            line = self.clients[f"produce-{kind}"].end()
            complaints += [f"produce-{kind}: {text}" for text in line["complaints"]]
            complaints += check_producer(topic, line["sent"], line["acked"])
            acked |= {(topic, number): count for number, count in enumerate(line["acked"])}
            waits_s[f"produce-{kind}"] = line["longest_wait_s"]
        return complaints, acked, waits_s

    def _await_readers(self, total: int) -> list[str]:
        """Until both have read as many as were acked, and the group has had time to commit."""
        deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
        readers = ("read-sdk", "read-confluent")
        while any(self.clients[name].done < total for name in readers) or not self._group_is_through():
            if time.monotonic() >= deadline:
                return [f"not all was read within {CATCH_UP_SECONDS_MAX:g} s: {self.done()}, acked {total}"]
            time.sleep(COMMIT_SECONDS)
        return []

    def _ends(self) -> dict[Partition, int]:
        partitions = [TopicPartition(topic, number) for topic in self.topics for number in range(PARTITIONS)]
        with Consumer(bootstrap_servers=self._cluster.bootstrap_servers) as consumer:
            return {(each.topic, each.partition): end for each, end in consumer.end_offsets(partitions).items()}

    def _committed(self) -> dict[Partition, int | None]:
        with Admin(bootstrap_servers=self._cluster.bootstrap_servers) as admin:
            found = admin.list_consumer_group_offsets(self._group)
        return {(each.topic, each.partition): committed.offset for each, committed in found.items()}

    def _group_is_through(self) -> bool:
        return not check_committed(self._ends(), self._committed())

    def _check_offsets(self, acked: Mapping[Partition, int]) -> list[str]:
        """Every partition's log ends where its acked records do, and so does what the group has committed."""
        ends = self._ends()
        complaints = [
            f"{topic}-{number}: the log ends at {ends[topic, number]}, {count} records were acked"
            for (topic, number), count in acked.items()
            if ends[topic, number] != count
        ]
        return complaints + check_committed(ends, self._committed())


def _topic_config(rate: float) -> dict[str, str]:
    """At this rate a partition is full after KEPT_SECONDS; without a rate everything is kept."""
    if rate == AS_FAST_AS_THEY_CAN:
        return {}
    kept = int(rate * RECORD_BYTES * KEPT_SECONDS / PARTITIONS)
    segment = max(SEGMENT_BYTES_MIN, kept // SEGMENTS_KEPT)
    return {"retention.bytes": str(kept), "segment.bytes": str(segment), "file.delete.delay.ms": "5000"}


def _runs(line: Mapping[str, Any]) -> dict[Partition, list[list[int]]]:
    return {(topic, partition): runs for topic, partition, runs in line["runs"]}


def measure_capacity(cluster: LocalCluster, folder: Path, warm_up_s: float, seconds: float) -> dict[str, float]:
    """Records a second of each producer while all clients work as hard as they can, if all readers keep up with that.

    Where a reader falls behind, the load is what the slowest reader reads, shared between the producers as they sent.

    :raises ClientError: a client failed. :raises RuntimeError: records were lost or doubled even now.
    """
    rates = {"produce-sdk": AS_FAST_AS_THEY_CAN, "produce-confluent": AS_FAST_AS_THEY_CAN}
    with Load(cluster, "capacity", rates, folder, lambda *_: None) as load:
        load.await_start()
        time.sleep(warm_up_s)
        before, began = load.done(), time.monotonic()
        time.sleep(seconds)
        after, took = load.done(), time.monotonic() - began
        complaints, _ = load.finish()
    if complaints:
        raise RuntimeError(f"while the capacity was measured: {complaints}")
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.delete_topics(load.topics)
    done = {name: (after[name] - before[name]) / took for name in after}
    produced = {name: rate for name, rate in done.items() if name.startswith("produce")}
    total = sum(produced.values())
    slowest = min(done["read-sdk"], done["read-confluent"], done["group-sdk"] + done["group-confluent"])
    share = min(1.0, slowest / total)
    return {name: rate * share for name, rate in produced.items()}
