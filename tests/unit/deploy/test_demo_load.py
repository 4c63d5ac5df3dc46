from __future__ import annotations

from pathlib import Path

from klamm.client import DeliveryFuture
from klamm.client.producer_batch import ProducerBatch
from klamm.deploy.demo_check import SentRecord
from klamm.deploy.demo_load import AckLedger, LoadProducer, read_body
from klamm.proto.errors import KafkaTimeoutError
from klamm.proto.identifiers import TopicPartition


def test_body_is_every_line_in_order_per_file_interleaved(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "a.py").write_bytes(b"1\n2\n3\n")
    (tmp_path / "lib" / "b.py").write_bytes(b"x\n\ny")
    (tmp_path / "empty.py").write_bytes(b"")
    (tmp_path / "c.txt").write_bytes(b"not source\n")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "d.py").write_bytes(b"not the library\n")
    body = read_body(tmp_path)
    assert body == [
        SentRecord(b"a.py", b"1"),
        SentRecord(b"lib/b.py", b"x"),
        SentRecord(b"a.py", b"2"),
        SentRecord(b"lib/b.py", b""),
        SentRecord(b"a.py", b"3"),
        SentRecord(b"lib/b.py", b"y"),
    ]
    assert read_body(tmp_path, lines_max=2) == body[:2]


def test_body_of_the_standard_library_is_large() -> None:
    assert sum(len(record.line) for record in read_body(lines_max=100_000)) > 2_000_000


def _future(partition: int, index: int) -> tuple[ProducerBatch, DeliveryFuture]:
    batch = ProducerBatch(TopicPartition("t", partition), None, 0, 0)
    return batch, DeliveryFuture(batch, index, 0, 1, 1)


def test_ledger_takes_down_every_outcome() -> None:
    ledger = AckLedger(partitions=2)
    acked, first = _future(1, 3)
    failed, second = _future(0, 0)
    ledger.listen(first)
    acked.succeed(100, -1)
    failed.fail(KafkaTimeoutError("gone"))
    assert ledger.partitions_acked_since(0.0) == {0, 1}  # the beginning counts as an ack
    ledger.settle([first, second])
    assert ledger.acked == 1
    assert ledger.acked_in(1) == {0: 103}
    assert ledger.acked_in(0) == {}
    assert len(ledger.failures) == 1
    assert "record 1" in ledger.failures[0]
    assert "gone" in ledger.failures[0]


def test_ledger_measures_the_longest_time_without_an_ack() -> None:
    ledger = AckLedger(partitions=2)
    ledger.begin_measuring()
    batch, future = _future(1, 0)
    ledger.listen(future)
    before = ledger.longest_waits()
    batch.succeed(0, -1)
    after = ledger.longest_waits()
    assert 0 <= before[0] <= after[0]
    assert after[1] >= 0


def test_load_never_ends_before_the_faults_do() -> None:
    body = [SentRecord(b"k", b"line")] * 1000
    producer = LoadProducer(body, AckLedger(1), pace_seconds=1.0)
    allowances = []
    while producer.sent < 990:
        allowances.append(producer._allowance())
        producer.sent += allowances[-1]
    assert max(allowances) <= 10
    producer.sent = 999
    assert producer._allowance() == 0
    producer.finish()
    assert producer._allowance() == 1
