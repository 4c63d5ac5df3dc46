"""How long producers wait for an ack while the leader of their partition is stopped in good order and started again.

The leader hands over before it stops (rule 26), so this is to be some tens of milliseconds, where a killed leader costs
some hundreds. librdkafka adds waits of its own, so no goal is set for it. It goes to the new leader after
`retry.backoff.ms`, 100 by default. And where it lost its connection to that broker a little while ago, it does not
connect before a back-off is over, even though the broker is back: that doubles with each lost connection and each vain
try within ten seconds, up to `reconnect.backoff.max.ms`, 10 s by default. Here brokers are restarted every few seconds,
so that is set to the second that Kafka's own client has.
"""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial
from typing import Final

import confluent_kafka
from klamm.client import Admin, NewTopic, Producer
from klamm.deploy.local import LocalCluster
from measurement import Measurement

TOPIC: Final = "restart"
SLICE_S: Final = 0.005
"""A record each. Slow enough for librdkafka not to have its five requests under way: then it spins, and what is
measured is who gets the processor."""
STEADY_S: Final = 2.0
RECONNECT_MS_MAX: Final = 1000


class Acks:
    """When acks came, and what went wrong."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._failures: list[str] = []

    def acked(self, _: object) -> None:
        """For `add_callback`."""
        self._times.append(time.monotonic())

    def failed(self, error: object) -> None:
        """For `add_errback`."""
        self._failures.append(str(error))

    def delivered(self, error: object, _: object) -> None:
        """For `on_delivery`."""
        if error is None:
            self.acked(None)
        else:
            self.failed(error)

    def longest_wait_s(self, began: float, ended: float) -> float:
        """Between two acks, the last one before `began` and the first one after `ended` included.

        :raises RuntimeError: a record failed: no retrying client may see that.
        """
        if self._failures:
            raise RuntimeError(f"a clean restart failed {len(self._failures)} records: {self._failures[0]}")
        waits = [(a, b) for a, b in itertools.pairwise([*self._times, time.monotonic()]) if b > began and a < ended]
        return max(later - earlier for earlier, later in waits)


def clean_restart(runs: int = 20) -> list[Measurement]:
    """SIGTERM of the leader, start, a full ISR: the longest time without an ack meanwhile."""
    acks = {"SDK": Acks(), "confluent-kafka": Acks()}
    waits_s: dict[str, list[float]] = {name: [] for name in acks}
    ends = threading.Event()
    with LocalCluster() as cluster:
        with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
            admin.create_topics([NewTopic(TOPIC, 1, 3)])
        senders = [
            threading.Thread(target=_send_sdk, args=(cluster.bootstrap_servers, acks["SDK"], ends)),
            threading.Thread(
                target=_send_confluent, args=(cluster.kafka_bootstrap_servers, acks["confluent-kafka"], ends)
            ),
        ]
        for sender in senders:
            sender.start()
        try:
            for _ in range(runs):
                cluster.wait_until(partial(_is_in_sync, cluster), what="a full ISR")
                time.sleep(STEADY_S)
                leader = cluster.wait_until(lambda: cluster.leader_of(TOPIC), what="a leader")
                began = time.monotonic()
                cluster.restart(leader)
                cluster.wait_until(partial(_is_in_sync, cluster), what="a full ISR")
                time.sleep(STEADY_S)
                for name, each in acks.items():
                    waits_s[name].append(each.longest_wait_s(began, time.monotonic()))
        finally:
            ends.set()
            for sender in senders:
                sender.join()
    sdk_s, confluent_s = (tuple(waits) for waits in waits_s.values())
    what = "clean restart of a leader: longest time without an ack, acks=all"
    return [
        Measurement(what, "s", "median 0.2 s, worst 1 s", sdk_s, lambda m: m.median <= 0.2 and m.worst <= 1),
        Measurement(f"{what}, confluent-kafka", "s", "", confluent_s, None),
    ]


def _send_sdk(servers: str, acks: Acks, ends: threading.Event) -> None:
    with Producer(bootstrap_servers=servers, acks="all") as producer:
        while not ends.wait(SLICE_S):
            producer.send(TOPIC, b"record").add_callback(acks.acked).add_errback(acks.failed)


def _send_confluent(servers: str, acks: Acks, ends: threading.Event) -> None:
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
            "log_level": 2,
        }
    )
    while not ends.is_set():
        producer.produce(TOPIC, b"record", on_delivery=acks.delivered)
        producer.poll(SLICE_S)  # returns early for a report, so that no ack waits for the next record
    producer.flush()


def _is_in_sync(cluster: LocalCluster) -> bool:
    partition = cluster.partition(TOPIC)
    return partition is not None and len(partition.isr) == 3
