"""`klamm up`, `status`, `down`, `clean` and the node commands, as a user types them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom

import pytest
from klamm.client import Consumer, Producer

pytestmark = pytest.mark.integration

KLAMM = Path(sys.executable).parent / "klamm"


class Shell:
    """Runs klamm in a folder of its own, with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker_port, self.controller_port, self.kafka_port = _free_range(3), _free_range(3), _free_range(3)

    def run(self, *arguments: str, code: int | None = 0, answer: str = "") -> str:
        done = subprocess.run(
            [str(KLAMM), *arguments],
            cwd=self.folder,
            input=answer,
            capture_output=True,
            text=True,
            timeout=110,
            env={**os.environ, "COLUMNS": "200"},
        )
        output = done.stdout + done.stderr
        assert code is None or done.returncode == code, output
        return output

    def up(self, *options: str, code: int = 0) -> str:
        ports = ("--broker-port", str(self.broker_port), "--controller-port", str(self.controller_port))
        return self.run("up", *ports, "--kafka-port", str(self.kafka_port), *options, code=code)

    def status(self) -> dict[str, object]:
        status: dict[str, object] = json.loads(self.run("status", "--json"))
        return status

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.broker_port}"


def _free_range(count: int) -> int:
    """The first of so many consecutive ports that are free now. They are none of those that the kernel gives to
    outgoing connections: one of other tests' might take them before they are used.
    """
    try:
        first_of_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except OSError:
        first_of_kernel = 32_768
    while True:
        first = SystemRandom().randrange(10_000, max(first_of_kernel, 11_000) - count)
        if all(_is_free(first + step) for step in range(count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.run("down", code=None)
    status = json.loads(shell.run("status", "--json", code=None).partition("klamm: ")[0] or "{}")
    assert all(node["pid"] is None for node in status.get("nodes", []))


def test_up_status_down_up_clean(shell: Shell) -> None:
    first = shell.up()
    for name in ("controller-1", "controller-3", "broker-1", "broker-3", str(shell.broker_port), "running, leader"):
        assert name in first
    kafka = [f"127.0.0.1:{shell.kafka_port + step}" for step in range(3)]
    assert ",".join(kafka) in first
    assert all(first.count(address) == 2 for address in kafka), "in the table, and to copy"
    assert "was up already" in shell.up()
    with Producer(bootstrap_servers=shell.bootstrap_servers) as producer:
        assert producer.send("kept", b"record").get(timeout=20).offset == 0
    status = shell.status()
    assert status["healthy"], status
    assert status["kafka_bootstrap_servers"] == ",".join(kafka)
    assert "kept" in shell.run("status")
    assert "still up" in shell.run("clean", "--yes", code=1)
    down = shell.run("down")
    assert down.index("broker-1") < down.index("broker-2") < down.index("broker-3") < down.index("controller-1")
    assert "down already" in shell.run("down")
    assert "klamm up" in shell.run("status", code=1)
    shell.run("up")
    with Consumer("kept", bootstrap_servers=shell.bootstrap_servers, auto_offset_reset="earliest") as consumer:
        assert next(iter(consumer)).value == b"record"
    shell.run("down")
    shell.run("clean", code=1, answer="n\n")
    assert (shell.folder / ".klamm" / "broker-1" / "log.txt").exists()
    shell.run("clean", answer="y\n")
    assert not (shell.folder / ".klamm").exists()


def test_parts_that_are_down_are_named_with_the_way_to_start_them(shell: Shell) -> None:
    shell.up()
    assert "klamm broker start 2" in shell.run("broker", "kill", "2")
    assert "is down" in shell.run("broker", "pause", "2", code=1)
    shell.run("controller", "kill", "1")
    partly = shell.up(code=1)
    assert "klamm broker start 2" in partly
    assert "klamm controller start 1" in partly
    shell.run("broker", "start", "2")
    shell.run("controller", "start", "1")
    shell.run("broker", "pause", "3")
    assert "paused" in shell.run("status")
    assert "klamm broker resume 3" in shell.up(code=1)
    shell.run("broker", "resume", "3")
    assert "was up already" in shell.up()
    assert "no node 'broker-7'" in shell.run("broker", "kill", "7", code=2)


def test_wiped_controller_is_readmitted(shell: Shell) -> None:
    shell.up()
    shell.run("controller", "kill", "3")
    for path in (shell.folder / ".klamm" / "controller-3" / "data").iterdir():
        path.unlink()
    shell.run("controller", "readmit", "3")
    shell.run("controller", "start", "3")
    assert "controller-3" in shell.run("status")


def test_a_port_in_use_is_named_with_its_process(shell: Shell) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", shell.broker_port + 1))
        other.listen()
        complaint = shell.up(code=1)
    assert f"port {shell.broker_port + 1}" in complaint
    assert f"pid {os.getpid()}" in complaint
    shell.up()


def test_what_was_started_differently_is_a_usage_error(shell: Shell) -> None:
    shell.up("--brokers", "1", "--controllers", "1")
    assert "has 1" in shell.up("--brokers", "3", code=2)
    shell.up("--controllers", "2", code=2)


@pytest.mark.parametrize("command", ["status", "broker kill 1", "controller start 1"])
def test_without_a_cluster_it_says_how_to_start_one(tmp_path: Path, command: str) -> None:
    assert "klamm up" in Shell(tmp_path).run(*command.split(), code=1)
    assert list(tmp_path.iterdir()) == []
