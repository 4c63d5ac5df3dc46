"""A controller's turn at being active: when it takes commands, what it stamps, and what it says of their fate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from harness.fake_controllers import until
from harness.fake_raft import OUTCOME_UNKNOWN
from harness.one_controller import OneController, create_command, register_command
from klamm.controller.active_controller import PROPOSALS_MAX, TopicDefaults, new_cluster_id
from klamm.controller.raft_contract import COMMAND_BYTES_MAX
from klamm.proto.command_pb2 import (
    BecomeControllerCommand,
    Command,
    FenceBrokersCommand,
    FencedBroker,
    UnfenceBrokerCommand,
    UnregisterBrokerCommand,
)
from klamm.proto.controller_pb2 import BrokerHeartbeat
from klamm.proto.errors import ErrorCode


def run(test: Callable[[OneController], Awaitable[None]], node: Callable[[], OneController] = OneController) -> None:
    async def main() -> None:
        controller = node()
        try:
            await test(controller)
        finally:
            await controller.stop()

    asyncio.run(main())


async def activate(node: OneController) -> None:
    node.raft.lead()
    await until(lambda: node.controller.is_active)


def test_a_leader_is_active_once_its_epoch_is_committed() -> None:
    async def test(node: OneController) -> None:
        assert node.controller.active_id is None
        response = await node.submit(register_command())
        assert (response.error_code, response.active_controller_id) == (ErrorCode.NOT_CONTROLLER, -1)
        node.raft.lead()
        assert not node.controller.is_active
        await until(lambda: node.controller.is_active)
        assert node.machine.image.controller_epoch == 1
        assert node.machine.image.controller_id == 0
        assert len(node.machine.image.cluster_id or "") == 22

    run(test)


def test_an_unknown_outcome_of_becoming_active_is_tried_again_under_one_request_id() -> None:
    async def test(node: OneController) -> None:
        node.raft.fail_next = [OUTCOME_UNKNOWN, OUTCOME_UNKNOWN]
        node.raft.apply_before_failing = True
        await activate(node)
        assert len({command.request_id for command in node.raft.proposed}) == 1
        assert len(node.raft.proposed) == 3
        assert node.machine.log.end_offset == 2  # the cluster's id and the change of controller, once

    run(test)


def test_a_leadership_lost_while_becoming_active_leaves_it_inactive() -> None:
    async def test(node: OneController) -> None:
        node.raft.stuck = asyncio.Event()
        node.raft.lead()
        await asyncio.sleep(0)
        node.raft.follow(2)
        node.raft.stuck.set()
        await asyncio.sleep(0.01)
        assert not node.controller.is_active
        response = await node.submit(register_command())
        assert (response.error_code, response.active_controller_id) == (ErrorCode.NOT_CONTROLLER, 2)

    run(test)


def test_rule_11_a_command_of_an_epoch_that_is_over_is_refused() -> None:
    async def test(node: OneController) -> None:
        await activate(node)
        late = register_command()
        late.controller_epoch = 1
        node.raft.lead()  # term 2
        await until(lambda: node.machine.image.controller_epoch == 2)
        answer = node.machine.apply(late.SerializeToString(), 99, 2)
        assert b"is over" in answer
        assert not node.machine.image.brokers

    run(test)


@pytest.mark.parametrize(
    "command",
    [
        Command(become_controller=BecomeControllerCommand(controller_id=5, controller_epoch=9)),
        Command(fence_brokers=FenceBrokersCommand(brokers=[FencedBroker(broker_id=1)])),
        Command(unfence_broker=UnfenceBrokerCommand(broker_id=1)),
        Command(),
    ],
)
def test_what_only_controllers_may_say_is_refused_from_outside(command: Command) -> None:
    async def test(node: OneController) -> None:
        await activate(node)
        command.request_id = b"r" * 16
        proposed = len(node.raft.proposed)
        assert (await node.submit(command)).error_code == ErrorCode.INVALID_REQUEST
        assert len(node.raft.proposed) == proposed

    run(test)


def test_malformed_and_oversized_commands_are_refused_before_the_log() -> None:
    async def test(node: OneController) -> None:
        await activate(node)
        proposed = len(node.raft.proposed)
        assert (await node.submit(register_command(request=b""))).error_code == ErrorCode.INVALID_REQUEST
        for length in (COMMAND_BYTES_MAX, 3_000_000):  # the first one is too large with its stamps only
            large = create_command("x" * (length - 64))
            assert (await node.submit(large)).error_code == ErrorCode.INVALID_REQUEST
        assert len(node.raft.proposed) == proposed

    run(test)


def test_a_command_just_too_large_for_the_raft_log_is_an_answer_and_no_broken_call() -> None:
    """A call that breaks looks to a broker like a controller that died: it would drop its session and try for ever."""

    async def test(node: OneController) -> None:
        await activate(node)
        command = create_command()
        topics = command.create_topics.topics
        for number in range(4_900):
            topics.add(name=f"{number:0200}", num_partitions=1, replication_factor=1)
        assert COMMAND_BYTES_MAX - 50_000 < command.ByteSize() < COMMAND_BYTES_MAX  # without the topics' ids
        assert (await node.submit(command)).error_code == ErrorCode.INVALID_REQUEST
        assert (await node.submit(create_command())).error_code == ErrorCode.NONE

    run(test)


def test_what_the_state_machine_may_not_choose_is_stamped() -> None:
    async def test(node: OneController) -> None:
        await activate(node)
        forged = register_command()
        forged.time_ms, forged.controller_epoch, forged.seed = 1, 77, 1
        forged.register_broker.previous_incarnation_alive = True
        assert (await node.submit(forged)).error_code == 0
        stamped = node.raft.proposed[-1]
        assert stamped.controller_epoch == 1
        assert stamped.time_ms > 1_600_000_000_000
        assert not stamped.register_broker.previous_incarnation_alive
        await node.submit(create_command())
        assert len(node.raft.proposed[-1].create_topics.topics[0].topic_id) == 16
        assert node.raft.proposed[-1].seed != stamped.seed

    run(test)


def test_the_files_topic_defaults_yield_to_the_clusters() -> None:
    async def test(node: OneController) -> None:
        await activate(node)
        await node.submit(create_command("a", b"a" * 16))
        topic = node.raft.proposed[-1].create_topics.topics[0]
        assert (topic.num_partitions, topic.replication_factor) == (4, -1)
        alter = Command(request_id=b"c" * 16)
        resource = alter.incremental_alter_configs.resources.add(resource_type=4, resource_name="")
        resource.configs.add(name="num.partitions", value="2")
        assert (await node.submit(alter)).incremental_alter_configs.resources[0].error_code == 0
        await node.submit(create_command("b", b"b" * 16))
        assert node.raft.proposed[-1].create_topics.topics[0].num_partitions == -1

    run(test, lambda: OneController(defaults=TopicDefaults(num_partitions=4)))


def test_rule_16_an_unknown_outcome_is_a_time_out_and_the_retry_gets_the_remembered_answer() -> None:
    async def test(node: OneController) -> None:
        await activate(node)
        node.raft.fail_next, node.raft.apply_before_failing = [OUTCOME_UNKNOWN], True
        first = await node.submit(register_command())
        assert first.error_code == ErrorCode.REQUEST_TIMED_OUT
        end_offset = node.machine.log.end_offset
        second = await node.submit(register_command())
        assert second.error_code == 0
        assert second.register_broker.broker_epoch == end_offset - 1
        assert node.machine.log.end_offset == end_offset

    run(test)


def test_commands_under_way_are_bounded() -> None:
    async def test(node: OneController) -> None:
        await activate(node)
        node.raft.stuck = asyncio.Event()
        command = Command(unregister_broker=UnregisterBrokerCommand(broker_id=9))
        tasks = []
        for number in range(PROPOSALS_MAX):
            command.request_id = number.to_bytes(16)
            tasks.append(asyncio.ensure_future(node.submit(Command.FromString(command.SerializeToString()))))
        await asyncio.sleep(0)
        command.request_id = b"x" * 16
        assert (await node.submit(command)).error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
        node.raft.stuck.set()
        await asyncio.gather(*tasks)
        assert (await node.submit(command)).error_code == ErrorCode.BROKER_ID_NOT_REGISTERED

    run(test)


def test_a_live_holder_of_the_id_is_named_by_its_session() -> None:
    async def test(node: OneController) -> None:
        await activate(node)
        epoch = (await node.submit(register_command())).register_broker.broker_epoch
        stream = node.sessions.open()
        reading = asyncio.ensure_future(node.sessions.read(stream, _one(epoch)))
        assert await stream.next_answer() is not None
        other = register_command(incarnation=b"j" * 16, request=b"s" * 16)
        assert (await node.submit(other)).error_code == ErrorCode.DUPLICATE_BROKER_REGISTRATION
        reading.cancel()

    run(test)


async def _one(epoch: int):  # type: ignore[no-untyped-def]
    yield BrokerHeartbeat(broker_id=1, broker_epoch=epoch)
    await asyncio.Event().wait()


def test_cluster_ids_are_as_kafka_makes_them() -> None:
    ids = {new_cluster_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(text) == 22 and text[0] != "-" for text in ids)
