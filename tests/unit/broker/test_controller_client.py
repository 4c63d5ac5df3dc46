"""The way to the active controller: finding it, retrying under one request id, moving on when it fails."""

from __future__ import annotations

import asyncio

import pytest
from harness.fake_controllers import FakeQuorum, until
from klamm.broker import controller_client
from klamm.broker.controller_client import ControllerClient, ControllerReplacedError
from klamm.broker.system_clock import SystemClock
from klamm.proto.command_pb2 import Command, CommandResponse, UnregisterBrokerCommand
from klamm.proto.errors import ErrorCode, NodeNotReadyError


def a_command() -> Command:
    return Command(unregister_broker=UnregisterBrokerCommand(broker_id=1))


def test_a_command_reaches_the_active_controller_from_any_bootstrap_address() -> None:
    async def main() -> None:
        async with FakeQuorum(3) as quorum:
            quorum.elect(2)
            client = ControllerClient(quorum.addresses[:1], SystemClock())
            quorum.on_command = lambda _: CommandResponse(metadata_end_offset=7)
            response = await client.submit(a_command(), timeout_ms=5_000)
            assert (response.error_code, response.metadata_end_offset) == (0, 7)
            assert len(quorum.commands[0].request_id) == 16
            assert (await client.active()).controller_id == 2
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize("code", [ErrorCode.NOT_CONTROLLER, ErrorCode.REQUEST_TIMED_OUT])
def test_rule_16_a_command_of_unknown_outcome_is_sent_again_under_its_request_id(code: ErrorCode) -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum:
            client = ControllerClient(quorum.addresses, SystemClock())
            quorum.on_command = lambda _: code if len(quorum.commands) < 4 else CommandResponse()
            response = await client.submit(a_command(), timeout_ms=10_000)
            assert response.error_code == 0
            assert len(quorum.commands) == 4
            assert len({command.request_id for command in quorum.commands}) == 1
            await client.close()

    asyncio.run(main())


def test_an_answer_that_is_an_error_is_not_retried() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum:
            client = ControllerClient(quorum.addresses, SystemClock())
            quorum.on_command = lambda _: ErrorCode.INVALID_REQUEST
            response = await client.submit(a_command(), timeout_ms=5_000)
            assert response.error_code == ErrorCode.INVALID_REQUEST
            assert len(quorum.commands) == 1
            await client.close()

    asyncio.run(main())


def test_one_call_that_failed_does_not_break_off_what_hangs_on_the_controller() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum:
            client = ControllerClient(quorum.addresses, SystemClock())
            before = await client.active()
            session = asyncio.create_task(client.while_active(before, asyncio.Event().wait()))

            def failing_once(_: Command) -> CommandResponse:
                if len(quorum.commands) == 1:
                    raise ValueError("this one call fails with status UNKNOWN")
                return CommandResponse()

            quorum.on_command = failing_once
            assert (await client.submit(a_command(), timeout_ms=10_000)).error_code == 0
            assert len({command.request_id for command in quorum.commands}) == 1
            assert await client.active() is before
            assert not session.done()
            session.cancel()
            await client.close()

    asyncio.run(main())


def test_a_killed_controller_is_left_for_the_next_one_before_any_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_client, "ATTEMPT_TIMEOUT_MS", 600_000)

    async def main() -> None:
        async with FakeQuorum(3) as quorum:
            client = ControllerClient(quorum.addresses, SystemClock())
            await client.submit(a_command(), timeout_ms=5_000)
            await quorum.nodes[0].kill()
            quorum.elect(1)
            async with asyncio.timeout(20):
                assert (await client.submit(a_command(), timeout_ms=600_000)).error_code == 0
            assert (await client.active()).controller_id == 1
            await client.close()

    asyncio.run(main())


def test_a_command_under_way_at_a_hung_controller_moves_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_client, "ATTEMPT_TIMEOUT_MS", 600_000)

    async def main() -> None:
        async with FakeQuorum(3) as quorum:
            client = ControllerClient(quorum.addresses, SystemClock())
            active = await client.active()
            quorum.nodes[0].hung = True
            submitted = asyncio.ensure_future(client.submit(a_command(), timeout_ms=600_000))
            await until(lambda: quorum.nodes[0].hanging)
            quorum.elect(2)
            client.report_failure(active, "another part noticed")
            async with asyncio.timeout(20):
                assert (await submitted).error_code == 0
            quorum.nodes[0].hung = False
            quorum.elect(2)
            await client.close()

    asyncio.run(main())


def test_while_active_stops_work_when_the_controller_is_replaced() -> None:
    async def main() -> None:
        async with FakeQuorum(2) as quorum:
            client = ControllerClient(quorum.addresses, SystemClock())
            active = await client.active()
            work = asyncio.ensure_future(client.while_active(active, asyncio.sleep(60)))
            await asyncio.sleep(0)
            client.report_failure(active, "test")
            with pytest.raises(ControllerReplacedError):
                await work
            again = await client.active()
            assert await client.while_active(again, asyncio.sleep(0, "result")) == "result"
            with pytest.raises(ControllerReplacedError):
                await client.while_active(active, asyncio.sleep(60))
            await client.close()

    asyncio.run(main())


def test_no_controller_within_the_time_out_is_said_with_the_addresses() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum:
            quorum.elect(None)
            client = ControllerClient(quorum.addresses, SystemClock())
            response = await client.submit(a_command(), timeout_ms=150)
            assert response.error_code == ErrorCode.REQUEST_TIMED_OUT
            assert str(quorum.nodes[0].port) in response.error_message
            with pytest.raises(NodeNotReadyError, match=r"127\.0\.0\.1"):
                await client.active(timeout_ms=50)
            await client.close()

    asyncio.run(main())


def test_controllers_that_come_back_are_found_again() -> None:
    async def main() -> None:
        async with FakeQuorum(1) as quorum:
            client = ControllerClient(quorum.addresses, SystemClock())
            active = await client.active()
            await quorum.nodes[0].kill()
            client.report_failure(active, "killed")
            assert await client.describe_quorum(timeout_ms=200) is None
            await quorum.nodes[0].start()
            await client.active(timeout_ms=10_000)
            answer = await client.describe_quorum()
            assert answer is not None
            assert answer.controller_id == 0
            await client.close()

    asyncio.run(main())
