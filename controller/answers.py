"""The answers to the latest commands, so that a command sent twice is carried out once.

Immutable, like the state that holds it. A plain dict would be copied whole (10,000 entries) with each command; here it
is cut into pieces, of which an addition copies only the last and an eviction only the first. How it is cut does not
show: what is remembered depends on the sequence of additions alone, so that a controller restored from a snapshot
forgets the same answers at the same time as the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .limits import ANSWERS_BYTES_MAX, ANSWERS_MAX

_PIECE_SIZE: Final = 128


@dataclass(frozen=True, slots=True)
class RememberedAnswers:
    """Request ids and answers, oldest first."""

    pieces: tuple[dict[bytes, bytes], ...] = ()  # none empty, never changed in place
    count: int = 0
    size_bytes: int = 0  # of ids and answers

    @classmethod
    def of(cls, answers: Iterable[tuple[bytes, bytes]]) -> RememberedAnswers:
        """With these answers, oldest first."""
        remembered = cls()
        for request_id, response in answers:
            remembered = remembered.with_answer(request_id, response)
        return remembered

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for piece in self.pieces:
            yield from piece.items()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RememberedAnswers) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash((self.count, self.size_bytes))

    def get(self, request_id: bytes) -> bytes | None:
        """The answer to a request id, if it is still remembered."""
        for piece in reversed(self.pieces):
            if request_id in piece:
                return piece[request_id]
        return None

    def with_answer(self, request_id: bytes, response: bytes) -> RememberedAnswers:
        """With one more answer, whose id must be new; the oldest go when there are too many or they are too large."""
        pieces = list(self.pieces)
        if pieces and len(pieces[-1]) < _PIECE_SIZE:
            pieces[-1] = {**pieces[-1], request_id: response}
        else:
            pieces.append({request_id: response})
        count = self.count + 1
        size_bytes = self.size_bytes + len(request_id) + len(response)
        if count > ANSWERS_MAX or size_bytes > ANSWERS_BYTES_MAX:
            first = dict(pieces[0])
            while count > ANSWERS_MAX or size_bytes > ANSWERS_BYTES_MAX:
                if not first:
                    pieces.pop(0)
                    if not pieces:
                        return RememberedAnswers()  # an answer larger than all that may be remembered
                    first = dict(pieces[0])
                oldest = next(iter(first))
                size_bytes -= len(oldest) + len(first.pop(oldest))
                count -= 1
            pieces[0:1] = [first] if first else []
        return RememberedAnswers(tuple(pieces), count, size_bytes)
