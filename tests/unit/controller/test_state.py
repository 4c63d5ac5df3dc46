"""The state machine as a whole: total, deterministic, once for each request id, and back from its snapshot."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from harness.metadata_cluster import CLUSTER_ID, MetadataCluster, check_round_trips, cluster_of
from hypothesis import given
from hypothesis import strategies as st
from klamm.controller import state as module
from klamm.controller.limits import COMMAND_BYTES_MAX
from klamm.controller.result import ControllerResult
from klamm.controller.state import ControllerState, SnapshotError, apply
from klamm.proto import command_pb2 as pb
from klamm.proto.command_pb2 import Command
from klamm.proto.errors import ErrorCode


def busy_cluster() -> MetadataCluster:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", 6, 3, retention_ms="1000", segment_bytes="5000", flush_ms="7")
    cluster.create_topic("b", 2, 2)
    cluster.fence(2)
    cluster.configure(None, log_retention_ms="9")
    cluster.run(allocate_producer_ids=pb.AllocateProducerIdsCommand(broker_id=1, broker_epoch=cluster.epoch(1)))
    cluster.reassign("b", 0, [1, 3])
    return cluster


# --- controllers ---------------------------------------------------------------------------------------------------


def test_the_first_controller_names_the_cluster() -> None:
    cluster = MetadataCluster()
    assert cluster.become_controller(3, 1).error_code == 0
    assert (cluster.image.cluster_id, cluster.image.controller_id, cluster.image.controller_epoch) == (CLUSTER_ID, 1, 3)
    command = pb.BecomeControllerCommand(controller_id=2, controller_epoch=4, proposed_cluster_id="B" * 22)
    assert not cluster.run(become_controller=command).response.error_code
    assert (cluster.image.cluster_id, cluster.image.controller_id) == (CLUSTER_ID, 2)


@pytest.mark.parametrize("cluster_id", ["", "short", "A" * 21 + "/", "A" * 23])
def test_a_malformed_cluster_id_is_refused(cluster_id: str) -> None:
    cluster = MetadataCluster()
    command = pb.BecomeControllerCommand(controller_id=2, controller_epoch=4, proposed_cluster_id=cluster_id)
    assert cluster.run(become_controller=command).response.error_code == ErrorCode.INVALID_REQUEST


def test_rule_11_a_controller_of_an_older_epoch_is_refused() -> None:
    cluster = cluster_of(1)
    cluster.become_controller(5, 2)
    assert cluster.become_controller(5, 1).error_code == ErrorCode.NOT_CONTROLLER
    assert cluster.become_controller(4, 1).error_code == ErrorCode.NOT_CONTROLLER
    assert cluster.become_controller(5, 2).error_code == 0  # the same one, again
    cluster.controller_epoch = 4
    response = cluster.run(create_topics=pb.CreateTopicsCommand()).response
    assert (response.error_code, response.active_controller_id) == (ErrorCode.NOT_CONTROLLER, 2)


def test_before_the_first_controller_nothing_is_carried_out() -> None:
    response = MetadataCluster().run(create_topics=pb.CreateTopicsCommand()).response
    assert (response.error_code, response.active_controller_id) == (ErrorCode.NOT_CONTROLLER, -1)


# --- request ids ---------------------------------------------------------------------------------------------------


def test_a_command_sent_twice_is_carried_out_once() -> None:
    cluster = cluster_of(1)
    first = cluster.create_topic("a", 1, 1)
    command = cluster.last_command
    applied = cluster.send(command)
    assert applied.records == ()
    assert applied.response.create_topics.topics[0] == first
    assert list(cluster.image.topics) == ["a"]


def test_an_answer_outlives_the_controller_and_a_snapshot() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    command = cluster.last_command
    cluster.state = check_round_trips(cluster.state)
    cluster.become_controller(2)
    command.controller_epoch = 2
    assert cluster.send(command).response.create_topics.topics[0].error_code == 0


def test_not_controller_is_not_remembered() -> None:
    cluster = cluster_of(1)
    cluster.become_controller(2)
    cluster.controller_epoch = 1
    command_pb = pb.CreateTopicsCommand(topics=[pb.CreatableTopic(name="a", num_partitions=1, replication_factor=1)])
    assert cluster.run(create_topics=command_pb).response.error_code == ErrorCode.NOT_CONTROLLER
    command = cluster.last_command
    command.controller_epoch = 2
    assert cluster.send(command).response.create_topics.topics[0].error_code == 0
    assert list(cluster.image.topics) == ["a"]


def test_without_a_request_id_nothing_is_remembered() -> None:
    cluster = cluster_of(1)
    known = len(cluster.state.answers)
    cluster.send(Command(controller_epoch=1, delete_topics=pb.DeleteTopicsCommand()))
    assert len(cluster.state.answers) == known


# --- totality ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"\xff",
        b"garbage",
        Command(request_id=b"x").SerializeToString(),
        Command(request_id=b"x" * 65, create_topics=pb.CreateTopicsCommand()).SerializeToString(),
        b"\x0a" * (COMMAND_BYTES_MAX + 1),
    ],
)
def test_malformed_bytes_are_an_answer(command: bytes) -> None:
    state = cluster_of(1).state
    applied = apply(state, command)
    assert applied.response.error_code == ErrorCode.INVALID_REQUEST
    assert applied.state is state
    assert applied.records == ()


BUSY = busy_cluster()
LAST = BUSY.last_command.SerializeToString()


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer(command: bytes) -> None:
    applied = apply(BUSY.state, command)
    assert applied.response.metadata_end_offset == applied.state.image.end_offset
    assert applied.response.error_code != ErrorCode.UNKNOWN_SERVER_ERROR


@given(st.integers(0, len(LAST) - 1), st.integers(1, 255), st.integers(0, len(LAST)))
def test_a_damaged_command_is_an_answer(position: int, flip: int, length: int) -> None:
    damaged = bytearray(LAST)
    damaged[position] ^= flip
    assert apply(BUSY.state, bytes(damaged[:length])).response.error_code != ErrorCode.UNKNOWN_SERVER_ERROR


def test_a_bug_in_a_decision_is_an_answer_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(image: object, command: object) -> ControllerResult:
        raise ZeroDivisionError

    cluster = cluster_of(1)
    monkeypatch.setitem(module._DECIDE, "delete_topics", broken)
    command = Command(request_id=b"x", controller_epoch=1, delete_topics=pb.DeleteTopicsCommand())
    with caplog.at_level(logging.ERROR):
        applied = apply(cluster.state, command.SerializeToString())
    assert applied.response.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert applied.state is cluster.state
    assert "command_failed command=delete_topics" in caplog.text


def test_a_decision_against_the_rules_is_not_carried_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    record = cluster.partition("a").to_record()  # the partition epoch does not grow
    monkeypatch.setitem(
        module._DECIDE, "delete_topics", lambda image, command: ControllerResult((record,), pb.CommandResponse())
    )
    applied = apply(
        cluster.state, Command(controller_epoch=1, delete_topics=pb.DeleteTopicsCommand()).SerializeToString()
    )
    assert applied.response.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert applied.state is cluster.state


# --- determinism ---------------------------------------------------------------------------------------------------

REPLAY = """
import sys
from klamm.controller.state import ControllerState, apply
state = ControllerState.empty()
for line in sys.stdin:
    state = apply(state, bytes.fromhex(line)).state
print(state.snapshot().hex())
"""


def test_another_process_with_other_hashes_makes_the_same_state(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[bytes] = []
    send = MetadataCluster.send

    def recording(self: MetadataCluster, command: Command) -> object:
        commands.append(command.SerializeToString())
        return send(self, command)

    monkeypatch.setattr(MetadataCluster, "send", recording)
    cluster = busy_cluster()
    cluster.create_topic("c", 7, 2, **{f"{key}_ms": "5" for key in ("flush", "segment", "retention")})
    lines = "\n".join(command.hex() for command in commands)
    for hash_seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", REPLAY],
            input=lines,
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert bytes.fromhex(result.stdout.strip()) == cluster.state.snapshot()


# --- snapshots -----------------------------------------------------------------------------------------------------


def test_the_empty_and_the_busy_state_come_back() -> None:
    check_round_trips(ControllerState.empty())
    check_round_trips(BUSY.state)


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x08\x02", BUSY.state.snapshot()[:-1]])
def test_rule_25_a_damaged_snapshot_is_an_error(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        ControllerState.restore(data)


@given(st.binary(max_size=100))
def test_rule_25_other_bytes_are_no_snapshot(data: bytes) -> None:
    try:
        ControllerState.restore(data)
    except SnapshotError:
        return


# --- producer ids --------------------------------------------------------------------------------------------------


def test_blocks_of_producer_ids_never_overlap() -> None:
    cluster = cluster_of(1, 2)
    starts = []
    for broker in (1, 2, 1):
        command = pb.AllocateProducerIdsCommand(broker_id=broker, broker_epoch=cluster.epoch(broker))
        result = cluster.run(allocate_producer_ids=command).response.allocate_producer_ids
        starts.append((result.producer_id_start, result.producer_id_len))
    assert starts == [(0, 1000), (1000, 1000), (2000, 1000)]
    command = pb.AllocateProducerIdsCommand(broker_id=1, broker_epoch=99)
    assert cluster.run(allocate_producer_ids=command).response.error_code == ErrorCode.STALE_BROKER_EPOCH
    assert cluster.state.last_time_ms == 1_000 + cluster.count
