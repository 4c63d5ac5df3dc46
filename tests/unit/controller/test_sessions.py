"""Heartbeats, silence and broken streams, by the clock of the test."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from harness.metadata_cluster import MetadataCluster, cluster_of
from klamm.controller.sessions import (
    BrokerSessions,
    HeartbeatAnswer,
    Proposal,
    ProposeControlledShutdown,
    ProposeFence,
    ProposeUnfence,
)
from klamm.proto import command_pb2 as pb
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerEpoch, BrokerId, MetadataOffset


@dataclass
class Controller:
    """An active controller's sessions over a state machine; time stands still unless told to move."""

    cluster: MetadataCluster
    now_ms: int = 10_000
    sessions: BrokerSessions = field(
        default_factory=lambda: BrokerSessions(session_timeout_ms=2000, crash_grace_ms=250)
    )

    def __post_init__(self) -> None:
        self.sessions.became_active(self.cluster.image, self.now_ms)

    def changed(self) -> None:
        self.sessions.image_changed(self.cluster.image, self.now_ms)

    def register(self, broker: int) -> None:
        assert not self.cluster.register(broker).error_code
        self.changed()

    def heartbeat(
        self,
        broker: int,
        *,
        seen: int | None = None,
        shutdown: bool = False,
        fence: bool = False,
        epoch: int | None = None,
    ) -> HeartbeatAnswer:
        known = self.cluster.image.brokers.get(BrokerId(broker))
        current = 0 if known is None else known.broker_epoch
        return self.sessions.heartbeat(
            BrokerId(broker),
            BrokerEpoch(current if epoch is None else epoch),
            MetadataOffset(self.cluster.image.end_offset if seen is None else seen),
            shutdown,
            fence,
            self.now_ms,
        )

    def wait(self, milliseconds: int) -> list[Proposal]:
        """Ticks as often as it must."""
        proposals = []
        end_ms = self.now_ms + milliseconds
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, self.now_ms + self.sessions.tick_interval_ms)
            proposals += self.sessions.tick(self.now_ms)
        return proposals

    def tick(self) -> list[Proposal]:
        return self.sessions.tick(self.now_ms)

    def epoch(self, broker: int) -> BrokerEpoch:
        return BrokerEpoch(self.cluster.epoch(broker))

    def break_stream(self, broker: int, epoch: int | None = None) -> None:
        number = self.epoch(broker) if epoch is None else BrokerEpoch(epoch)
        self.sessions.stream_broken(BrokerId(broker), number, self.now_ms)

    def alive(self, broker: int) -> bool:
        return self.sessions.is_alive(BrokerId(broker), self.now_ms)

    def reason(self, proposals: list[Proposal], broker: int) -> str:
        (proposal,) = proposals
        assert isinstance(proposal, ProposeFence)
        assert (proposal.broker_id, proposal.broker_epoch) == (broker, self.epoch(broker))
        return proposal.reason


def test_silence_for_the_session_time_out_fences() -> None:
    controller = Controller(cluster_of(1, 2))
    controller.heartbeat(1)
    controller.wait(1500)
    controller.heartbeat(2)
    assert controller.wait(499) == []
    assert controller.alive(1)
    assert "no heartbeat for 20" in controller.reason(controller.wait(30), 1)
    assert not controller.alive(1)
    assert controller.alive(2)


def test_a_broken_stream_fences_after_a_short_grace() -> None:
    controller = Controller(cluster_of(1))
    controller.heartbeat(1)
    controller.break_stream(1)
    assert controller.wait(240) == []
    assert controller.alive(1)
    assert controller.reason(controller.wait(20), 1) == "its stream broke"
    assert not controller.alive(1)


def test_a_stream_that_comes_back_in_time_is_forgiven() -> None:
    controller = Controller(cluster_of(1))
    controller.heartbeat(1)
    controller.break_stream(1)
    controller.wait(200)
    controller.heartbeat(1)
    assert controller.wait(1500) == []


def test_the_broken_stream_of_an_earlier_registration_says_nothing() -> None:
    controller = Controller(cluster_of(1))
    old = controller.epoch(1)
    controller.register(1)
    controller.break_stream(1, old)
    controller.wait(1000)
    assert controller.alive(1)


def test_a_new_controller_gives_every_unfenced_broker_a_full_time_out() -> None:
    cluster = cluster_of(1, 2)
    cluster.fence(2)
    controller = Controller(cluster)
    assert controller.alive(1)
    assert not controller.alive(2)
    assert controller.wait(1990) == []
    assert "no heartbeat" in controller.reason(controller.wait(20), 1)


def test_one_proposal_at_a_time_and_again_if_it_does_not_take() -> None:
    controller = Controller(cluster_of(1))
    assert len(controller.wait(2000)) == 1
    assert controller.wait(990) == []
    assert len(controller.wait(20)) == 1
    controller.sessions.proposal_failed(BrokerId(1), controller.now_ms)
    assert controller.wait(90) == []
    assert len(controller.wait(20)) == 1
    controller.cluster.fence(1)
    controller.changed()
    assert controller.wait(5000) == []


def test_rule_20_a_broker_is_unfenced_once_it_has_replayed_its_own_registration() -> None:
    controller = Controller(cluster_of())
    controller.register(1)
    epoch = controller.epoch(1)
    answer = controller.heartbeat(1, seen=epoch)
    assert (answer.is_fenced, answer.is_caught_up) == (True, False)
    assert controller.tick() == []
    answer = controller.heartbeat(1, seen=epoch + 1)
    assert (answer.is_fenced, answer.is_caught_up) == (True, True)
    assert controller.tick() == [ProposeUnfence(BrokerId(1), epoch)]
    assert controller.tick() == []
    controller.cluster.unfence(1)
    controller.changed()
    assert not controller.heartbeat(1).is_fenced
    assert controller.tick() == []


def test_who_wants_to_be_fenced_is_not_unfenced_and_is_fenced() -> None:
    controller = Controller(cluster_of(1))
    controller.heartbeat(1, fence=True)
    assert controller.reason(controller.tick(), 1) == "it asks for it"
    controller.cluster.fence(1)
    controller.changed()
    controller.heartbeat(1, fence=True)
    assert controller.tick() == []
    controller.heartbeat(1)
    assert controller.tick() == [ProposeUnfence(BrokerId(1), controller.epoch(1))]


def test_a_silent_fenced_broker_is_not_unfenced() -> None:
    controller = Controller(cluster_of())
    controller.register(1)
    controller.heartbeat(1, fence=True)
    controller.wait(2000)
    assert not controller.alive(1)
    assert controller.wait(2000) == []


@pytest.mark.parametrize(
    ("broker", "epoch", "error"),
    [(9, None, ErrorCode.BROKER_ID_NOT_REGISTERED), (1, 999, ErrorCode.STALE_BROKER_EPOCH)],
)
def test_rule_11_heartbeats_of_the_unknown_and_the_stale(broker: int, epoch: int | None, error: ErrorCode) -> None:
    controller = Controller(cluster_of(1))
    assert controller.heartbeat(broker, epoch=epoch).error_code is error
    controller.sessions.resigned()
    assert controller.heartbeat(1).error_code is ErrorCode.NOT_CONTROLLER
    assert controller.tick() == []
    assert not controller.alive(1)
    controller.changed()
    assert not controller.sessions.active


def test_a_registration_is_a_sign_of_life() -> None:
    controller = Controller(cluster_of())
    assert not controller.alive(1)
    controller.register(1)
    assert controller.alive(1)
    controller.wait(2000)
    assert not controller.alive(1)


def test_an_unregistered_broker_has_no_session() -> None:
    controller = Controller(cluster_of(1))
    controller.cluster.fence(1)
    controller.cluster.run(unregister_broker=pb.UnregisterBrokerCommand(broker_id=1))
    controller.changed()
    assert not controller.alive(1)
    assert controller.heartbeat(1).error_code is ErrorCode.BROKER_ID_NOT_REGISTERED


def test_rule_26_a_broker_shuts_down_when_every_other_has_seen_its_leaderships_move() -> None:
    controller = Controller(cluster_of(1, 2, 3))
    cluster = controller.cluster
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    controller.changed()
    for broker in (1, 2, 3):
        controller.heartbeat(broker)
    before = cluster.image.end_offset
    assert not controller.heartbeat(1, shutdown=True).should_shut_down
    assert controller.tick() == [ProposeControlledShutdown(BrokerId(1), controller.epoch(1))]
    cluster.shut_down(1)
    controller.changed()
    assert not controller.heartbeat(1, shutdown=True).should_shut_down
    controller.heartbeat(2)
    controller.heartbeat(3, seen=before)
    assert not controller.heartbeat(1, shutdown=True).should_shut_down
    controller.heartbeat(3)
    assert controller.sessions.answer(BrokerId(1), controller.epoch(1)).should_shut_down
    assert controller.tick() == []
    controller.break_stream(1)
    assert controller.reason(controller.tick(), 1) == "its stream broke"


def test_rule_26_it_waits_for_a_replica_that_may_still_catch_up_and_for_no_other() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]])
    cluster.create_topic("alone", assignments=[[1]])
    cluster.alter_isr("a", 0, [1])
    controller = Controller(cluster)
    cluster.shut_down(1)
    controller.changed()
    controller.heartbeat(2)
    assert not controller.heartbeat(1, shutdown=True).should_shut_down
    cluster.alter_isr("a", 0, [1, 2])
    controller.changed()
    controller.heartbeat(2)
    assert controller.heartbeat(1, shutdown=True).should_shut_down


def test_a_fenced_broker_may_shut_down_at_once() -> None:
    cluster = cluster_of(1)
    cluster.fence(1)
    controller = Controller(cluster)
    assert controller.heartbeat(1, shutdown=True).should_shut_down
    assert controller.tick() == []


def test_brokers_do_not_pay_for_a_controller_that_stood_still() -> None:
    controller = Controller(cluster_of(1, 2))
    controller.heartbeat(1)
    controller.heartbeat(2)
    controller.wait(500)
    controller.now_ms += 60_000
    assert controller.tick() == []
    assert controller.wait(1400) == []
    controller.heartbeat(2)
    assert "no heartbeat" in controller.reason(controller.wait(600), 1)


def test_rule_28_time_is_monotonic_and_an_old_reading_does_no_harm() -> None:
    controller = Controller(cluster_of(1))
    controller.heartbeat(1)
    assert controller.sessions.tick(controller.now_ms - 5000) == []
    assert controller.alive(1)
