"""Channels to brokers and the calls on them: a deadline on each, and gRPC's errors told in Kafka's words.

A channel is made when it is first used and kept. It never waits for a connection: a broker that is down says so at
once, and whoever called decides where to go next.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

# Before grpc is imported, which reads it once: a broker that dies is our business to report, not a line on the user's
# terminal. Whoever sets the variable gets what they ask for.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc
import grpc.aio

from ..proto.broker_pb2_grpc import BrokerStub
from ..proto.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    NetworkError,
    RequestTimedOutError,
    UnknownServerError,
    UnsupportedVersionError,
    error_for,
)
from ..proto.identifiers import GRPC_MESSAGE_BYTES_MAX
from .metadata_cache import BrokerAddress

Answer = TypeVar("Answer")

ERROR_CODE_KEY: Final = "klamm-error-code"
"""Trailing metadata: the number of the Kafka error that ended a call."""

CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),  # the SDK retries, with sequences; gRPC must not do so behind its back
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # A broker that comes back should be found within tens of ms, not after gRPC's default of a second and more.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 250),
)


class Channels:
    """One channel for each address. All calls from one event loop."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._channels: dict[BrokerAddress, tuple[grpc.aio.Channel, Any]] = {}

    def stub(self, address: BrokerAddress) -> Any:
        """The Broker service at an address."""
        found = self._channels.get(address)
        if found is None:
            options = (*CHANNEL_OPTIONS, ("grpc.primary_user_agent", f"klamm/{self._client_id}"))
            channel = grpc.aio.insecure_channel(str(address), options=options)
            found = self._channels[address] = (channel, BrokerStub(channel))  # type: ignore[no-untyped-call,unused-ignore]
        return found[1]

    async def close(self) -> None:
        """Cancels what is under way and closes every connection."""
        channels, self._channels = self._channels, {}
        for channel, _ in channels.values():
            await channel.close(None)


async def call(method: Callable[..., Awaitable[Answer]], request: Any, timeout_ms: float) -> Answer:
    """One unary call. :raises KafkaError: what went wrong, translated."""
    try:
        return await method(request, timeout=max(0.001, timeout_ms / 1000), wait_for_ready=False)
    except grpc.RpcError as error:
        raise translate(error) from None


def translate(error: grpc.RpcError) -> KafkaError:
    """A gRPC failure as the KafkaError it stands for."""
    status = error.code() if isinstance(error, grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)) or status.name
    number = _error_number(error)
    if number is not None:
        return error_for(number, details)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return RequestTimedOutError("no answer in time")
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED):
        return NetworkError(details)
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return MessageSizeTooLargeError(details)
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return UnsupportedVersionError(f"the server does not know this call: {details}")
    if status is grpc.StatusCode.INTERNAL and "RST_STREAM" in details:
        return NetworkError(details)
    return UnknownServerError(f"{status.name}: {details}")


def _error_number(error: grpc.RpcError) -> int | None:
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    for key, value in error.trailing_metadata() or ():
        if key == ERROR_CODE_KEY:
            try:
                return int(value)
            except ValueError:
                return None
    return None
