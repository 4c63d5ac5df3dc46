"""Gets producer ids from the cluster, one at a time, when the sender asks for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from ..proto.broker_pb2 import InitProducerIdRequest
from ..proto.errors import ErrorCode, KafkaError, error_for
from ..proto.identifiers import NONE_ID
from .cluster_client import ClusterClient

logger = logging.getLogger(__name__)

_ATTEMPT_MS: Final = 2000
"""Then another broker is asked: an id that is never used costs nothing."""


class ProducerIdSource:
    """The producer id that new partitions begin with; -1 until there is one."""

    def __init__(
        self,
        cluster: ClusterClient,
        *,
        timeout_ms: int,
        on_ready: Callable[[], None],
        on_refused: Callable[[KafkaError], None],
    ) -> None:
        self.producer_id = -1
        self._cluster = cluster
        self._timeout_ms = timeout_ms
        self._on_ready = on_ready
        self._on_refused = on_refused
        self._task: asyncio.Task[None] | None = None

    def request(self) -> None:
        """Asks for a new one, unless that is under way; `on_ready` is called after each try."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._ask())

    async def close(self) -> None:
        """Ends what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        request = InitProducerIdRequest(producer_id=NONE_ID, producer_epoch=NONE_ID)
        try:
            response = await self._cluster.call_any("InitProducerId", request, self._timeout_ms, attempt_ms=_ATTEMPT_MS)
            code = ErrorCode.of(response.error_code)
            if code is ErrorCode.NONE:
                self.producer_id = response.producer_id
            elif code.retriable:
                logger.info("init_producer_id_refused error=%s", code.name)
                await asyncio.sleep(0.05)
            else:
                raise error_for(code, response.error_message)
        except KafkaError as error:
            logger.warning("init_producer_id_failed error=%s", error)
            if not error.retriable:
                self._on_refused(error)
        self._task = None
        self._on_ready()
