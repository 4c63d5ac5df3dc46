"""A campaign from beginning to end: cluster, clients, faults, healing, final reads, a clean stop, and the verdict."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.aftermath import DamagedReplicaError, complaints_in_logs, read_replicas
from chaos.client import Spot
from chaos.cluster import BROKERS_MAX, CONTROLLERS, HostedCluster
from chaos.fault_actions import do_fault
from chaos.fault_runner import Arena, FaultRunner
from chaos.fleet import HOST, Fleet, FleetSettings
from chaos.groups_at_the_end import OffsetsTopic, ask_coordinators
from chaos.guard import TOKEN_FILE, start_guard
from chaos.nemesis import CUTS, FaultKind, draw_plan
from chaos.network import Network, make_network
from harness.history import HistoryFile, HistoryWriter
from harness.history_checker import Verdict, check
from klamm.client import Admin, NewTopic
from klamm.deploy.errors import DeployError, WaitTimeoutError
from klamm.deploy.layout import BROKER, CONTROLLER
from klamm.deploy.reaper import TOKEN_VARIABLE
from klamm.proto.errors import TopicAlreadyExistsError

TOPICS: Final[Mapping[str, int]] = {"orders": 4, "payments": 3, "visits": 2}
TOPIC_CONFIG: Final = {
    "min.insync.replicas": "2",
    "retention.ms": "-1",
    "segment.bytes": "1048576",  # small: segments are rolled, and old ones read
}
PARTITIONS: Final[tuple[Spot, ...]] = tuple(
    (topic, number) for topic, count in TOPICS.items() for number in range(count)
)
DISK_BYTES: Final = 768 << 20
WHOLE_SECONDS_MAX: Final = 120.0
"""After the last fault has healed, every partition must be led, with a full ISR, by then."""


@dataclass(frozen=True, slots=True)
class CampaignSettings:
    """What was asked for."""

    seed: int
    seconds: float
    folder: Path
    workers: int  # threads of each client program
    pace_s: float  # mean rest of a thread between two operations
    kinds: frozenset[FaultKind] | None = None  # None: all that can be done here
    loopback: bool = False  # all nodes on this host, whether or not they could have their own


@dataclass(slots=True)
class CampaignResult:
    """What came of it."""

    trouble: list[str] = field(default_factory=list)
    """All that must not be and that the history does not show: a node that did not start, a traceback in its log."""
    passed: Mapping[str, int] = field(default_factory=dict)
    verdict: Verdict | None = None
    history: Path | None = None

    @property
    def ok(self) -> bool:
        """Nothing was amiss, and everything was judged."""
        return not self.trouble and self.verdict is not None and self.verdict.ok


class Campaign:
    """Run once. What it says while it runs goes to stdout."""

    def __init__(self, settings: CampaignSettings) -> None:
        self._settings = settings
        self._began = time.monotonic()
        self._token = uuid.uuid4().hex
        self._result = CampaignResult(history=settings.folder / "history.jsonl")

    def run(self) -> CampaignResult:
        """Everything. Whatever happens, no process, namespace or disk of it stays."""
        settings = self._settings
        settings.folder.mkdir(parents=True)
        token_file = settings.folder / TOKEN_FILE
        token_file.write_text(self._token, encoding="ascii")
        with ExitStack() as exits:
            exits.callback(token_file.unlink)
            guard = start_guard(self._token, settings.folder)
            exits.callback(_dismiss, guard)
            network = self._make_network()
            exits.callback(network.close)
            cluster = HostedCluster(settings.folder / "nodes", network, token=self._token, disk_bytes=DISK_BYTES)
            exits.callback(cluster.close)
            facts = {"seed": str(settings.seed), "seconds": f"{settings.seconds:g}", "commit": commit()}
            history = exits.enter_context(HistoryWriter(settings.folder / "history.jsonl", facts))
            cluster.start()
            create_topics(cluster)
            fleet = Fleet(network, self._fleet_settings(cluster))
            exits.callback(fleet.close)
            self._inflict(cluster, network, fleet, history)
            self._look_at_the_end(cluster, fleet, history)
        logs = {spec.name: spec.log_path for spec in cluster.layout.nodes}
        self._result.trouble += complaints_in_logs(logs)
        self._say("checking the history")
        self._result.verdict = check(HistoryFile(settings.folder / "history.jsonl"))
        return self._result

    # --- its parts -----------------------------------------------------------------------------------------------

    def _make_network(self) -> Network:
        hosts = [f"{CONTROLLER}-{n}" for n in range(1, CONTROLLERS + 1)]
        hosts += [f"{BROKER}-{n}" for n in range(1, BROKERS_MAX + 1)]
        network, words = make_network([*hosts, HOST], loopback=self._settings.loopback)
        self._say(f"seed {self._settings.seed}, {self._settings.seconds:g} s; hosts: {words}")
        return network

    def _inflict(self, cluster: HostedCluster, network: Network, fleet: Fleet, history: HistoryWriter) -> None:
        kinds = self._kinds(cluster, network)
        plan = draw_plan(self._settings.seed, self._settings.seconds, kinds)
        self._say(f"cluster is up; {len(plan)} faults of {len(kinds)} kinds are planned")
        fleet.start()
        arena = Arena(cluster, network, fleet, self._say)
        runner = FaultRunner(arena, plan, do_fault, history.append)
        try:
            runner.run(time.monotonic(), self._settings.seconds)
        except BaseException:
            cluster.give_up()
            raise
        finally:
            runner.heal()
        self._result.trouble += runner.trouble
        self._result.passed = runner.passed

    def _look_at_the_end(self, cluster: HostedCluster, fleet: Fleet, history: HistoryWriter) -> None:
        result = self._result
        self._say("faults have healed; waiting for the cluster to be whole")
        try:
            cluster.wait_until(
                lambda: not cluster.complaints(), timeout_s=WHOLE_SECONDS_MAX, what="the cluster to be whole"
            )
        except WaitTimeoutError as error:
            result.trouble.append(f"liveness: {error}: {'; '.join(cluster.complaints())}")
        self._say("stopping the clients")
        result.trouble += fleet.stop()
        ends = end_offsets(cluster)
        if ends is None:
            result.trouble.append("liveness: not every leader tells its high watermark")
        else:
            self._say(f"every client reads everything: {sum(ends)} records")
            result.trouble += fleet.read_all(ends)
        groups = set()
        for operation in fleet.operations():
            history.append(operation)
            if operation.kind == "commit" and operation.group is not None:
                groups.add(operation.group)
        offsets_topic = self._ask_for_offsets(cluster, fleet, sorted(groups), history)
        replicas = {spot: list(one.replicas) for spot, one in cluster.partitions().items()}
        self._say("stopping the nodes")
        killed = cluster.stop()
        result.trouble += [f"{name} did not stop in time and was killed" for name in killed]
        self._read_replicas(cluster, replicas, offsets_topic, history)

    def _ask_for_offsets(
        self, cluster: HostedCluster, fleet: Fleet, groups: list[str], history: HistoryWriter
    ) -> OffsetsTopic | None:
        """Asks each coordinator first, so that all that it tells lies before the high watermarks."""
        self._say(f"what {len(groups)} groups have committed is asked for")
        servers = ",".join(spec.address for spec in cluster.first_brokers)
        for operation in ask_coordinators(servers, groups, PARTITIONS, fleet.new_process()):
            history.append(operation)
            if operation.outcome != "ok":
                self._result.trouble.append(f"liveness: offsets of group {operation.group}: {operation.error}")
        offsets_topic = OffsetsTopic.look(cluster)
        if offsets_topic is None and groups:
            self._result.trouble.append("liveness: not every leader of the offsets of groups tells its high watermark")
        return offsets_topic

    def _read_replicas(
        self,
        cluster: HostedCluster,
        replicas: Mapping[Spot, list[int]],
        offsets_topic: OffsetsTopic | None,
        history: HistoryWriter,
    ) -> None:
        folders = {spec.node_id: spec.data_folder for spec in cluster.layout.brokers}
        if any(spot not in replicas for spot in PARTITIONS):
            self._result.trouble.append("liveness: no broker told who has the replicas")
            return
        try:
            for replica in read_replicas(folders, PARTITIONS, replicas):
                history.append(replica)
            for log in offsets_topic.read(folders, PARTITIONS) if offsets_topic is not None else ():
                history.append(log)
        except DamagedReplicaError as error:
            self._result.trouble.append(f"damaged replica: {error}")

    def _kinds(self, cluster: HostedCluster, network: Network) -> Collection[FaultKind]:
        """Those that were asked for and can be done; says which cannot."""
        impossible: dict[FaultKind, str] = {}
        if not network.can_cut:
            impossible |= dict.fromkeys(CUTS, "there are no links to cut")
        if network.slow_link is None:
            impossible[FaultKind.SLOW_LINK] = "links cannot be slowed down here"
        if not all(disk.can_fill for disk in cluster.disks.values()):
            impossible[FaultKind.FILL_DISK] = "no tmpfs can be mounted here"
        if not cluster.clocks.can_shift:
            impossible[FaultKind.MOVE_CLOCK] = "libfaketime is not installed, or does not work with this Python"
        for kind, reason in impossible.items():
            self._say(f"NOT DONE: {kind.value}: {reason}")
        wanted = self._settings.kinds if self._settings.kinds is not None else frozenset(FaultKind)
        return [kind for kind in FaultKind if kind in wanted and kind not in impossible]

    def _fleet_settings(self, cluster: HostedCluster) -> FleetSettings:
        settings = self._settings
        return FleetSettings(
            folder=settings.folder / "clients",
            kafka_servers=",".join(spec.kafka_address or "" for spec in cluster.first_brokers),
            grpc_servers=",".join(spec.address for spec in cluster.first_brokers),
            partitions=PARTITIONS,
            seed=settings.seed,
            workers=settings.workers,
            pace_s=settings.pace_s,
            environment={TOKEN_VARIABLE: self._token},
        )

    def _say(self, words: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {words}", flush=True)


def create_topics(cluster: HostedCluster) -> None:
    """The topics that clients write to; returns when every broker knows them. :raises DeployError: it does not."""
    with Admin(bootstrap_servers=",".join(spec.address for spec in cluster.first_brokers)) as admin:
        try:
            admin.create_topics(
                [NewTopic(name, count, 3, topic_configs=TOPIC_CONFIG) for name, count in TOPICS.items()]
            )
        except TopicAlreadyExistsError:
            pass  # on a busy machine: the answer was late, and the client asked again

    def known_everywhere() -> bool:
        answers = [cluster.observer.ask_broker(spec) for spec in cluster.first_brokers]
        ends = [answer.metadata_end_offset for answer in answers if answer is not None]
        return len(ends) == len(answers) and len(set(ends)) == 1 and set(PARTITIONS) <= set(cluster.partitions())

    cluster.wait_until(known_everywhere, timeout_s=30.0, what="the topics to be known everywhere")


def end_offsets(cluster: HostedCluster) -> list[int] | None:
    """The high watermark of every partition, by the history's number; None if a leader does not tell."""

    def ask() -> list[int] | None:
        found: dict[Spot, int] = {}
        for topic in TOPICS:
            description = cluster.observer.topic(topic)
            if description is None:
                return None
            found |= {(topic, number): end for number, end in cluster.observer.high_watermarks(description).items()}
        return [found[spot] for spot in PARTITIONS] if set(PARTITIONS) <= set(found) else None

    try:
        return cluster.wait_until(ask, timeout_s=30.0, what="all high watermarks")
    except DeployError:
        return None


def commit() -> str:
    """The commit of the code that is tried, with a mark if files differ from it."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdin is not None  # start_guard makes the pipe
    guard.stdin.close()
    guard.wait()


def python_path() -> str:
    """What PYTHONPATH must hold for the programs of a campaign: this folder's parent, and what it held before."""
    before = os.environ.get("PYTHONPATH", "")
    tests = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([tests, *(part for part in before.split(os.pathsep) if part and part != tests)])
