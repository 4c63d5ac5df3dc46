"""The segments of one log, in order of their base offsets. There is always at least one; the last is the active one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from ...proto.identifiers import Offset
from .segment import Segment


class SegmentList:
    """A list with a look-up by offset."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = list(segments)
        self._bases = [segment.base_offset for segment in segments]
        self.active = segments[-1]

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    @property
    def base_offset(self) -> Offset:
        """Where the first segment begins."""
        return Offset(self._bases[0])

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    @property
    def is_empty(self) -> bool:
        """True if there is no batch in any of them."""
        return len(self._segments) == 1 and not self.active.size

    def containing(self, offset: int) -> Segment:
        """The segment in which `offset` is or would be."""
        return self._segments[max(bisect_right(self._bases, offset) - 1, 0)]

    def from_offset(self, offset: int) -> list[Segment]:
        """The segments that hold `offset` and what follows."""
        return self._segments[max(bisect_right(self._bases, offset) - 1, 0) :]

    def ends(self, log_end_offset: Offset) -> list[Offset]:
        """The end offset of each segment."""
        return [*(Offset(base) for base in self._bases[1:]), log_end_offset]

    def end_of(self, segment: Segment) -> int:
        """Where a segment that is not the active one ends: the base offset of the next."""
        return self._bases[self._segments.index(segment) + 1]

    def add(self, segment: Segment) -> None:
        """Puts a new active segment behind the others."""
        self._segments.append(segment)
        self._bases.append(segment.base_offset)
        self.active = segment

    def remove_after(self, segment: Segment) -> None:
        """Removes the segments behind this one with their files, the last first: a crash in between leaves a prefix."""
        while self._segments[-1] is not segment:
            self._segments[-1].remove()
            self._segments.pop()
            self._bases.pop()
        self.active = segment

    def replace_all(self, segment: Segment) -> None:
        """Removes all segments with their files, the last first, and creates `segment` in their place."""
        while self._segments:
            self._segments[-1].remove()
            self._segments.pop()
            self._bases.pop()
        self.add(segment)
        segment.create()

    def replace(self, old: Sequence[Segment], new: Segment) -> None:
        """Puts `new` in the place of `old`, which follow one another and of which the first has its base offset."""
        first = self._segments.index(old[0])
        self._segments[first : first + len(old)] = [new]
        self._bases[first : first + len(old)] = [new.base_offset]

    def holds(self, run: Sequence[Segment]) -> bool:
        """True if these very segments are here, one behind the other, and none is the active one."""
        if run[0] not in self._segments or self.active in run:
            return False
        first = self._segments.index(run[0])
        return self._segments[first : first + len(run)] == list(run)

    def take_first(self) -> Segment:
        """Takes the first one out of the list; its files stay."""
        self._bases.pop(0)
        return self._segments.pop(0)
