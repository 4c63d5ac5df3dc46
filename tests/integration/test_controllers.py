"""Real controller processes, and brokers' side of the conversation with them."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness.controller_processes import ControllerProcesses
from harness.fake_controllers import until
from harness.partitionless_broker import PartitionlessBroker
from klamm.broker.controller_client import ControllerLink
from klamm.broker.lifecycle import BrokerState
from klamm.controller.journal_format import HEADER_SIZE
from klamm.proto.command_pb2 import AllocateProducerIdsCommand, Command, UnregisterBrokerCommand
from klamm.proto.controller_pb2 import DescribeQuorumRequest, DescribeQuorumResponse
from klamm.proto.errors import DuplicateBrokerRegistrationError, ErrorCode, InconsistentClusterIdError
from klamm.proto.identifiers import BrokerId

pytestmark = pytest.mark.integration


@asynccontextmanager
async def brokers(
    quorum: ControllerProcesses, count: int, interval_ms: int = 500
) -> AsyncIterator[list[PartitionlessBroker]]:
    """Some brokers, unfenced, and each has seen that all are: who waits for one to be fenced must not take the state
    of a broker that has just registered for it."""
    started = [
        PartitionlessBroker(broker_id, quorum.addresses, interval_ms=interval_ms) for broker_id in range(1, count + 1)
    ]
    try:
        await asyncio.gather(*(broker.start() for broker in started))
        await until(lambda: all(_unfenced(seer, seen) for seer in started for seen in started))
        yield started
    finally:
        for broker in started:
            await broker.stop()


def _unfenced(seer: PartitionlessBroker, seen: PartitionlessBroker) -> bool:
    known = seer.image.brokers.get(seen.broker_id)
    return known is not None and not known.fenced


async def describe(broker: PartitionlessBroker) -> DescribeQuorumResponse:
    """The active controller's answer: while the broker knows none, any controller's would do."""
    await broker.client.active(timeout_ms=20_000)
    answer = await broker.client.describe_quorum()
    assert answer is not None
    return answer


def test_one_controller_from_start_to_first_topic_and_across_a_restart(tmp_path: Path) -> None:
    async def begin(quorum: ControllerProcesses) -> str:
        async with brokers(quorum, 1) as (broker,):
            response = await broker.create_topic("first", partitions=3)
            assert response.create_topics.topics[0].error_code == 0
            assert await broker.follower.wait_for(response.metadata_end_offset, 5_000)
            assert len(broker.topic("first").partitions) == 3
            assert broker.topic("first").partitions[0].leader == 1
            answer = await describe(broker)
            assert (answer.active_controller_id, answer.ready, answer.voter) == (0, True, True)
            assert answer.cluster_id == broker.image.cluster_id
            return answer.cluster_id

    async def go_on(quorum: ControllerProcesses, cluster_id: str) -> None:
        async with brokers(quorum, 1) as (broker,):
            assert len(broker.topic("first").partitions) == 3
            assert broker.image.cluster_id == cluster_id

    with ControllerProcesses(tmp_path, 1) as quorum:
        cluster_id = asyncio.run(begin(quorum))
        assert quorum.nodes[0].stop() == 0
        quorum.start()
        asyncio.run(go_on(quorum, cluster_id))
        quorum.nodes[0].kill()
        quorum.start()
        asyncio.run(go_on(quorum, cluster_id))


def test_three_controllers_go_on_when_the_active_one_is_killed(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 3) as started:
            epochs = [broker.lifecycle.broker_epoch for broker in started]
            for round_number in range(3):
                active = (await describe(started[0])).active_controller_id
                quorum.nodes[active].kill()
                response = await started[1].create_topic(f"topic-{round_number}", 6, 3)
                assert response.create_topics.topics[0].error_code == 0
                for broker in started:
                    assert await broker.follower.wait_for(response.metadata_end_offset, 5_000)
                    assert len(broker.topic(f"topic-{round_number}").partitions) == 6
                quorum.nodes[active].start()
                quorum.nodes[active].wait_ready()
                answer = await describe(started[0])
                assert answer.active_controller_id != active
                assert answer.controller_epoch == started[0].image.controller_epoch
            # Nobody was fenced or had to register again: the new controller gave everyone a full session.
            assert [broker.lifecycle.broker_epoch for broker in started] == epochs
            assert not any(broker.fenced for image in started[0].images[-3:] for broker in image.brokers.values())

    with ControllerProcesses(tmp_path, 3) as quorum:
        asyncio.run(main(quorum))


def test_a_broker_that_dies_is_fenced_long_before_its_session_ends(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 3) as started:
            response = await started[0].create_topic("t", 3, 3)
            assert await started[0].follower.wait_for(response.metadata_end_offset, 5_000)
            leader = started[0].topic("t").partitions[0].leader
            assert leader is not None
            victim = next(broker for broker in started if broker.broker_id == leader)
            witness = next(broker for broker in started if broker.broker_id != leader)
            await victim.lifecycle.stop()
            await until(lambda: witness.image.brokers[leader].fenced)  # gives up long before the session ends
            partition = witness.topic("t").partitions[0]
            assert partition.leader not in (None, leader)
            assert leader not in partition.isr
            # It comes back as a new process and is unfenced, not in the ISR (rule 19).
            again = PartitionlessBroker(leader, quorum.addresses, log_dir_id=victim.registration.log_dir_id)
            await again.start()
            await until(lambda: not witness.image.brokers[leader].fenced)
            assert leader not in witness.topic("t").partitions[0].isr
            await again.stop()

    with ControllerProcesses(tmp_path, 1, broker_session_timeout_ms="120000") as quorum:
        asyncio.run(main(quorum))


def test_a_silent_broker_is_fenced_by_the_session_time_out_and_unfenced_when_it_speaks(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 2, interval_ms=100) as (witness, slow):
            epoch = slow.lifecycle.broker_epoch
            slow.lifecycle._interval_ms = 1_200
            slow.lifecycle._answer_timeout_ms = 10_000
            await until(lambda: witness.image.brokers[BrokerId(2)].fenced)
            await until(lambda: not witness.image.brokers[BrokerId(2)].fenced)
            assert slow.lifecycle.broker_epoch == epoch
            assert not slow.fatal

    with ControllerProcesses(tmp_path, 1, broker_session_timeout_ms="600") as quorum:
        asyncio.run(main(quorum))


def test_rule_11_a_second_process_under_a_live_brokers_id_is_refused(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 1) as (first,):
            second = PartitionlessBroker(1, quorum.addresses)
            second.lifecycle._duplicate_timeout_ms = 300
            with pytest.raises(DuplicateBrokerRegistrationError, match="broker id 1 is taken"):
                await second.start()
            await second.stop()
            assert first.lifecycle.state is BrokerState.RUNNING
            assert not first.image.brokers[BrokerId(1)].fenced

    with ControllerProcesses(tmp_path, 1) as quorum:
        asyncio.run(main(quorum))


def test_rule_11_an_unregistered_broker_registers_anew_and_its_old_epoch_is_refused(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 2, interval_ms=100) as (first, second):
            old = first.lifecycle.broker_epoch
            first.lifecycle._interval_ms = 1_500  # silent for longer than a session
            await until(lambda: second.image.brokers[BrokerId(1)].fenced)
            unregister = Command(unregister_broker=UnregisterBrokerCommand(broker_id=1))
            assert (await second.client.submit(unregister, timeout_ms=5_000)).error_code == 0
            await until(lambda: first.lifecycle.broker_epoch > old)
            assert await first.lifecycle.wait_until_running(5_000)
            assert not first.fatal
            allocate = Command(allocate_producer_ids=AllocateProducerIdsCommand(broker_id=1, broker_epoch=old))
            assert (await first.client.submit(allocate, timeout_ms=5_000)).error_code == ErrorCode.STALE_BROKER_EPOCH
            allocate = Command(
                allocate_producer_ids=AllocateProducerIdsCommand(broker_id=1, broker_epoch=first.lifecycle.broker_epoch)
            )
            response = await first.client.submit(allocate, timeout_ms=5_000)
            assert response.allocate_producer_ids.producer_id_len == 1_000

    with ControllerProcesses(tmp_path, 1, broker_session_timeout_ms="600") as quorum:
        asyncio.run(main(quorum))


def test_a_broker_of_another_cluster_is_refused(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        stranger = PartitionlessBroker(1, quorum.addresses, cluster_id="x" * 22)
        with pytest.raises(InconsistentClusterIdError):
            await stranger.start()
        await until(lambda: stranger.fatal)
        assert isinstance(stranger.fatal[0], InconsistentClusterIdError)
        await stranger.stop()

    with ControllerProcesses(tmp_path, 1) as quorum:
        asyncio.run(main(quorum))


def test_rule_26_controlled_shutdown_moves_the_leaders_before_it_says_go(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 3) as started:
            response = await started[0].create_topic("t", 3, 3)
            for broker in started:
                assert await broker.follower.wait_for(response.metadata_end_offset, 5_000)
            assert await started[0].lifecycle.controlled_shutdown(10_000)
            # What was committed before it said go is before this.
            response = await started[1].create_topic("after")
            assert await started[1].follower.wait_for(response.metadata_end_offset, 5_000)
            for partition in started[1].topic("t").partitions:
                assert partition.leader not in (None, 1)
                assert 1 not in partition.isr

    with ControllerProcesses(tmp_path, 3) as quorum:
        asyncio.run(main(quorum))


def test_a_hung_active_controller_is_replaced(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 1) as (broker,):
            active = (await describe(broker)).active_controller_id
            quorum.nodes[active].signal(signal.SIGSTOP)
            try:
                response = await broker.create_topic("t", 1, 1)
                assert response.create_topics.topics[0].error_code == 0
                assert (await broker.client.active()).controller_id != active
            finally:
                quorum.nodes[active].signal(signal.SIGCONT)
            # It learns that it is no longer active, and follows.
            assert (await broker.create_topic("u", 1, 1)).create_topics.topics[0].error_code == 0

    with ControllerProcesses(tmp_path, 3) as quorum:
        asyncio.run(main(quorum))


def test_a_follower_far_behind_gets_a_snapshot(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 1) as (broker,):
            for number in range(40):
                response = await broker.create_topic(f"topic-{number}", 1, 1)
                assert response.create_topics.topics[0].error_code == 0
            for node in quorum.nodes:
                assert node.stop() == 0
            quorum.start()
            late = PartitionlessBroker(2, quorum.addresses)
            await late.start()
            assert len(late.image.topics) == 40
            await until(lambda: BrokerId(2) in broker.image.brokers)
            assert late.image.topics == broker.image.topics
            await late.stop()

    with ControllerProcesses(tmp_path, 3, metadata_snapshot_entries_max="10") as quorum:
        asyncio.run(main(quorum))
        assert any(
            (node.data_folder / "snapshot").exists() or "metadata_restored" in node.log() for node in quorum.nodes
        )


def test_a_wiped_controller_stays_out_until_it_is_readmitted(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 1) as (broker,):
            active = (await describe(broker)).active_controller_id
            wiped = quorum.nodes[(active + 1) % 3]
            wiped.kill()
            for path in wiped.data_folder.iterdir():
                path.unlink()
            wiped.start()
            wiped.wait_ready()
            await broker.create_topic("t", 1, 1)
            assert "data_folder_not_formatted" in wiped.log()
            wiped.stop()
            arguments = ["-m", "klamm.controller.format", "readmit", "--config", str(wiped.config_path)]
            readmit = await asyncio.create_subprocess_exec(sys.executable, *arguments)
            assert await readmit.wait() == 0
            wiped.start()
            wiped.wait_ready()

            link = ControllerLink("127.0.0.1", wiped.port)
            async with asyncio.timeout(20):
                while not (await link.stub.DescribeQuorum(DescribeQuorumRequest(), wait_for_ready=True)).voter:
                    await broker.create_topic("t", 1, 1)  # exists; something to commit
            await link.close()
            # With another one killed, nothing can be committed without it.
            quorum.nodes[3 - active - wiped.node_id].kill()
            assert (await broker.create_topic("u", 1, 1, timeout_ms=20_000)).error_code == 0

    with ControllerProcesses(tmp_path, 3) as quorum:
        asyncio.run(main(quorum))


def test_health_reflection_and_random_bytes(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> None:
        for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1_000):
            with socket.create_connection(quorum.addresses[0]) as connection:
                connection.sendall(junk)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{quorum.nodes[0].port}") as channel:
            for service in ("", "klamm.v1.Controller", "klamm.v1.Raft"):
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=service), timeout=5
                )
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with brokers(quorum, 1) as (broker,):
            assert (await broker.create_topic("t", 1, 1)).error_code == ErrorCode.NONE
        assert quorum.nodes[0].running

    with ControllerProcesses(tmp_path, 1) as quorum:
        asyncio.run(main(quorum))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("broker.session.timout.ms=1\n", "did you mean 'broker.session.timeout.ms'?"),
        ("num.partitions=none\n", "num.partitions=none: must be a whole number"),
    ],
)
def test_a_bad_configuration_ends_with_one_line_and_code_2(tmp_path: Path, change: str, complaint: str) -> None:
    quorum = ControllerProcesses(tmp_path, 1)
    quorum.release_ports()
    path = quorum.nodes[0].config_path
    path.write_text(path.read_text() + change)
    done = subprocess.run(
        [sys.executable, "-m", "klamm.controller", "--config", str(path)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with ControllerProcesses(tmp_path, 1) as quorum:
        other = tmp_path / "other.properties"
        text = quorum.nodes[0].config_path.read_text()
        other.write_text(text.replace(str(quorum.nodes[0].data_folder), str(tmp_path / "other")))
        done = subprocess.run(
            [sys.executable, "-m", "klamm.controller", "--config", str(other), "--new-quorum"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 2
        assert str(quorum.nodes[0].port) in done.stderr.splitlines()[-1]


def test_rule_25_a_corrupt_journal_stops_the_node_with_a_clear_error(tmp_path: Path) -> None:
    with ControllerProcesses(tmp_path, 1) as quorum:
        node = quorum.nodes[0]
        node.kill()
        journal = node.data_folder / "metadata.journal"
        data = bytearray(journal.read_bytes())
        data[HEADER_SIZE + 10] ^= 0x01  # in the first entry
        journal.write_bytes(data)
        node.start()
        assert node.process is not None
        assert node.process.wait(20) == 2
        assert str(journal) in node.log()
        assert "Traceback" not in node.log()


def test_a_controller_whose_disk_is_full_stops_and_the_others_go_on(tmp_path: Path) -> None:
    async def main(quorum: ControllerProcesses) -> int:
        async with brokers(quorum, 1) as (broker,):
            active = (await describe(broker)).active_controller_id
            process = quorum.nodes[active].process
            assert process is not None
            psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (100, 100))
            for number in range(5):
                response = await broker.create_topic(f"topic-{number}", 1, 1)
                assert response.create_topics.topics[0].error_code == 0
            await until(lambda: process.poll() is not None)
            assert await broker.follower.wait_for(response.metadata_end_offset, 5_000)
            assert len(broker.image.topics) == 5
            return active

    with ControllerProcesses(tmp_path, 3) as quorum:
        failed = quorum.nodes[asyncio.run(main(quorum))]
        assert failed.process is not None
        assert failed.process.returncode == 1
        failed.start()
        failed.wait_ready()


def test_an_idle_controller_is_small(tmp_path: Path) -> None:
    """How quiet it is, unit/controller/test_raft_idle.py counts, and `make bench` measures."""

    async def measure(quorum: ControllerProcesses) -> None:
        async with brokers(quorum, 3) as started:
            await describe(started[0])
            processes = [psutil.Process(node.process.pid) for node in quorum.nodes if node.process is not None]
            sizes = [process.memory_info().rss / 2**20 for process in processes]
            assert len(sizes) == 3
            assert max(sizes) < 60, f"{[round(size) for size in sizes]} MiB"

    with ControllerProcesses(tmp_path, 3) as quorum:
        asyncio.run(measure(quorum))
        assert all(node.running for node in quorum.nodes)
