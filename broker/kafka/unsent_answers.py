"""How much of answers waits for clients to read it, over all connections of the Kafka listener. Pure."""

from __future__ import annotations

from typing import Final

UNSENT_BYTES_MAX: Final = 256 * 1024 * 1024


class UnsentAnswers:
    """Fetches are answered with less the more there is, and with no more than one batch past the limit."""

    __slots__ = ("_bytes_max", "bytes")

    def __init__(self, bytes_max: int = UNSENT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.bytes = 0

    @property
    def bytes_left(self) -> int:
        """How much more there may be; never below 0."""
        return max(0, self._bytes_max - self.bytes)
