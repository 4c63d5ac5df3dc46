"""The blocking clients: the same cores, from threads. The fake cluster runs on their own background loop."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.fake_broker import FakeCluster
from klamm.client import Consumer, DeliveryFuture, KafkaConsumer, KafkaProducer, Producer, RecordMetadata
from klamm.client.loop_thread import loop_thread
from klamm.proto.errors import IllegalStateError, KafkaError, KafkaTimeoutError


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    async def start() -> FakeCluster:
        return await FakeCluster().start()

    cluster = loop_thread().run(start())
    loop_thread().run(_create(cluster))
    yield cluster
    loop_thread().run(cluster.stop())


async def _create(cluster: FakeCluster) -> None:
    cluster.create_topic("orders", 3)


def test_produce_and_consume(cluster: FakeCluster) -> None:
    with Producer(bootstrap_servers=cluster.bootstrap_servers, value_serializer=str.encode) as producer:
        futures = [producer.send("orders", f"{number}", key=b"%d" % (number % 5)) for number in range(1000)]
        producer.flush(10)
        assert all(future.succeeded() for future in futures)
        assert producer.partitions_for("orders") == {0, 1, 2}
    with Consumer(
        "orders", bootstrap_servers=cluster.bootstrap_servers, auto_offset_reset="earliest", consumer_timeout_ms=300
    ) as consumer:
        records = list(consumer)
    assert len(records) == 1000
    for key in range(5):
        mine = [int(record.value) for record in records if record.key == b"%d" % key]
        assert mine == list(range(key, 1000, 5))


def test_callbacks_get_metadata_or_error(cluster: FakeCluster) -> None:
    told: list[tuple[str, RecordMetadata]] = []
    done = threading.Event()

    def on_success(label: str, metadata: RecordMetadata) -> None:
        told.append((label, metadata))
        producer.send("orders", b"from a callback", partition=1).add_callback(lambda _: done.set())

    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        producer.partitions_for("orders")
        future = producer.send("orders", b"x", partition=0).add_callback(on_success, "first")
        assert future.get(10).offset == 0
        assert done.wait(10)
        assert [label for label, _ in told] == ["first"]
        late: list[RecordMetadata] = []
        future.add_callback(late.append)
        assert late == [future.value]


def test_a_callback_that_raises_harms_nobody(cluster: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        producer.send("orders", b"x", partition=0).add_callback(lambda _: 1 / 0).get(10)
        assert producer.send("orders", b"y", partition=0).get(10).offset == 1
    assert "producer_callback_failed" in caplog.text


def test_many_threads_may_send(cluster: FakeCluster) -> None:
    futures: list[DeliveryFuture] = []

    def work(name: int) -> None:
        futures.extend(producer.send("orders", b"%d:%d" % (name, number), partition=0) for number in range(500))

    with Producer(bootstrap_servers=cluster.bootstrap_servers, buffer_memory=20_000, batch_size=1000) as producer:
        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush(20)
    assert sorted(future.get(1).offset for future in futures) == list(range(2000))
    values = cluster.partition("orders").values()
    for name in range(4):
        mine = [value for value in values if value is not None and value.startswith(b"%d:" % name)]
        assert mine == [b"%d:%d" % (name, number) for number in range(500)]


def test_get_gives_up_in_time_and_the_record_goes_on(cluster: FakeCluster) -> None:
    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        producer.partitions_for("orders")
        cluster.brokers[0].pause()
        future = producer.send("orders", b"x", partition=0)
        with pytest.raises(KafkaTimeoutError, match="still under way"):
            future.get(0.05)
        with pytest.raises(KafkaTimeoutError, match="flush"):
            producer.flush(0.05)
        loop_thread().loop.call_soon_threadsafe(cluster.brokers[0].resume)
        assert future.get(10).offset == 0


def test_a_full_buffer_blocks_and_then_fails(cluster: FakeCluster) -> None:
    with Producer(bootstrap_servers=cluster.bootstrap_servers, buffer_memory=2000, max_block_ms=50) as producer:
        producer.partitions_for("orders")
        cluster.brokers[0].pause()
        with pytest.raises(KafkaTimeoutError, match="buffer_memory"):
            for _ in range(100):
                producer.send("orders", b"x" * 100, partition=0)
        loop_thread().loop.call_soon_threadsafe(cluster.brokers[0].resume)


def test_wrong_types_are_named(cluster: FakeCluster) -> None:
    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        with pytest.raises(KafkaError, match="value is str, not bytes"):
            producer.send("orders", "text")
        with pytest.raises(KafkaError, match="key is int, not bytes"):
            producer.send("orders", b"x", key=5)
        with pytest.raises(KafkaError, match="header"):
            producer.send("orders", b"x", headers=[("h", "text")])  # type: ignore[list-item]


def test_a_closed_producer_says_so(cluster: FakeCluster) -> None:
    producer = Producer(bootstrap_servers=cluster.bootstrap_servers)
    producer.close()
    producer.close()
    with pytest.raises(IllegalStateError, match="closed"):
        producer.send("orders", b"x")


def test_a_blocking_call_in_a_callback_is_an_error_and_no_deadlock(cluster: FakeCluster) -> None:
    errors: list[BaseException] = []

    def on_success(_: RecordMetadata) -> None:
        try:
            producer.flush()
        except IllegalStateError as error:
            errors.append(error)

    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        producer.send("orders", b"x", partition=0).add_callback(on_success).get(10)
        producer.flush(10)
    assert len(errors) == 1


def test_kafka_pythons_names() -> None:
    assert KafkaProducer is Producer
    assert KafkaConsumer is Consumer


def test_importing_the_sdk_does_not_import_grpc() -> None:
    program = "import sys, klamm.client; sys.exit('grpc' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("last_words", ["", "import os; os._exit(0) if os.fork() else None"])
def test_a_program_that_forgets_to_close_still_ends(tmp_path: Path, last_words: str) -> None:
    program = (
        "from klamm.client import Producer, Consumer\n"
        "producer = Producer(bootstrap_servers='127.0.0.1:1', max_block_ms=50)\n"
        "consumer = Consumer('t', bootstrap_servers='127.0.0.1:1')\n"
        "try: producer.send('t', b'x')\n"
        f"except Exception as error: print(type(error).__name__)\n{last_words}\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "KafkaTimeoutError" in ended.stdout
