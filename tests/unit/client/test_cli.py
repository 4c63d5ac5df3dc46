from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from harness.fake_broker import FakeCluster
from klamm.client.cli import register
from klamm.client.loop_thread import loop_thread
from klamm.proto.record_batch import set_offset_and_epoch
from klamm.proto.record_codec import build_batch, new_builder
from typer.testing import CliRunner


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    async def start() -> FakeCluster:
        cluster = await FakeCluster().start()
        cluster.create_topic("orders", 2)
        return cluster

    cluster = loop_thread().run(start())
    yield cluster
    loop_thread().run(cluster.stop())


def klamm(*arguments: str, cluster: FakeCluster | None = None, stdin: bytes | None = None) -> Any:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    register(app)
    servers = "127.0.0.1:1" if cluster is None else cluster.bootstrap_servers
    return CliRunner().invoke(app, [*arguments], input=stdin, env={"KLAMM_BOOTSTRAP_SERVERS": servers})


def test_topics(cluster: FakeCluster) -> None:
    assert klamm("topics", "create", "new", "-p", "3", cluster=cluster).output.startswith("Created topic new: 3")
    again = klamm("topics", "create", "new", cluster=cluster)
    assert (again.exit_code, again.stderr) == (1, "klamm: new: a topic of this name exists\n")
    assert klamm("topics", "create", "new", "--if-not-exists", cluster=cluster).exit_code == 0
    listed = klamm("topics", "list", "--json", cluster=cluster)
    assert json.loads(listed.stdout) == [{"name": "new", "partitions": 3}, {"name": "orders", "partitions": 2}]
    table = klamm("topics", "list", cluster=cluster).stdout
    assert "orders" in table and "healthy" in table
    assert klamm("topics", "delete", "new", cluster=cluster).exit_code == 0
    missing = klamm("topics", "delete", "new", cluster=cluster)
    assert missing.exit_code == 1 and "no such topic" in missing.stderr and "Traceback" not in missing.output


def test_produce_and_consume(cluster: FakeCluster) -> None:
    lines = b"".join(b"key%d:value %d\n" % (number % 3, number) for number in range(50))
    produced = klamm("produce", "orders", "-k", ":", "-H", "from=test", "-z", "zstd", cluster=cluster, stdin=lines)
    assert (produced.exit_code, produced.stderr) == (0, "50 records written to orders.\n")
    consumed = klamm("consume", "orders", "-b", "-e", "-f", "%t %k=%s %h\\n", cluster=cluster)
    assert consumed.exit_code == 0
    expected = [f"orders key{number % 3}=value {number} from=test" for number in range(50)]
    assert sorted(consumed.stdout.splitlines()) == sorted(expected)
    some = klamm("consume", "orders", "--from-beginning", "-n", "7", "--json", cluster=cluster)
    records = [json.loads(line) for line in some.stdout.splitlines()]
    assert len(records) == 7
    assert set(records[0]) >= {"topic", "partition", "offset", "timestamp", "key", "value", "headers"}


def test_consume_from_an_offset_and_from_the_end(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"".join(b"%d\n" % number for number in range(20)))
    assert klamm("produce", "orders", "-f", str(file), "-p", "1", cluster=cluster).exit_code == 0
    arguments = ("consume", "orders", "-p", "1", "-e", "-f", "%p:%o:%s ")
    assert klamm(*arguments, "-o", "17", cluster=cluster).stdout == "1:17:17 1:18:18 1:19:19 "
    assert klamm(*arguments, "-o", "-2", cluster=cluster).stdout == "1:18:18 1:19:19 "
    assert klamm(*arguments, "-t", "2999-01-01T00:00:00", cluster=cluster).stdout == ""
    assert len(klamm(*arguments, "-t", "0", cluster=cluster).stdout.split()) == 20


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["consume", "missing"], 1, "topic 'missing' does not exist"),
        (["consume", "orders", "-p", "9"], 1, "9 is not one of them"),
        (["produce", "missing"], 1, "klamm topics create missing"),
        (["produce", "orders", "-z", "brotli"], 2, "compression_type"),
        (["produce", "orders", "--acks", "7"], 2, "acks"),
        (["produce", "orders", "-H", "nothing"], 2, "KEY=VALUE"),
        (["topics", "alter", "orders"], 2, "--partitions"),
        (["topics", "list", "--bootstrap-servers", "nonsense"], 2, "bootstrap_servers"),
        (["consume", "orders", "-b", "-o", "5"], 2, "exclude each other"),
        (["consume", "orders", "-f", "%q"], 2, "%q is not known"),
        (["consume", "orders", "-t", "yesterday"], 2, "yesterday"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    cluster: FakeCluster, arguments: list[str], exit_code: int, message: str
) -> None:
    result = klamm(*arguments, cluster=cluster, stdin=b"x\n")
    assert result.exit_code == exit_code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_no_cluster() -> None:
    result = klamm("topics", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith("klamm: no broker answers at 127.0.0.1:1")


def test_brokers(cluster: FakeCluster) -> None:
    listed = json.loads(klamm("brokers", "--json", cluster=cluster).stdout)
    assert [broker["broker_id"] for broker in listed] == [0, 1, 2]
    assert "active" in klamm("brokers", cluster=cluster).stdout


def segment(tmp_path: Path) -> Path:
    data = bytearray()
    for base in (100, 103):
        builder = new_builder(1 << 16)
        for number in range(3):
            builder.append(number, 5, b"k", b"value-%d" % (base + number), [])
        batch = build_batch(builder, 0)
        set_offset_and_epoch(batch, base, 7)
        data += batch
    file = tmp_path / "00000000000000000100.log"
    file.write_bytes(data)
    return file


def test_dump_log(tmp_path: Path) -> None:
    file = segment(tmp_path)
    shown = klamm("dump-log", str(file), "--records")
    assert shown.exit_code == 0
    assert "offsets 100..102  records 3  leader epoch 7" in shown.stdout
    assert "b'value-105'" in shown.stdout and "2 batches, 6 records" in shown.stdout
    documents = [json.loads(line) for line in klamm("dump-log", str(file), "-r", "--json").stdout.splitlines()]
    assert [entry["batch"]["base_offset"] for entry in documents if "batch" in entry] == [100, 103]
    assert next(entry["record"]["value"] for entry in documents if "record" in entry) == "value-100"
    assert documents[-1]["error"] is None


@pytest.mark.parametrize("cut", [1, 50, 100])
def test_dump_log_of_a_damaged_segment(tmp_path: Path, cut: int) -> None:
    file = segment(tmp_path)
    data = bytearray(file.read_bytes())
    file.write_bytes(data[:-cut])
    shown = klamm("dump-log", str(file))
    assert shown.exit_code == 1 and "damaged at byte" in shown.stdout
    data[70] ^= 1
    file.write_bytes(data)
    flipped = klamm("dump-log", str(file))
    assert flipped.exit_code == 1 and "WRONG" in flipped.stdout
    assert klamm("dump-log", str(tmp_path / "none")).exit_code == 2


def test_dump_log_of_an_empty_segment(tmp_path: Path) -> None:
    file = tmp_path / "empty.log"
    file.touch()
    assert klamm("dump-log", str(file)).stdout == "0 batches, 0 records, 0 bytes: all sound\n"
