"""What becomes of slow batches while the broker stops; the rest is in kafka/test_slow_produce.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from harness.record_batches import record_batch
from klamm.broker import batch_preparation
from klamm.broker.batch_preparation import PreparedBatch, UnpreparedBatch
from klamm.broker.partition_request import PartitionProduce, ProduceOutcome
from klamm.broker.slow_appends import Appended, Outcomes, SlowAppends, Wait
from klamm.cluster.topic_config import TopicConfig
from klamm.proto.errors import ErrorCode, KafkaError
from klamm.proto.identifiers import TopicId
from klamm.proto.record_batch import RecordBatchHeader, check_batch
from klamm.proto.record_compression import records_of

BATCH = bytes(record_batch())
GZIP = TopicConfig.resolve({"compression.type": "gzip"})
UNDECIDED = ProduceOutcome(ErrorCode.UNKNOWN_SERVER_ERROR)


class Desk:
    """In the replica manager's place: every batch must be prepared, and what is appended is noted."""

    def __init__(self) -> None:
        self.appended: list[int] = []

    def append_one(
        self, request: PartitionProduce, acks: int, prepared: PreparedBatch | None
    ) -> Appended | UnpreparedBatch:
        if prepared is None:
            return UnpreparedBatch(request.records, check_batch(bytes(request.records)), GZIP)
        self.appended.append(request.partition)
        return ProduceOutcome(ErrorCode.NONE), None, None

    def refusal(self, error: KafkaError) -> ProduceOutcome:
        return ProduceOutcome(error.error_code, str(error))

    def wait_for_isr(
        self, outcomes: Outcomes, waits: Sequence[Wait], timeout_ms: int, future: asyncio.Future[Outcomes]
    ) -> None:
        raise AssertionError("nothing waits for acks here")

    def topic_id_of(self, topic: str, partition: int) -> TopicId | None:
        return UUID(int=1)


class Codec:
    """Takes as long as it is held back."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def records_of(self, batch: bytes, header: RecordBatchHeader) -> bytes:
        self.begun.set()
        assert self.let_go.wait(30)
        return records_of(batch, header)


def test_rule_17_what_comes_while_the_broker_stops_is_refused_and_not_appended_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for the codec of another partition's batch; what comes meanwhile must not be appended behind its back:
    the client was told that this is no leader.
    """
    codec = Codec()
    monkeypatch.setattr(batch_preparation, "records_of", codec.records_of)
    desk = Desk()

    async def main() -> None:
        lost: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
        slow = SlowAppends(desk)

        def add(*partitions: int) -> asyncio.Future[Outcomes]:
            requests = [PartitionProduce("t", UUID(int=1), partition, None, BATCH) for partition in partitions]
            return slow.add(list(enumerate(requests)), [UNDECIDED] * len(requests), [], acks=1, timeout_ms=1_000)

        first = add(0)
        await asyncio.to_thread(codec.begun.wait, 30)
        stopping = asyncio.create_task(slow.shutdown())
        await asyncio.sleep(0)
        late = add(0, 1, 2)
        codec.let_go.set()
        await stopping
        later = add(3)
        for answer in (first, late, later):
            async with asyncio.timeout(30):
                outcomes = await answer
            assert {outcome.error for outcome in outcomes} == {ErrorCode.NOT_LEADER_OR_FOLLOWER}
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        assert (desk.appended, lost, slow.any) == ([], [], False)

    asyncio.run(main())
