"""Kafka's log.cleaner.* settings of a broker: whether and how hard it compacts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ...cluster.node_config import ConfigValues, NodeConfigKey, parse_bool, parse_int
from .offset_map import BYTES_PER_KEY

_MEBIBYTE: Final = 1024 * 1024


def _parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not rate >= 1:
        raise ValueError("must be a number of bytes per second, at least 1")
    return rate


_ENABLE = NodeConfigKey("log.cleaner.enable", parse_bool, True, "whether compacted topics are compacted")
_BACKOFF_MS = NodeConfigKey(
    "log.cleaner.backoff.ms", parse_int(minimum=1), 15_000, "pause when no log is dirty enough to be cleaned"
)
_DEDUPE_BUFFER_SIZE = NodeConfigKey(
    "log.cleaner.dedupe.buffer.size",
    parse_int(minimum=_MEBIBYTE),
    128 * _MEBIBYTE,
    f"memory for the keys of one cleaning, {BYTES_PER_KEY} bytes each; a log with more keys is cleaned in several",
)
_IO_RATE = NodeConfigKey(
    "log.cleaner.io.max.bytes.per.second", _parse_rate, float("inf"), "how much compaction reads and writes at most"
)

CLEANER_KEYS: Final[tuple[NodeConfigKey[Any], ...]] = (_ENABLE, _BACKOFF_MS, _DEDUPE_BUFFER_SIZE, _IO_RATE)


@dataclass(frozen=True, slots=True)
class LogCleanerConfig:
    """The settings as values; the defaults are those of the keys."""

    enable: bool = True
    backoff_ms: int = 15_000
    dedupe_buffer_size: int = 128 * _MEBIBYTE
    io_max_bytes_per_second: float = float("inf")

    @classmethod
    def from_values(cls, values: ConfigValues) -> LogCleanerConfig:
        """From a definition that has `CLEANER_KEYS`."""
        return cls(
            enable=values[_ENABLE],
            backoff_ms=values[_BACKOFF_MS],
            dedupe_buffer_size=values[_DEDUPE_BUFFER_SIZE],
            io_max_bytes_per_second=values[_IO_RATE],
        )
