"""kcat: list, produce, consume, groups, formats and offsets. It is a Debian package; without it these are skipped."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from harness.kafka_clients import create_topic

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed (Debian: apt-get install kcat)"),
]


def kcat(servers: str, *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        ["kcat", "-b", servers, *arguments], input=given, capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_list(servers: str, name: str) -> None:
    create_topic(servers, name, 3)
    count = len(servers.split(","))
    everything = kcat(servers, "-L")
    assert f" {count} brokers:" in everything
    assert f'topic "{name}" with 3 partitions:' in everything
    one = json.loads(kcat(servers, "-L", "-J", "-t", name))
    assert [topic["topic"] for topic in one["topics"]] == [name]
    assert len(one["topics"][0]["partitions"]) == 3
    assert len(one["brokers"]) == count
    assert one["controllerid"] in {broker["id"] for broker in one["brokers"]}


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_produce_and_consume(three_servers: str, name: str, codec: str) -> None:
    lines = [f"key{n}:value {n}" for n in range(50)]
    kcat(three_servers, "-P", "-t", name, "-K", ":", "-z", codec, given="\n".join(lines) + "\n")
    shown = kcat(three_servers, "-C", "-t", name, "-e", "-q", "-o", "beginning", "-f", "%k:%s\n")
    assert shown.splitlines() == lines


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_batches_are_compressed(servers: str, name: str, codec: str) -> None:
    """Older librdkafka sends them uncompressed, without a word, where Produce is not served from version 0 on."""
    create_topic(servers, name, 1)
    command = ["kcat", "-b", servers, "-P", "-t", name, "-z", codec, "-X", "debug=msg"]
    done = subprocess.run(command, input="value\n" * 500, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{codec} compressed" in done.stderr or f", {codec})" in done.stderr, done.stderr
    assert "not compressing" not in done.stderr


def test_formats_headers_and_offsets(servers: str, name: str) -> None:
    create_topic(servers, name, 2)
    kcat(servers, "-P", "-t", name, "-p", "1", "-H", "h=1", given="a\nb\nc\nd\n")
    shown = kcat(servers, "-C", "-t", name, "-p", "1", "-e", "-q", "-o", "2", "-f", "%t/%p/%o/%h/%S/%s\n")
    assert shown.splitlines() == [f"{name}/1/2/h=1/1/c", f"{name}/1/3/h=1/1/d"]
    last = kcat(servers, "-C", "-t", name, "-p", "1", "-e", "-q", "-o", "-1", "-J")
    assert json.loads(last)["offset"] == 3
    some = kcat(servers, "-C", "-t", name, "-p", "1", "-q", "-o", "beginning", "-c", "2")
    assert some.splitlines() == ["a", "b"]
    assert kcat(servers, "-Q", "-t", f"{name}:1:-1").strip() == f"{name} [1] offset 4"
    stamp = int(json.loads(last)["ts"])
    assert kcat(servers, "-Q", "-t", f"{name}:1:{stamp}").startswith(f"{name} [1] offset ")


def test_group_resumes_where_it_stopped(servers: str, name: str) -> None:
    kcat(servers, "-P", "-t", name, given="1\n2\n3\n")
    options = ("-X", "auto.offset.reset=earliest", "-G", name, name)
    assert kcat(servers, "-q", "-c", "3", *options).split() == ["1", "2", "3"]
    kcat(servers, "-P", "-t", name, given="4\n")
    assert kcat(servers, "-q", "-c", "1", *options).split() == ["4"]


def test_idempotent_and_acks(servers: str, name: str) -> None:
    settings = [("enable.idempotence=true",), ("acks=0",), ("acks=1",)]
    for number, (setting,) in enumerate(settings):
        kcat(servers, "-P", "-t", name, "-X", setting, given=f"{number}\n")
    assert kcat(servers, "-C", "-t", name, "-e", "-q", "-o", "beginning").split() == ["0", "1", "2"]
