"""The faults of the failover demo, one after the other, each from blow to full recovery, and what each cost.

Every step waits for what it needs to see; none waits for a fixed time, except that a follower is kept stopped, and that
after each fault writes go on for a moment before the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ..proto.broker_pb2 import TopicDescription
from .demo_load import AckLedger
from .errors import ClusterStateError
from .local import LocalCluster

WARM_UP_SECONDS: Final = 2.0
BETWEEN_SECONDS: Final = 1.5
STOPPED_SECONDS: Final = 1.0
RECOVERY_SECONDS_MAX: Final = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FaultOutcome:
    """What a fault cost: per partition the longest time without an ack, in seconds."""

    name: str
    waits: tuple[float, ...]
    recovered_seconds: float

    @property
    def longest(self) -> tuple[int, float]:
        """The partition that waited longest, and how long."""
        partition = max(range(len(self.waits)), key=self.waits.__getitem__)
        return partition, self.waits[partition]


@dataclass(frozen=True, slots=True)
class _Measurement:
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class FaultScript:
    """Carries the faults out on a cluster under load."""

    def __init__(
        self, cluster: LocalCluster, topic: str, ledger: AckLedger, *, announce: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._ledger = ledger
        self._announce = announce
        self._stop = threading.Event()
        self.outcomes: list[FaultOutcome] = []

    def run(self) -> None:
        """All of them. :raises WaitTimeoutError: the cluster did not recover from one."""
        self._pause(WARM_UP_SECONDS)
        for fault in (self._kill_leader, self._kill_active_controller, self._stop_follower):
            fault()
            self._pause(BETWEEN_SECONDS)

    def stop(self) -> None:
        """Ends the script at its next step."""
        self._stop.set()

    def _kill_leader(self) -> None:
        leader = self._cluster.wait_until(
            lambda: self._cluster.leader_of(self._topic, 0), what="a leader of partition 0"
        )
        measured = self._begin(f"kill -9 broker-{leader}, leader of partition 0")
        self._cluster.kill(leader)
        self._wait(lambda: self._all_led_and_acking(measured.began), "another leader, and acks from every partition")
        self._announce(f"broker-{self._cluster.leader_of(self._topic, 0)} leads partition 0")
        self._pause(BETWEEN_SECONDS)
        self._announce(f"start broker-{leader}")
        self._cluster.start_node(leader)
        self._wait(self._all_in_sync, "a full ISR everywhere")
        self._end(measured, f"kill -9 of the leader (broker-{leader})")

    def _kill_active_controller(self) -> None:
        active = self._cluster.wait_until(self._cluster.active_controller, what="an active controller")
        measured = self._begin(f"kill -9 {active}, the active controller")
        self._cluster.kill(active)
        successor = self._wait(self._another_controller_than(active), "another active controller")
        self._announce(f"{successor} is active")
        self._pause(BETWEEN_SECONDS)
        self._announce(f"start {active}")
        self._cluster.start_node(active)
        self._wait(self._quorum_is_whole, "all controllers caught up")
        self._end(measured, f"kill -9 of the active controller ({active})")

    def _stop_follower(self) -> None:
        follower = self._idlest_follower()
        measured = self._begin(f"SIGSTOP broker-{follower}, a follower of partition 0")
        self._cluster.pause(follower)
        self._wait(lambda: self._is_out_of_every_isr(follower), f"broker-{follower} to leave every ISR")
        self._announce(f"broker-{follower} is out of every ISR")
        self._pause(STOPPED_SECONDS)
        self._announce(f"SIGCONT broker-{follower}")
        self._cluster.resume(follower)
        self._wait(self._all_in_sync, "a full ISR everywhere")
        self._end(measured, f"SIGSTOP of a follower (broker-{follower})")

    # --- what is waited for --------------------------------------------------------------------------------------

    def _topic_now(self) -> TopicDescription | None:
        return self._cluster.observer.topic(self._topic)

    def _all_led_and_acking(self, since: float) -> bool:
        topic = self._topic_now()
        if topic is None or any(partition.leader_id < 0 for partition in topic.partitions):
            return False
        return len(self._ledger.partitions_acked_since(since)) == len(topic.partitions)

    def _all_in_sync(self) -> bool:
        topic = self._topic_now()
        return topic is not None and all(len(p.isr) == len(p.replicas) for p in topic.partitions)

    def _is_out_of_every_isr(self, broker: int) -> bool:
        topic = self._topic_now()
        return topic is not None and all(broker not in p.isr and p.leader_id >= 0 for p in topic.partitions)

    def _another_controller_than(self, killed: str) -> Callable[[], str | None]:
        def ask() -> str | None:
            active = self._cluster.active_controller()
            return active if active != killed else None

        return ask

    def _quorum_is_whole(self) -> bool:
        quorum = self._cluster.observer.quorum()
        return quorum is not None and all(node.reachable and 0 <= node.lag <= 1 for node in quorum.nodes)

    def _idlest_follower(self) -> int:
        """The follower of partition 0 that leads the fewest: its stop is to show the lag limit, not elections."""
        topic = self._cluster.wait_until(self._topic_now, what="the topic's description")
        first = topic.partitions[0]
        followers = [broker for broker in first.isr if broker != first.leader_id]
        led = [partition.leader_id for partition in topic.partitions]
        return min(followers, key=led.count)

    # --- measuring -----------------------------------------------------------------------------------------------

    def _begin(self, what: str) -> _Measurement:
        self._announce(what)
        self._ledger.begin_measuring()
        return _Measurement()

    def _end(self, measured: _Measurement, name: str) -> None:
        outcome = FaultOutcome(name, tuple(self._ledger.longest_waits()), measured.seconds)
        self.outcomes.append(outcome)
        partition, seconds = outcome.longest
        self._announce(
            f"recovered after {outcome.recovered_seconds:.1f} s; writes waited {seconds:.2f} s at most "
            f"(partition {partition})"
        )

    def _wait(self, condition: Callable[[], T | None], what: str) -> T:
        return self._cluster.wait_until(
            lambda: self._unless_stopped(condition), timeout_s=RECOVERY_SECONDS_MAX, what=what
        )

    def _unless_stopped(self, condition: Callable[[], T]) -> T:
        if self._stop.is_set():
            raise ClusterStateError("the demo was stopped")
        return condition()

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise ClusterStateError("the demo was stopped")
