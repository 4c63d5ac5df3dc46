"""What brokers tell clients about their metrics (KIP-714): that none are wanted. Nothing is remembered of a client."""

from __future__ import annotations

from typing import Final
from uuid import UUID
from zlib import crc32

PUSH_INTERVAL_MS: Final = 300_000
"""How long until a client asks again whether something is wanted (Kafka's interval.ms)."""
TELEMETRY_BYTES_MAX: Final = 1024 * 1024
COMPRESSION_TYPES: Final = (4, 3, 1, 2)
"""Taken from clients, best first: zstd, lz4, gzip, snappy; 0, none, always is."""

_RESERVED_IDS_MAX: Final = 1
"""Ids up to this one mean something else in Kafka."""


def is_client_instance_id(client_instance_id: UUID | None) -> bool:
    """False for null and for the ids that Kafka keeps for itself."""
    return client_instance_id is not None and client_instance_id.int > _RESERVED_IDS_MAX


def subscription_id(client_instance_id: UUID) -> int:
    """The number of the empty subscription for one client: the same on every broker."""
    number = crc32(client_instance_id.bytes)
    return number - 2**32 if number >= 2**31 else number
