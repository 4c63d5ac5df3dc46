"""What a log needs to know of its topic's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from ...cluster.topic_config import TopicConfig

_DAY_MS = 24 * 60 * 60 * 1000
_NEVER = 2**62
"""Kafka spells "never" as the largest long; anything near it is taken for that."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Sizes and times of one log; None means no limit."""

    segment_bytes: int = 1024 * 1024 * 1024
    segment_ms: int = 7 * _DAY_MS
    segment_index_bytes: int = 10 * 1024 * 1024
    index_interval_bytes: int = 4096
    retention_ms: int | None = 7 * _DAY_MS
    retention_bytes: int | None = None
    flush_messages: int | None = None
    flush_ms: int | None = None
    file_delete_delay_ms: int = 60_000
    compacted: bool = False
    delete_retention_ms: int = _DAY_MS
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int | None = None

    @classmethod
    def from_topic_config(cls, topic_config: TopicConfig) -> LogConfig:
        """The part of a topic's resolved settings that its logs use."""
        deleted = topic_config.deleted
        max_lag_ms = topic_config.max_compaction_lag_ms
        segment_ms = topic_config.segment_ms
        if topic_config.compacted:  # the active segment is never cleaned, so it may not grow older than that
            segment_ms = min(segment_ms, max_lag_ms)
        return cls(
            segment_bytes=topic_config.segment_bytes,
            segment_ms=segment_ms,
            segment_index_bytes=topic_config.segment_index_bytes,
            index_interval_bytes=topic_config.index_interval_bytes,
            retention_ms=topic_config.retention_ms if deleted and topic_config.retention_ms >= 0 else None,
            retention_bytes=topic_config.retention_bytes if deleted and topic_config.retention_bytes >= 0 else None,
            flush_messages=None if topic_config.flush_messages > _NEVER else topic_config.flush_messages,
            flush_ms=None if topic_config.flush_ms > _NEVER else topic_config.flush_ms,
            file_delete_delay_ms=topic_config.file_delete_delay_ms,
            compacted=topic_config.compacted,
            delete_retention_ms=topic_config.delete_retention_ms,
            min_cleanable_dirty_ratio=topic_config.min_cleanable_dirty_ratio,
            min_compaction_lag_ms=topic_config.min_compaction_lag_ms,
            max_compaction_lag_ms=None if max_lag_ms > _NEVER else max_lag_ms,
        )
