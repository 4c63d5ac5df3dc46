"""Faults of kafka-python's that its callers here step around: shown, so that a release without them is noticed."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from harness.kafka_clients import forget_committed
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.coordinator.consumer import ConsumerCoordinator  # type: ignore[import-untyped]
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]


class LateAnswer:
    """An OffsetFetch under way."""

    def __init__(self) -> None:
        self.is_done = False
        self.value: dict[TopicPartition, int] = {}

    def succeeded(self) -> bool:
        return self.is_done

    def retriable(self) -> bool:
        return True


class Requests:
    """Stands for the connection: notes what is asked, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[LateAnswer] = []

    def call_soon(self, _: Any, __: Any) -> LateAnswer:
        self.asked.append(LateAnswer())
        return self.asked[-1]

    async def wait_for(self, answer: LateAnswer, _: float) -> None:
        if not answer.is_done:
            raise KafkaTimeoutError

    async def sleep(self, _: float) -> None:
        await asyncio.sleep(0)


async def _found(timeout_ms: float | None = None) -> bool:
    return True


@pytest.mark.parametrize(("forgets", "requests"), [(False, 1), (True, 2)])
def test_an_old_answer_counts_for_a_later_assignment_unless_it_is_forgotten(forgets: bool, requests: int) -> None:
    made = Requests()
    coordinator = ConsumerCoordinator.__new__(ConsumerCoordinator)
    coordinator._offset_fetch_futures = {}
    coordinator._manager = coordinator._net = made
    coordinator.config = {"retry_backoff_ms": 1}
    coordinator.ensure_coordinator_ready_async = _found
    partitions = {TopicPartition("orders", 2)}

    async def main() -> None:
        with pytest.raises(KafkaTimeoutError):
            await coordinator.fetch_committed_offsets_async(partitions, timeout_ms=0)
        made.asked[0].is_done = True  # nothing was committed, then
        if forgets:
            forget_committed(SimpleNamespace(_coordinator=coordinator))
        with pytest.raises(KafkaTimeoutError) if forgets else nullcontext():
            assert await coordinator.fetch_committed_offsets_async(partitions, timeout_ms=0) == {}

    asyncio.run(main())
    assert len(made.asked) == requests
