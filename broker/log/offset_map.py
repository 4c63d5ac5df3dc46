"""Of each key the latest offset, in bounded memory: what compaction knows of a log while it rewrites it. Pure.

Long keys are held by a hash of 16 bytes, as Kafka does: two keys with one hash would take each other for a newer
version, but that takes more keys than there will ever be (a good hash of 128 bits). Short ones stand for themselves;
no hash can be taken for one of them, for it is longer.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

BYTES_PER_KEY: Final = 192
"""What a key takes in memory: its bytes or hash, the offset, and its places in the table, with room to grow."""
_HASH_SIZE: Final = 16


def short_key(key: bytes) -> bytes:
    """The key itself or its hash."""
    return key if len(key) < _HASH_SIZE else blake2b(key, digest_size=_HASH_SIZE).digest()


class OffsetMap:
    """Knows every key with a record in `start_offset` .. `end_offset`, and forgets none of them."""

    def __init__(self, start_offset: int, keys_max: int) -> None:
        self.start_offset = start_offset
        self.end_offset = start_offset
        self.keys_max = max(keys_max, 1)
        self.full = False  # there was no room for the record at end_offset
        self._latest: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._latest)

    def put(self, key: bytes, offset: int) -> bool:
        """Notes a record; False if there is no room for it, nor from then on for any."""
        latest = self._latest
        short = short_key(key)
        if len(latest) >= self.keys_max and short not in latest:
            self.full = True
            return False
        latest[short] = offset
        return True

    def latest(self, key: bytes) -> int:
        """The latest offset known of this key; -1 if there is none."""
        return self._latest.get(short_key(key), -1)
