"""Apache Kafka in KRaft mode from its published jars: a cluster of real processes with stock settings.

Each node is broker and controller in one process, which is kinder to Kafka than Klamm's three brokers beside three
controllers: half as many JVMs. Settings are those of the release's config/server.properties, heap and collector those
of its bin/kafka-server-start.sh and bin/kafka-run-class.sh. Left out, as it would only cost: the log of the garbage
collector, JMX, and Kafka's own log, for which the jars bring no back end.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import IO, Final

from harness.kafka_tools import KafkaTools, kafka_version
from klamm.deploy import reaper
from klamm.deploy.ports import PortReservation

HOST: Final = "127.0.0.1"
START_SECONDS_MAX: Final = 120.0
STOP_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.01

HEAP: Final = ("-Xmx1G", "-Xms1G")
COLLECTOR: Final = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
)
STOCK: Final = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "num.network.threads": "3",
    "num.io.threads": "8",
    "socket.send.buffer.bytes": "102400",
    "socket.receive.buffer.bytes": "102400",
    "socket.request.max.bytes": "104857600",
    "num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "log.retention.hours": "168",
    "log.segment.bytes": "1073741824",
    "log.retention.check.interval.ms": "300000",
}


class KafkaNodeError(Exception):
    """A node could not be formatted, or did not come to serve."""


def version() -> str:
    """The release whose jars are used."""
    return kafka_version()


class ApacheKafka:
    """Nodes 1..n, on ports that the kernel picks, in a temporary folder. `close` ends them and removes it.

    If this process is killed, Klamm's reaper does that.
    """

    name = "kafka"

    def __init__(self, brokers: int) -> None:
        """Formats the nodes' folders.

        :raises NoKafkaToolsError: there is no Java, or no jars and no Maven to bring them.
        :raises KafkaNodeError: formatting failed.
        """
        self._classpath = KafkaTools().class_path
        self._token = uuid.uuid4().hex
        self._folder = Path(tempfile.gettempdir()) / f"kafka-{self._token[:12]}"
        self._reservations = [PortReservation(HOST) for _ in range(2 * brokers)]
        ports = [reservation.port for reservation in self._reservations]
        self._ports = dict(enumerate(ports[:brokers], start=1))
        self._controller_ports = dict(enumerate(ports[brokers:], start=1))
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._reaper = self._start_reaper()
        try:
            self._format()
        except BaseException:
            self.close()
            raise

    @property
    def servers(self) -> str:
        """Every broker's address, joined by commas."""
        return ",".join(f"{HOST}:{port}" for port in self._ports.values())

    @property
    def addresses(self) -> dict[int, tuple[str, int]]:
        """Host and port of each node by its id."""
        return {node: (HOST, port) for node, port in self._ports.items()}

    def start(self) -> None:
        """Starts all nodes that are down, at once; returns when each takes connections.

        :raises KafkaNodeError: one does not.
        """
        down = [node for node in self._ports if node not in self._children]
        for node in down:
            self._spawn(node)
        for node in down:
            self._await_port(node)

    def stop(self) -> None:
        """SIGTERM to all: each gives its partitions up and closes its logs in order.

        :raises KafkaNodeError: one did not end in time and was killed.
        """
        for child in self._children.values():
            child.send_signal(signal.SIGTERM)
        deadline, killed = time.monotonic() + STOP_SECONDS_MAX, []
        for node, child in self._children.items():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                killed.append(node)
        self._children.clear()
        if killed:
            raise KafkaNodeError(f"nodes {killed} did not stop within {STOP_SECONDS_MAX:g} s")

    def kill(self, node: int | str) -> None:
        """SIGKILL; returns when the process is gone."""
        child = self._children.pop(int(node))
        child.kill()
        child.wait()

    def start_node(self, node: int | str) -> None:
        """Starts a node that is down; returns when it takes connections."""
        self._spawn(int(node))
        self._await_port(int(node))

    def active_controller(self) -> int:
        """The node that leads the metadata quorum."""
        from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

        admin = KafkaAdminClient(bootstrap_servers=self.servers.split(","))
        try:
            (topic,) = admin.describe_metadata_quorum()["topics"]
            return int(topic["partitions"][0]["leader_id"])
        finally:
            admin.close()

    def quorum_is_whole(self) -> bool:
        """True: a node that takes connections and is in the metadata is a controller, too."""
        return all(child.poll() is None for child in self._children.values())

    def pids(self) -> list[int]:
        """Of every process of the cluster."""
        return [child.pid for child in self._children.values()]

    def close(self) -> None:
        """Ends all nodes at once and removes the folder. May be called twice."""
        for child in self._children.values():
            child.kill()
            child.wait()
        self._children.clear()
        for reservation in self._reservations:
            reservation.close()
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        self._reaper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- processes -----------------------------------------------------------------------------------------------

    def _format(self) -> None:
        cluster_id, voters = _kafka_uuid(), []
        for node in self._ports:
            (self._folder / str(node)).mkdir(parents=True)
            self._config(node).write_text(self._properties(node), encoding="utf-8")
            voters.append(f"{node}@{HOST}:{self._controller_ports[node]}:{_kafka_uuid()}")
        arguments = ["format", "--cluster-id", cluster_id, "--initial-controllers", ",".join(voters), "--config"]
        quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        tools = [
            self._java((*quick, "kafka.tools.StorageTool", *arguments, str(self._config(node))), node)
            for node in self._ports
        ]
        for node, tool in zip(self._ports, tools, strict=True):
            if tool.wait(START_SECONDS_MAX) != 0:
                raise KafkaNodeError(f"node {node} could not be formatted: {self._log(node).read_text()[-1000:]}")

    def _properties(self, node: int) -> str:
        client, controller = f"PLAINTEXT://{HOST}:{self._ports[node]}", self._controller_ports[node]
        bootstrap = ",".join(f"{HOST}:{port}" for port in self._controller_ports.values())
        own = {
            "node.id": str(node),
            "controller.quorum.bootstrap.servers": bootstrap,
            "listeners": f"{client},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"{client},CONTROLLER://{HOST}:{controller}",
            "log.dirs": str(self._folder / str(node) / "data"),
        }
        return "".join(f"{key}={value}\n" for key, value in (STOCK | own).items())

    def _spawn(self, node: int) -> None:
        child = self._java((*HEAP, *COLLECTOR, "kafka.Kafka", str(self._config(node))), node)
        self._children[node] = child

    def _java(self, arguments: tuple[str, ...], node: int) -> subprocess.Popen[bytes]:
        log: IO[bytes]
        with self._log(node).open("ab") as log:
            child = subprocess.Popen(
                ["java", "-cp", self._classpath, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=os.environ | {reaper.TOKEN_VARIABLE: self._token},
            )
        started = reaper.process_start_time(child.pid)
        assert self._reaper.stdin is not None
        self._reaper.stdin.write(f"{child.pid} {started}\n".encode())
        self._reaper.stdin.flush()
        return child

    def _await_port(self, node: int) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                socket.create_connection((HOST, self._ports[node]), timeout=1.0).close()
                return
            except OSError:
                if self._children[node].poll() is not None or time.monotonic() >= deadline:
                    said = self._log(node).read_text()[-1000:]
                    raise KafkaNodeError(f"node {node} does not take connections; it said: {said}") from None
            time.sleep(POLL_SECONDS)

    def _start_reaper(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(os.getpid()), self._token, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _config(self, node: int) -> Path:
        return self._folder / str(node) / "server.properties"

    def _log(self, node: int) -> Path:
        return self._folder / str(node) / "output"


def _kafka_uuid() -> str:
    """Kafka writes a UUID as 22 characters of base 64; none of its own begins with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
