"""Producer ids for this broker's clients, from blocks that the controller hands out once only (KIP-730)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Final, Protocol

from ..proto.command_pb2 import AllocateProducerIdsCommand, Command, CommandResponse
from ..proto.errors import error_for
from ..proto.identifiers import BrokerEpoch, BrokerId, ProducerEpoch, ProducerId

PRODUCER_EPOCH_MAX: Final = 32_767
_TIMEOUT_MS: Final = 10_000


class CommandSubmitter(Protocol):
    """The way to the controllers (`controller_client.ControllerClient`)."""

    async def submit(self, command: Command, *, timeout_ms: int) -> CommandResponse: ...


class ProducerIds:
    """Hands out ids one by one and asks for the next block when the last id is gone.

    A block that was asked for and never used up (the broker stopped) is lost; ids are 63 bits wide.
    """

    def __init__(
        self, broker_id: BrokerId, broker_epoch: Callable[[], BrokerEpoch], controller: CommandSubmitter
    ) -> None:
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._controller = controller
        self._next = 0
        self._end = 0
        self._lock = asyncio.Lock()  # one block at a time, however many clients wait

    async def next_id(self) -> ProducerId:
        """An id that no other producer has. :raises KafkaError: the controller could not be asked."""
        async with self._lock:
            if self._next >= self._end:
                await self._take_block()
            self._next += 1
            return ProducerId(self._next - 1)

    async def init(self, producer_id: int, producer_epoch: int) -> tuple[ProducerId, ProducerEpoch]:
        """A new id with epoch 0, or the same id with the next epoch for one that has an id already (KIP-360)."""
        if producer_id >= 0 and 0 <= producer_epoch < PRODUCER_EPOCH_MAX:
            return ProducerId(producer_id), ProducerEpoch(producer_epoch + 1)
        return await self.next_id(), ProducerEpoch(0)

    async def _take_block(self) -> None:
        request = AllocateProducerIdsCommand(broker_id=self._broker_id, broker_epoch=self._broker_epoch())
        command = Command(request_id=uuid.uuid4().bytes, allocate_producer_ids=request)
        response = await self._controller.submit(command, timeout_ms=_TIMEOUT_MS)
        if response.error_code:
            raise error_for(response.error_code, response.error_message)
        block = response.allocate_producer_ids
        self._next, self._end = block.producer_id_start, block.producer_id_start + block.producer_id_len
