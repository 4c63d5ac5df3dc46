"""Between kio's fields and ours: milliseconds, ids that may be absent, and what stands for "none" on the wire."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from ...proto.identifiers import NONE_ID, LeaderEpoch, TopicId

CLUSTER_METADATA_TOPIC: Final = "__cluster_metadata"
"""The metadata log's name among topics; no topic may have it."""

_ONE_MS = timedelta(milliseconds=1)


def milliseconds(time: timedelta) -> int:
    """A time of a request; negative ones come as they are."""
    return time // _ONE_MS


def number(value: int | None) -> int:
    """-1 for None."""
    return NONE_ID if value is None else value


def leader_epoch(value: int) -> LeaderEpoch | None:
    """None for an epoch that is not to be checked."""
    return None if value < 0 else LeaderEpoch(value)


def topic_id(value: UUID | None) -> TopicId | None:
    """None where a request names no id; kio gives None for the zero id already."""
    return None if value is None or value.int == 0 else TopicId(int=value.int)
