"""The real log under a coordinator, where it differs from the model that the other tests stand on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.kafka_listener import OneBroker
from klamm.broker.groups.group import GroupRecord
from klamm.broker.groups.group_log import PartitionGroupLog, ReplicaGroupLogs
from klamm.broker.groups.offsets_topic import OFFSETS_TOPIC
from klamm.broker.system_clock import SystemClock
from klamm.proto.errors import KafkaStorageError


def test_rule_27_a_log_that_cannot_be_loaded_takes_the_leadership_away(tmp_path: Path) -> None:
    async def main() -> None:
        broker = OneBroker(tmp_path)
        await broker.create_topic(OFFSETS_TOPIC)
        partition = broker.replica_manager.get(OFFSETS_TOPIC, 0)
        assert partition is not None and partition.leader_epoch is not None
        log = ReplicaGroupLogs(broker.replica_manager, SystemClock()).open(
            partition.topic_id_partition.topic_id, 0, partition.leader_epoch
        )
        assert isinstance(log, PartitionGroupLog)
        log.append([GroupRecord(b"\x00\x63k", b"v")], 1_000)
        assert [record.value for records in [each async for each in log.read(1_024)] for record in records] == [b"v"]

        def fails(*_: Any, **__: Any) -> bytes:
            raise KafkaStorageError("the disk is gone")

        partition.log.read = fails  # type: ignore[method-assign]
        with pytest.raises(KafkaStorageError):
            _ = [each async for each in log.read(1_024)]
        assert partition.failing
        assert not log.leads()
        await broker.stop()

    asyncio.run(main())
