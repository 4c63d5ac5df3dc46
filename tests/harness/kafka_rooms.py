"""The Kafka handlers over the controllers' real decisions, asked as a client asks: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from types import UnionType
from typing import Any, cast

from harness.fake_clock import FakeClock
from harness.metadata_cluster import MetadataCluster
from kio.serial import entity_reader, entity_writer
from klamm.broker.admin_rooms import AdminRooms
from klamm.broker.config import BROKER_DEFINITION
from klamm.broker.config_description import ConfigDescriber
from klamm.broker.kafka import messages
from klamm.broker.kafka.rooms import KafkaRooms, RequestContext
from klamm.broker.kafka.table import APIS, Api
from klamm.broker.producer_ids import ProducerIds
from klamm.cluster.image import MetadataImage
from klamm.proto.command_pb2 import Command, CommandResponse
from klamm.proto.controller_pb2 import DescribeQuorumResponse
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerEpoch, BrokerId

API_OF = {api.name: api for api in APIS.values()}

PROPERTIES = {
    "node.id": "1",
    "log.dirs": "/tmp/none",
    "controller.quorum.bootstrap.servers": "127.0.0.1:9292",
    "log.retention.ms": "1000000",
}


class DecidingControllers:
    """A way to the controllers that decides each command at once."""

    def __init__(self, cluster: MetadataCluster) -> None:
        self._cluster = cluster
        self.commands: list[Command] = []
        self.quorum: DescribeQuorumResponse | None = None

    async def submit(self, command: Command, *, timeout_ms: int) -> CommandResponse:
        if timeout_ms <= 0:
            return CommandResponse(error_code=ErrorCode.REQUEST_TIMED_OUT, error_message="no time")
        self.commands.append(command)
        command.controller_epoch = self._cluster.controller_epoch
        command.seed = len(self.commands)
        return self._cluster.send(command).response

    async def describe_quorum(self) -> DescribeQuorumResponse | None:
        return self.quorum


class Rooms:
    """The rooms of one broker of a `MetadataCluster`."""

    def __init__(
        self,
        cluster: MetadataCluster,
        *,
        broker_id: int = 1,
        auto_create_topics: bool = True,
        properties: Mapping[str, str] = PROPERTIES,
        **rooms: Any,
    ) -> None:
        self.cluster = cluster
        self.controllers = DecidingControllers(cluster)
        self.waits: list[int] = []
        self.clock = FakeClock()
        admin = AdminRooms(
            broker_id=BrokerId(broker_id),
            controller=self.controllers,
            image=lambda: self.image,
            wait_for_metadata=self._wait_for_metadata,
            configs=ConfigDescriber(BrokerId(broker_id), BROKER_DEFINITION, properties),
            auto_create_topics=auto_create_topics,
        )
        self.rooms = KafkaRooms(
            **{
                "broker_id": BrokerId(broker_id),
                "config": cast(Any, None),
                "clock": self.clock,
                "admin": admin,
                "replica_manager": cast(Any, None),
                "log_manager": cast(Any, None),
                "producer_ids": ProducerIds(BrokerId(broker_id), self._broker_epoch, self.controllers),
                "groups": cast(Any, None),
                **rooms,
            }
        )

    @property
    def image(self) -> MetadataImage:
        return self.cluster.image

    def _broker_epoch(self) -> BrokerEpoch:
        return self.image.brokers[self.rooms.broker_id].broker_epoch

    async def _wait_for_metadata(self, end_offset: int, timeout_ms: int) -> bool:
        self.waits.append(end_offset)
        return True

    async def ask_async(self, name: str, version: int, **values: Any) -> Any:
        """kio's response of this version, after both messages went over the wire."""
        context = RequestContext(self.rooms, version, "test", "/127.0.0.1", messages.response_schema(name, version))
        handle = importlib.import_module(f"klamm.broker.kafka.{name}").handle
        request = over_the_wire(request_of(name, version, **values))
        response = handle(request, context)
        if inspect.isawaitable(response):
            response = await response
        kind = getattr(context.schema, messages.class_name(name, "Response"))
        return over_the_wire(response, kind)

    def ask(self, name: str, version: int | None = None, **values: Any) -> Any:
        """The same, from outside of an event loop; by default in the newest version."""
        version = API_OF[name].max_version if version is None else version
        return asyncio.run(self.ask_async(name, version, **values))


def versions_of(name: str) -> range:
    """All versions of an API that are served."""
    api: Api = API_OF[name]
    return range(api.min_version, api.max_version + 1)


def over_the_wire(message: Any, kind: type | None = None) -> Any:
    """Encodes and decodes a message; bytes are taken for one of `kind` that is encoded already."""
    if isinstance(message, bytes):
        data = message
    else:
        buffer = io.BytesIO()
        entity_writer(type(message))(buffer, message)
        data = buffer.getvalue()
    assert kind is None or isinstance(message, (bytes, kind))
    decoded, size = entity_reader(kind or type(message))(data, 0)
    assert size == len(data)
    return decoded


def request_of(name: str, version: int, **values: Any) -> Any:
    """kio's request; nested parts are mappings, what is not said is empty, and what a version lacks is left out."""
    schema = messages.request_schema(name, version)
    return _build(getattr(schema, messages.class_name(name, "Request")), values)


def _build(kind: type, values: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    known = {field.name for field in fields(kind)}
    made = {name: _value(hints[name], value) for name, value in values.items() if name in known}
    for name in known - made.keys():
        field = kind.__dataclass_fields__[name]  # type: ignore[attr-defined]
        if field.default is field.default_factory:  # both are MISSING
            made[name] = _empty(hints[name])
    return kind(**made)


def _value(hint: Any, value: Any) -> Any:
    nested = _nested(hint)
    if nested is not None and isinstance(value, Mapping):
        return _build(nested, value)
    if isinstance(value, (list, tuple)):
        return tuple(_value(hint, item) for item in value)
    if "imedelta" in str(hint) and isinstance(value, int):
        return timedelta(milliseconds=value)
    return value


def _nested(hint: Any) -> type | None:
    if is_dataclass(hint):
        return cast(type, hint)
    return next((found for part in typing.get_args(hint) if (found := _nested(part)) is not None), None)


def _empty(hint: Any) -> Any:
    if isinstance(hint, UnionType) or type(None) in typing.get_args(hint):
        return None
    if typing.get_origin(hint) is tuple:
        return ()
    if "imedelta" in str(hint):
        return timedelta(0)
    if hint is bool:
        return False
    return "" if issubclass(hint, str) else b"" if issubclass(hint, bytes) else 0
