"""`python -m kafka.admin`, `kafka.producer` and `kafka.consumer`, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from harness.kafka_clients import create_topic
from harness.metadata_everywhere import wait_until_known_everywhere
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration


def run(module: str, servers: str, *arguments: str, given: str | None = None, code: int = 0) -> str:
    addresses = [word for server in servers.split(",") for word in ("-b", server)]
    done = subprocess.run(
        [sys.executable, "-m", f"kafka.{module}", *addresses, "-l", "ERROR", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def admin(servers: str, *arguments: str) -> object:
    return json.loads(run("admin", servers, "--format", "json", *arguments))


def test_topics(servers: str, cluster: LocalCluster, name: str) -> None:
    admin(servers, "topics", "create", "-t", name, "--num-partitions", "2", "--replication-factor", "1")
    wait_until_known_everywhere(cluster)
    assert name in json.dumps(admin(servers, "topics", "list"))
    assert name in json.dumps(admin(servers, "topics", "describe", "-t", name))
    assert "retention.ms" in json.dumps(admin(servers, "configs", "describe", "-r", "topic", "-n", name))
    admin(servers, "topics", "delete", "-t", name)
    wait_until_known_everywhere(cluster)
    assert name not in json.dumps(admin(servers, "topics", "list"))


def test_cluster(servers: str) -> None:
    described = json.dumps(admin(servers, "cluster", "describe"))
    for server in servers.split(","):
        assert server.split(":")[1] in described


def test_produce_and_consume(servers: str, name: str) -> None:
    create_topic(servers, name)
    run("producer", servers, "-t", name, given="first\nsecond\n")
    consumed = subprocess.Popen(
        [
            *(sys.executable, "-u", "-m", "kafka.consumer", "-b", servers.split(",")[0], "-t", name, "-g", name),
            *("-C", "auto_offset_reset=earliest", "-f", "str", "-l", "ERROR"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert consumed.stdout is not None
    try:
        assert [consumed.stdout.readline().strip() for _ in range(2)] == ["first", "second"]
    finally:
        consumed.terminate()
        consumed.wait(20)
        consumed.stdout.close()
    groups = json.dumps(admin(servers, "groups", "list"))
    assert name in groups
