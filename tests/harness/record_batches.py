"""Record batches to order, made by the compiled codec."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from klamm.proto.record_batch import set_offset_and_epoch


def record_batch(
    values: Sequence[bytes] = (b"value",),
    *,
    base_offset: int = 0,
    leader_epoch: int = 0,
    timestamps: Sequence[int] | int = 1_000,
    producer_id: int = -1,
    producer_epoch: int = 0,
    base_sequence: int = -1,
    compression: int = 0,
    transactional: bool = False,
) -> bytearray:
    """One batch with a record for each value; `timestamps` for all, or one for each."""
    is_plain = producer_id < 0
    builder = DefaultRecordBatchBuilder(
        2, compression, int(transactional), producer_id, -1 if is_plain else producer_epoch, base_sequence, 1 << 24
    )
    for index, value in enumerate(values):
        timestamp = timestamps if isinstance(timestamps, int) else timestamps[index]
        builder.append(index, timestamp, None, value, [])
    batch = bytearray(builder.build())
    set_offset_and_epoch(batch, base_offset, leader_epoch)
    return batch
