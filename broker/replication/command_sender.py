"""Sends what replicas want of the controllers: many in one command, one command at a time, until it is answered.

A command is sent again as the very same bytes under the same request id, so that all attempts have one outcome: no
attempt that was thought lost can be carried out after another was refused (rule 9). What is wanted meanwhile goes into
the next command.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from random import Random
from typing import Final, Generic, Protocol, TypeVar

from ...proto.command_pb2 import Command, CommandResponse
from ...proto.errors import ErrorCode
from ...proto.identifiers import BrokerEpoch

T = TypeVar("T", bound=Hashable)

logger = logging.getLogger(__name__)

Submit = Callable[[Command], Awaitable[CommandResponse]]

_REPLICAS_MAX: Final = 1_000
_RETRY_MS: Final = 20
_RETRY_MS_MAX: Final = 1_000


class CommandKind(Protocol[T]):
    """What is to be said of a replica, and what the answer means."""

    def build(self, replicas: Sequence[T], broker_epoch: BrokerEpoch) -> tuple[Command, list[object]]:
        """A command for those that still want one, without a request id; and what to hand to `answered`."""

    def answered(self, asked: list[object], response: CommandResponse) -> list[T]:
        """Takes the answer in; returns those that must ask again."""


class CommandSender(Generic[T]):
    """One for each kind of command."""

    def __init__(
        self, kind: CommandKind[T], *, submit: Submit, broker_epoch: Callable[[], BrokerEpoch], random: Random
    ) -> None:
        self._kind = kind
        self._submit = submit
        self._broker_epoch = broker_epoch
        self._random = random
        self._wanted: dict[T, None] = {}
        self._wake = asyncio.Event()

    def want(self, replica: T) -> None:
        """Something about this replica is to be sent; what exactly is asked when the command is built."""
        self._wanted[replica] = None
        self._wake.set()

    async def run(self) -> None:
        """Sends until cancelled."""
        retry_ms = _RETRY_MS
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                if await self._send_some():
                    retry_ms = _RETRY_MS
                else:
                    await self._pause(retry_ms)
                    retry_ms = min(retry_ms * 2, _RETRY_MS_MAX)

    async def _send_some(self) -> bool:
        """One command; False if some of it must be asked again, after a pause."""
        replicas = list(self._wanted)[:_REPLICAS_MAX]
        for replica in replicas:
            del self._wanted[replica]
        broker_epoch = self._broker_epoch()
        command, asked = self._kind.build(replicas, broker_epoch)
        if not asked:
            return True
        command.request_id = self._random.randbytes(16)
        response = await self._submit_until_answered(command, broker_epoch)
        if response is None:
            again = replicas
        elif response.error_code:
            logger.warning(
                "command_refused kind=%s error=%s message=%s",
                command.WhichOneof("command"),
                ErrorCode.of(response.error_code).name,
                response.error_message,
            )
            again = replicas
        else:
            again = self._kind.answered(asked, response)
        for replica in again:
            self._wanted[replica] = None
        return not again

    async def _submit_until_answered(self, command: Command, broker_epoch: BrokerEpoch) -> CommandResponse | None:
        """The answer; None once this broker is registered anew, which makes every attempt void (KIP-903)."""
        retry_ms = _RETRY_MS
        while True:
            response = await self._submit(command)
            if response.error_code == ErrorCode.NONE:
                return response
            if self._broker_epoch() != broker_epoch:
                return None
            error = ErrorCode.of(response.error_code)
            if not error.retriable and error is not ErrorCode.UNKNOWN_SERVER_ERROR:
                return response
            logger.info("command_unanswered kind=%s error=%s", command.WhichOneof("command"), error.name)
            await self._pause(retry_ms)
            retry_ms = min(retry_ms * 2, _RETRY_MS_MAX)

    async def _pause(self, milliseconds: int) -> None:
        await asyncio.sleep(self._random.randint(milliseconds // 2, milliseconds) / 1000)
