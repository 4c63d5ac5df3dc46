"""What a follower sends back to its leader besides its positions."""

from __future__ import annotations

from random import Random

from harness.keyed_logs import CleanedDisk
from klamm.broker.replication.follower_session import FollowerSession
from klamm.proto.identifiers import BrokerEpoch, BrokerId
from klamm.proto.replication_pb2 import ReplicaFetchResponse
from unit.broker.test_compacted_follower import answer, follower_of, image


def test_rule_11_a_round_is_sent_back_to_the_leader_of_that_epoch_alone() -> None:
    partition = follower_of(CleanedDisk(), 1)
    session = FollowerSession(BrokerId(1), BrokerId(2), Random(1))
    session.partitions[partition.key] = partition

    def sent_back() -> int:
        [position] = session.request(BrokerEpoch(7), [partition.key]).positions
        return position.confirmed_round

    def told(number: int, leader_epoch: int) -> None:
        data = answer(partition)
        data.leader_epoch, data.confirm_round = leader_epoch, number
        data.topic_id, data.partition = partition.key
        session.receive(ReplicaFetchResponse(partitions=[data]))

    assert sent_back() == 0
    told(3, 1)
    assert sent_back() == 3
    told(0, 1)
    assert sent_back() == 3
    told(5, 2)
    assert sent_back() == 3, "of an epoch that it does not know"
    assert partition.follow(image(leader=2, isr=(2,), epoch=2))
    assert sent_back() == 0
