"""What the Kafka handlers stand on: the broker's rooms, the same as behind the gRPC door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import randrange
from typing import TYPE_CHECKING, Any

from ...cluster.image import MetadataImage
from ...proto.identifiers import BrokerId
from ..admin_rooms import AdminRooms
from ..config import BrokerConfig
from ..producer_ids import ProducerIds
from ..replica_manager import ReplicaManager
from .fetch_session import FetchSessions
from .metadata_encoding import TopicDescriptions
from .unsent_answers import UnsentAnswers

if TYPE_CHECKING:
    from ...cluster.clock import Clock
    from ..groups.coordinator import GroupCoordinator
    from ..log.log_manager import LogManager


def fetch_sessions(sessions_max: int) -> FetchSessions:
    """No sessions yet, and room for so many."""
    return FetchSessions(sessions_max, lambda: randrange(1, 2**31))


@dataclass(frozen=True)
class KafkaRooms:
    """One object serves every connection."""

    broker_id: BrokerId
    config: BrokerConfig
    clock: Clock
    admin: AdminRooms  # the way to the controllers, the image, the description of settings
    replica_manager: ReplicaManager
    log_manager: LogManager
    producer_ids: ProducerIds
    groups: GroupCoordinator
    fetch_sessions: FetchSessions = field(default_factory=lambda: fetch_sessions(1000))
    unsent_answers: UnsentAnswers = field(default_factory=UnsentAnswers)
    topic_descriptions: TopicDescriptions = field(default_factory=TopicDescriptions)

    @property
    def image(self) -> Callable[[], MetadataImage]:
        return self.admin.image


@dataclass(slots=True)
class RequestContext:
    """One request: who asks, what API and version, and what it may use."""

    rooms: KafkaRooms
    api_version: int
    client_id: str
    client_host: str  # "/127.0.0.1", as Kafka writes it
    schema: Any  # kio's module of the response in this version: `context.schema.HeartbeatResponse`
    connection_id: int = 0  # distinct for each connection of this process
