"""1,000 topics with 10,000 partitions on three brokers: to create, to leave idle, to lose a broker of, to restart.

Every partition takes a record each time, so none may be left behind. Each round has a cluster of its own. Besides the
time that each step takes, the processor time that all nodes use for it is told: it depends less on who else is at work.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection

import psutil
from klamm.client import Admin, NewTopic, Producer
from klamm.deploy.local import LocalCluster
from measurement import Measurement

TOPICS = 1000
PARTITIONS = 10
TOPICS_PER_REQUEST = 100
KILLED = 2
SETTLE_SECONDS = 10.0
IDLE_SECONDS = 20.0
WAIT_SECONDS_MAX = 600.0
ASK_EACH_SECONDS = 0.5  # asking costs what is asked: the description of ten thousand partitions

_NAMES = [f"topic-{number:04}" for number in range(TOPICS)]
_ALL = frozenset((name, number) for name in _NAMES for number in range(PARTITIONS))

Target = tuple[str, Callable[[Measurement], bool]]
_TARGETS: dict[str, Target] = {
    "idle CPU": ("10 % of one core each", lambda m: m.worst <= 10),
    "kill -9": ("seconds", lambda m: m.worst < 10),
}


class Round:
    """One cluster's life; what it measures goes into `samples` by what it is and its unit."""

    def __init__(self, replication_factor: int, samples: dict[tuple[str, str], list[float]]) -> None:
        self._factor = replication_factor
        self._samples = samples
        self._cluster = LocalCluster()
        self._used: dict[int, float] = {}  # processor seconds by pid, when the step began

    def run(self) -> None:
        """Everything, in an order in which each leaves the next what it needs."""
        with self._cluster:
            self._create()
            self._write("to write a first record to each partition", _ALL)
            self._write("to write another", _ALL)
            self._rest("after it was made")
            if self._factor > 1:
                self._fail_over()
            self._restart()
            self._rest("after the restart of all")

    def _note(self, what: str, unit: str, value: float) -> None:
        self._samples[what, unit].append(value)
        print(f"  {what}: {value:.1f} {unit}", file=sys.stderr, flush=True)

    def _begin(self) -> float:
        """A step begins now."""
        self._used = self._processor_seconds()
        return time.monotonic()

    def _end(self, what: str, began: float) -> None:
        """A step has ended: notes how long it took, and what the nodes that run now used for it."""
        self._note(what, "s", time.monotonic() - began)
        used = sum(seconds - self._used.get(pid, 0.0) for pid, seconds in self._processor_seconds().items())
        self._note(f"- processor time of all nodes {what}", "s", used)

    def _processor_seconds(self) -> dict[int, float]:
        pids = [node.pid for node in self._cluster.nodes() if node.pid is not None]
        return {pid: _processor_seconds(psutil.Process(pid)) for pid in pids}

    def _create(self) -> None:
        began = self._begin()
        with Admin(bootstrap_servers=self._cluster.bootstrap_servers) as admin:
            for first in range(0, TOPICS, TOPICS_PER_REQUEST):
                batch = _NAMES[first : first + TOPICS_PER_REQUEST]
                admin.create_topics([NewTopic(name, PARTITIONS, self._factor) for name in batch])
        self._end(f"to create {TOPICS:,} topics with {len(_ALL):,} partitions", began)

    def _write(self, what: str, partitions: Collection[tuple[str, int]], began: float | None = None) -> None:
        """A record with acks=all to each of them, and how long until the last is acked."""
        began = self._begin() if began is None else began
        with Producer(
            bootstrap_servers=self._cluster.bootstrap_servers,
            acks="all",
            delivery_timeout_ms=int(1000 * WAIT_SECONDS_MAX),
        ) as producer:
            futures = [producer.send(name, b"record", partition=number) for name, number in sorted(partitions)]
            for future in futures:
                future.get(timeout=WAIT_SECONDS_MAX)
        self._end(what, began)

    def _rest(self, when: str) -> None:
        """Processor time and memory of each process while nothing goes on."""
        time.sleep(SETTLE_SECONDS)
        processes = [(node.role, psutil.Process(node.pid)) for node in self._cluster.nodes()]
        before, began = [_processor_seconds(process) for _, process in processes], time.monotonic()
        time.sleep(IDLE_SECONDS)
        took = time.monotonic() - began
        for (role, process), earlier in zip(processes, before, strict=True):
            self._note(f"idle CPU of each {role}, {when}", "%", 100 * (_processor_seconds(process) - earlier) / took)
            self._note(f"resident memory of each {role}, {when}", "MB", process.memory_info().rss / 1e6)

    def _fail_over(self) -> None:
        """One broker dies: how long until each partition that it led has a leader, and has acked a record again."""
        led = {where for where, (leader, _) in self._partitions().items() if leader == KILLED}
        began = self._begin()
        self._cluster.kill(KILLED)
        # One that wrote already would be faster: it has its connections. This one starts from nothing.
        self._write(f"kill -9 of a broker to a record in each of the {len(led):,} partitions that it led", led, began)
        began = self._begin()
        self._cluster.start_node(KILLED, timeout_s=WAIT_SECONDS_MAX)
        self._end("to start it again, until it is unfenced", began)
        self._await_in_sync()
        self._end("to start it again, until all replicas are in sync", began)

    def _restart(self) -> None:
        began = time.monotonic()
        self._cluster.stop(timeout_s=WAIT_SECONDS_MAX)
        self._note("to stop all in order", "s", time.monotonic() - began)
        began = self._begin()
        self._cluster.start(timeout_s=WAIT_SECONDS_MAX)
        self._end("to start all", began)
        self._write("to start all, until each partition has taken a record", _ALL, began)
        self._await_in_sync()
        self._end("to start all, until all replicas are in sync", began)

    def _await_in_sync(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not all(leader is not None and size == self._factor for leader, size in self._partitions().values()):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"not all replicas were in sync within {WAIT_SECONDS_MAX:g} s")
            time.sleep(ASK_EACH_SECONDS)

    def _partitions(self) -> dict[tuple[str, int], tuple[int | None, int]]:
        """Leader and size of the ISR of each."""
        with Admin(bootstrap_servers=self._cluster.bootstrap_servers) as admin:
            described = admin.describe_topics(_NAMES)
        return {(p.topic, p.partition): (p.leader, len(p.isr)) for topic in described for p in topic.partitions}


def replicated(rounds: int = 3) -> list[Measurement]:
    """Three replicas of each: thirty thousand."""
    return _measure(3, rounds)


def unreplicated(rounds: int = 3) -> list[Measurement]:
    """One replica of each."""
    return _measure(1, rounds)


def _measure(replication_factor: int, rounds: int) -> list[Measurement]:
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        print(f" RF {replication_factor}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        Round(replication_factor, samples).run()
    measurements = []
    for (what, unit), values in samples.items():
        target, reached = next((each for name, each in _TARGETS.items() if what.startswith(name)), ("-", None))
        measurements.append(Measurement(f"RF {replication_factor}: {what}", unit, target, tuple(values), reached))
    return measurements


def _processor_seconds(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])
