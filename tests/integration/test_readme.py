"""The README's Python programs do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import klamm
import pytest
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

README = Path(klamm.__file__).parent / "README.md"


BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def output_of(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def the_program(opening: str) -> str:
    """The one program of the README that begins so."""
    [program] = [block for block in BLOCKS if block.startswith(opening)]
    return program


def test_first_produce_and_consume(klamm_cluster: LocalCluster) -> None:
    program = the_program("from klamm.client import Consumer, Producer\n")
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    lines = [
        line.split(" ", 3) for line in output_of(program.replace("127.0.0.1:9192", klamm_cluster.bootstrap_servers))
    ]
    assert [(int(offset), value) for _, offset, _, value in lines] == [(n, f"b'hello {n}'") for n in range(10)]


def test_the_number_of_apis_is_the_tables() -> None:
    from klamm.broker.kafka.table import APIS

    assert f"| {len(APIS)} APIs in the versions" in README.read_text(encoding="utf-8")


KAFKA_SERVERS = "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"


def test_kafka_python(klamm_cluster: LocalCluster) -> None:
    program = the_program("import json\nfrom kafka import")
    assert KAFKA_SERVERS in program
    lines = output_of(program.replace(KAFKA_SERVERS, klamm_cluster.kafka_bootstrap_servers))
    assert lines == [f"0 {number} {{'number': {number}}}" for number in range(10)]


def test_confluent_kafka(klamm_cluster: LocalCluster) -> None:
    program = the_program("from confluent_kafka import")
    assert KAFKA_SERVERS in program
    lines = output_of(program.replace(KAFKA_SERVERS, klamm_cluster.kafka_bootstrap_servers))
    assert lines[:10] == [f"None {number}" for number in range(10)]
    assert lines[10:] == [f"0 {number} b'parcel {number}'" for number in range(10)]
