"""The wall clock set back an hour, and forward two, under a broker's logs and a controller's state: rule 28."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest
from harness.fake_clock import FakeClock
from harness.record_batches import record_batch
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.log_manager import LogManager
from klamm.broker.log.partition_log import PartitionLog
from klamm.controller.state import ControllerState, apply
from klamm.proto.command_pb2 import (
    BecomeControllerCommand,
    Command,
    CommandResponse,
    CreatableTopic,
    RegisterBrokerCommand,
    UnfenceBrokerCommand,
)
from klamm.proto.identifiers import BrokerId, LeaderEpoch, Offset, TopicIdPartition
from klamm.proto.metadata_pb2 import Endpoint
from klamm.proto.record_batch import batches

TOPIC_ID = UUID(int=9)
HOUR_MS = 3_600_000
CONFIG = LogConfig(segment_bytes=1_000, index_interval_bytes=100, retention_ms=2 * HOUR_MS, segment_ms=7 * 24 * HOUR_MS)


def _open(folder: Path, clock: FakeClock) -> tuple[LogManager, PartitionLog]:
    manager = LogManager.open(folder, node_id=BrokerId(1), clock=clock, log_config_of=lambda _: CONFIG)
    return manager, manager.create("t", TOPIC_ID, 0, CONFIG)


def _append(log: PartitionLog, clock: FakeClock, count: int) -> list[tuple[int, int]]:
    """Batches of one record that bear the broker's time; (offset, timestamp) of each."""
    placed = []
    for _ in range(count):
        clock.advance(10)
        appended = log.append_as_leader(
            record_batch([bytes(100)]), leader_epoch=LeaderEpoch(1), now_ms=clock.wall_ms(), log_append_time=True
        )
        placed.append((int(appended.base_offset), clock.wall_ms()))
    return placed


def _content(log: PartitionLog) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        data = log.read(offset, max_bytes=500, end_offset=log.log_end_offset)
        for _, header in batches(data):
            found.append((header.base_offset, header.max_timestamp))
            offset = Offset(header.next_offset)
    return found


@pytest.mark.parametrize("clean", [True, False])
def test_rule_28_a_clock_set_back_an_hour_changes_no_order_and_loses_nothing(tmp_path: Path, clean: bool) -> None:
    async def main() -> None:
        clock = FakeClock()
        manager, log = _open(tmp_path, clock)
        key = TopicIdPartition(TOPIC_ID, 0)
        manager.start(lambda _: log.log_end_offset)
        placed = _append(log, clock, 12)
        clock.jump(-HOUR_MS)
        placed += _append(log, clock, 12)
        assert [offset for offset, _ in placed] == list(range(24))
        assert _content(log) == placed
        assert log.segment_count > 2
        assert manager.apply_retention() == 0
        # A look-up by time gives the first offset at or past it, whatever stands behind that.
        for offset, timestamp in (placed[3], placed[11]):
            assert log.offset_for_timestamp(timestamp) == (timestamp, offset)
        assert log.offset_for_timestamp(placed[0][1] - HOUR_MS) == (placed[0][1], 0)
        assert log.max_timestamp() == (placed[11][1], 11)
        await manager.shutdown(clean=clean)

        clock.jump(-HOUR_MS)
        manager, log = _open(tmp_path, clock)
        assert manager.get(key) is log
        assert _content(log) == placed
        placed += _append(log, clock, 3)
        # Forward again, past the retention time of all but the newest: time-outs and retention follow the clock.
        clock.jump(4 * HOUR_MS)
        placed += _append(log, clock, 3)
        assert [offset for offset, _ in placed] == list(range(30))
        manager.start(lambda _: log.log_end_offset)
        assert manager.apply_retention() > 0
        assert _content(log) == placed[log.log_start_offset :]
        assert log.log_end_offset == 30
        await manager.shutdown()

    asyncio.run(main())


def _apply(state: ControllerState, command: Command, time_ms: int) -> tuple[ControllerState, CommandResponse]:
    command.time_ms = time_ms
    applied = apply(state, command.SerializeToString())
    return applied.state, applied.response


def test_rule_28_a_controller_whose_clock_was_set_back_goes_on_where_it_was() -> None:
    now_ms = 1_700_000_000_000
    become = BecomeControllerCommand(controller_id=1, controller_epoch=1, proposed_cluster_id="c" * 22)
    state, _ = _apply(ControllerState.empty(), Command(controller_epoch=1, become_controller=become), now_ms)
    register = RegisterBrokerCommand(
        broker_id=1,
        incarnation_id=bytes(16),
        previous_broker_epoch=-1,
        log_dir_id=bytes(16),
        endpoints=[Endpoint(name="GRPC", host="127.0.0.1", port=1)],
    )
    state, response = _apply(state, Command(controller_epoch=1, register_broker=register), now_ms)
    unfence = UnfenceBrokerCommand(broker_id=1, broker_epoch=response.register_broker.broker_epoch)
    state, response = _apply(state, Command(controller_epoch=1, unfence_broker=unfence), now_ms)
    assert response.error_code == 0
    for number, time_ms in enumerate((now_ms + 1, now_ms - HOUR_MS, now_ms - 2 * HOUR_MS, 0)):
        before = state
        create = Command(controller_epoch=1, request_id=b"%d" % number)
        create.create_topics.topics.append(CreatableTopic(name=f"t{number}", num_partitions=1, replication_factor=1))
        state, response = _apply(state, create, time_ms)
        assert response.create_topics.topics[0].error_code == 0
        assert state.image.topics[f"t{number}"].partitions[0].leader == 1
        assert state.last_time_ms >= before.last_time_ms, "time never falls in the state"
        assert state.image.end_offset >= before.image.end_offset
        assert state.image.controller_epoch == 1
        # Sent again under yet another time, it gets its first answer.
        again, answer = _apply(state, create, time_ms - 1)
        assert answer == response
        assert again.image == state.image
