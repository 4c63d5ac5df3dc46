"""Splits a batch that a broker found too large into two halves that carry the same records in the same order."""

from __future__ import annotations

from ..proto.record_codec import new_builder, read_batch
from .producer_batch import ProducerBatch


def split_batch(batch: ProducerBatch) -> list[tuple[int, ProducerBatch]]:
    """Two batches, each with the index of its first record in the old one. Call only for a built batch of 2 or more."""
    if batch.data is None or batch.record_count < 2:
        raise ValueError("only a built batch with several records can be split")
    half = (batch.record_count + 1) // 2
    parts = [
        (first, ProducerBatch(batch.topic_partition, new_builder(batch.size_bytes + 1024), 0, batch.created_ms))
        for first in (0, half)
    ]
    for number, record in enumerate(read_batch(bytes(batch.data))):
        part = parts[0 if number < half else 1][1]
        added = part.builder.append(part.record_count, record.timestamp, record.key, record.value, record.headers)
        part.record_count += 1
        part.size_bytes += added.size
    return parts
