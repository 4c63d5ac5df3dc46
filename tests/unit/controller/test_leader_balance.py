"""Preferred leaders get their partitions back when they are fit for it, and never else."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from klamm.cluster.image import MetadataImage
from klamm.controller.leader_balance import balance_once, imbalanced
from klamm.proto.command_pb2 import ELECTION_PREFERRED, Command, CommandResponse
from klamm.proto.metadata_pb2 import (
    BrokerRegistrationChangeRecord,
    Endpoint,
    MetadataRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    TopicRecord,
)

TOPIC_ID = UUID(int=3)


def image(*, leader: int, isr: tuple[int, ...], alive: tuple[int, ...] = (1, 2), partitions: int = 1) -> MetadataImage:
    records = [MetadataRecord(topic=TopicRecord(name="t", topic_id=TOPIC_ID.bytes))]
    for number in (1, 2):
        registration = RegisterBrokerRecord(
            broker_id=number,
            incarnation_id=bytes(16),
            broker_epoch=number,
            endpoints=[Endpoint(name="GRPC", host="h", port=1)],
            fenced=True,
            log_dir_id=bytes([number]) * 16,
        )
        records.append(MetadataRecord(register_broker=registration))
        if number in alive:
            change = BrokerRegistrationChangeRecord(broker_id=number, broker_epoch=number)
            records.append(MetadataRecord(broker_registration_change=change))
    for number in range(partitions):
        partition = PartitionRecord(
            topic_id=TOPIC_ID.bytes,
            partition=number,
            replicas=[1, 2],
            isr=isr,
            leader=leader,
            leader_epoch=4,
            partition_epoch=4,
            last_known_leader=-1,
        )
        records.append(MetadataRecord(partition=partition))
    return MetadataImage.empty().replay(records, len(records))


@pytest.mark.parametrize(
    ("leader", "isr", "alive", "expected"),
    [
        (2, (2, 1), (1, 2), [("t", 0)]),
        (1, (1, 2), (1, 2), []),
        (2, (2,), (1, 2), []),
        (2, (2, 1), (2,), []),
        (-1, (), (1, 2), []),
    ],
    ids=["fit", "leads already", "not in sync", "fenced", "nobody in sync"],
)
def test_what_is_out_of_balance(
    leader: int, isr: tuple[int, ...], alive: tuple[int, ...], expected: list[tuple[str, int]]
) -> None:
    assert imbalanced(image(leader=leader, isr=isr, alive=alive)) == expected


def test_one_look_takes_so_many_and_no_more() -> None:
    assert len(imbalanced(image(leader=2, isr=(2, 1), partitions=5), limit=3)) == 3


class Controller:
    def __init__(self, state: MetadataImage, *, active: bool) -> None:
        self.image = state
        self.is_active = active
        self.proposed: list[Command] = []

    async def propose(self, command: Command) -> CommandResponse:
        self.proposed.append(command)
        return CommandResponse()


def test_only_the_active_controller_elects() -> None:
    async def main() -> None:
        state = image(leader=2, isr=(2, 1))
        idle = Controller(state, active=False)
        assert await balance_once(idle) == 0
        assert idle.proposed == []
        active = Controller(state, active=True)
        assert await balance_once(active) == 1
        (command,) = active.proposed
        assert command.elect_leaders.election_type == ELECTION_PREFERRED
        assert [(entry.topic, entry.partition) for entry in command.elect_leaders.partitions] == [("t", 0)]
        balanced = Controller(image(leader=1, isr=(1, 2)), active=True)
        assert await balance_once(balanced) == 0
        assert balanced.proposed == []

    asyncio.run(main())
