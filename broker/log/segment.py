"""One file of a log and its two indexes: Kafka's `<base offset>.log`, `.index` and `.timeindex`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ...proto.record_batch import HEADER_SIZE, Buffer, RecordBatchHeader, parse_header
from .descriptor_pool import DescriptorPool
from .errors import CorruptFileError
from .file_system import FileSystem, remove_if_present, sync_file, write_all
from .log_config import LogConfig
from .offset_gaps import OffsetGaps
from .offset_index import OffsetIndex
from .time_index import TimeIndex

LOG_SUFFIX: Final = ".log"
INDEX_SUFFIX: Final = ".index"
TIME_INDEX_SUFFIX: Final = ".timeindex"
TRANSACTION_INDEX_SUFFIX: Final = ".txnindex"
DELETED_SUFFIX: Final = ".deleted"
CLEANED_SUFFIX: Final = ".cleaned"
SWAP_SUFFIX: Final = ".swap"
RELATIVE_OFFSET_MAX: Final = 2**31 - 1
_SCAN_BYTES: Final = 1 << 20


def file_name(offset: int, suffix: str) -> str:
    """As Kafka names them: twenty digits, so that a listing is in order."""
    return f"{offset:020d}{suffix}"


def scan_batches(pread: Callable[[int, int], bytes], size: int, position: int = 0) -> Iterator[tuple[bytes, int]]:
    """The batches of a file of `size` bytes from `position` on, to be checked, as (buffer, position in it): whole if
    the file has them whole. `pread` is given position and size.
    """
    data, data_position = b"", position
    while position < size:
        at = position - data_position
        need = min(HEADER_SIZE, size - position)
        if len(data) - at >= HEADER_SIZE:
            need = min(max(parse_header(data, at).size_bytes, HEADER_SIZE), size - position)
        if len(data) - at < need:
            data, data_position = pread(position, max(need, min(_SCAN_BYTES, size - position))), position
            if len(data) < need:
                return
            continue
        yield data, at
        position += max(parse_header(data, at).size_bytes, HEADER_SIZE) if need >= HEADER_SIZE else need


class Segment:
    """Batches from `base_offset` on. The last segment of a log is the active one; the others never grow."""

    __slots__ = (
        "_bytes_since_index_entry",
        "_close_wanted",
        "_created_ms",
        "_descriptor",
        "_file_system",
        "_first_timestamp",
        "_folder",
        "_interval",
        "_largest",
        "_pins",
        "_pool",
        "base_offset",
        "offset_index",
        "path",
        "recently_used",
        "removed",
        "size",
        "time_index",
    )

    def __init__(
        self,
        file_system: FileSystem,
        pool: DescriptorPool,
        folder: str,
        base_offset: int,
        config: LogConfig,
        now_ms: int,
        *,
        suffix: str = "",
    ) -> None:
        """`suffix` comes behind the names of the three files as long as they are not in the log."""
        self._file_system = file_system
        self._pool = pool
        self.base_offset = base_offset
        self._folder = folder
        self.path = self._path(LOG_SUFFIX + suffix)
        index_path, time_index_path = self._path(INDEX_SUFFIX + suffix), self._path(TIME_INDEX_SUFFIX + suffix)
        self.offset_index = OffsetIndex(file_system, index_path, base_offset, config.segment_index_bytes)
        self.time_index = TimeIndex(file_system, time_index_path, base_offset, config.segment_index_bytes)
        self.size = 0
        self._interval = config.index_interval_bytes
        self._bytes_since_index_entry = 0
        self._largest: tuple[int, int] | None = None  # (timestamp, last offset of its batch); None: not looked up yet
        self._first_timestamp: int | None = None
        self._created_ms = now_ms
        self._descriptor = -1
        self._pins = 0
        self._close_wanted = False
        self.recently_used = False
        self.removed = False  # out of the log, by truncation or retention

    def _path(self, suffix: str) -> str:
        return f"{self._folder}/{file_name(self.base_offset, suffix)}"

    # -- the file

    def create(self) -> None:
        """Makes an empty segment, whatever a crash may have left under its names."""
        descriptor = self._file_system.open(self.path, create=True)
        try:
            self._file_system.truncate(descriptor, 0)
        finally:
            self._file_system.close(descriptor)
        self.start_indexes()

    def descriptor(self) -> int:
        """The open file, good until the next call to any segment."""
        if self._descriptor < 0:
            self._descriptor = self._file_system.open(self.path)
            self._close_wanted = False
            self._pool.opened(self)
        self.recently_used = True
        return self._descriptor

    def pin(self) -> int:
        """The open file, good until `unpin`: for a thread that syncs it."""
        descriptor = self.descriptor()
        self._pins += 1
        return descriptor

    def unpin(self) -> None:
        """Ends what `pin` began."""
        self._pins -= 1
        if self._close_wanted and not self._pins:
            self.close_file()

    def release_descriptor(self) -> bool:
        """For the pool: closes the file unless it is in use."""
        if self._pins:
            return False
        if self._descriptor >= 0:
            self._file_system.close(self._descriptor)
            self._descriptor = -1
        return True

    def close_file(self) -> None:
        """Closes the file now, or when the last pin goes."""
        if self._pins:
            self._close_wanted = True
        elif self._descriptor >= 0:
            self._pool.closed(self)
            self.release_descriptor()

    # -- writing

    def must_roll(
        self, size: int, max_timestamp: int, last_offset: int, now_ms: int, config: LogConfig, *, pending: int = 0
    ) -> bool:
        """Whether a batch belongs in a new segment: this one is full, too old, or cannot count so far.

        `pending` bytes are to be appended before it.
        """
        filled = self.size + pending
        if last_offset - self.base_offset > RELATIVE_OFFSET_MAX or (filled and filled + size > config.segment_bytes):
            return True
        return self.size > 0 and (
            self._age_ms(max_timestamp, now_ms) > config.segment_ms
            or self.offset_index.is_full
            or self.time_index.is_full
        )

    def _age_ms(self, max_timestamp: int, now_ms: int) -> int:
        """As Kafka counts it: from the first batch's timestamp to the coming one's; without timestamps, by the
        clock.
        """
        first = self.first_timestamp
        return max_timestamp - first if first >= 0 else now_ms - self._created_ms

    @property
    def first_timestamp(self) -> int:
        """The largest timestamp of the first batch; -1 if it has none, or there is no batch."""
        if self._first_timestamp is None:
            if self.size < HEADER_SIZE:
                return -1
            self._first_timestamp = parse_header(self.pread(0, HEADER_SIZE)).max_timestamp
        return self._first_timestamp

    def append(self, data: Buffer, size: int) -> None:
        """Writes at the end; the caller then calls `note` for each batch in it.

        :raises OSError: the disk failed; what was written of it is cut off again, see `cut_back`.
        """
        written = self._file_system.pwrite(self.descriptor(), data, self.size)
        if written != size:
            write_all(self._file_system, self._descriptor, memoryview(data)[written:], self.size + written)

    def cut_back(self) -> None:
        """Removes what a failed append has left behind. :raises OSError: it cannot be removed."""
        self._file_system.truncate(self.descriptor(), self.size)

    def note(self, position: int, size: int, last_offset: int, max_timestamp: int) -> None:
        """Books a batch that lies at `position`; the segment ends behind it."""
        if not position:
            self._first_timestamp = max_timestamp
        largest = self.largest
        if max_timestamp > largest[0]:
            largest = self._largest = (max_timestamp, last_offset)
        if self._bytes_since_index_entry > self._interval:
            self.offset_index.append(last_offset, position)
            self.time_index.maybe_append(*largest)
            self._bytes_since_index_entry = 0
        self._bytes_since_index_entry += size
        self.size = position + size

    @property
    def largest(self) -> tuple[int, int]:
        """(largest timestamp, last offset of its batch); (-1, base offset) if no record has one."""
        if self._largest is None:
            self._largest = self.time_index.last()
        return self._largest

    def check_index_ends(self) -> None:
        """Whether the index files can be those of the log file. :raises CorruptFileError: they are not, or are
        missing.
        """
        self.offset_index.check_file()
        self.time_index.check_file()
        last = self.offset_index.last()
        if last is not None and last[1] >= self.size:
            raise CorruptFileError(f"{self.offset_index.path} points past the end of the log")
        if last is None and self.size > self._interval:
            raise CorruptFileError(f"{self.offset_index.path} is empty")
        if self.size > HEADER_SIZE and self.time_index.last_entry() is None:
            # Legal where no record has a timestamp, but that is rare enough to look again. (One batch without records
            # is all that compaction leaves of many segments.)
            raise CorruptFileError(f"{self.time_index.path} is empty")

    def load_largest(self) -> None:
        """Looks up `largest` now, from the checked index file, so that retention needs no index later."""
        self._largest = self.time_index.last()

    def write_indexes(self, *, final: bool) -> None:
        """Brings the index files up to date; `final` notes the largest timestamp first: the segment grows no more."""
        if final and self.size:
            self.time_index.maybe_append(*self.largest)
        self.offset_index.write_out()
        self.time_index.write_out()

    def sync_indexes(self) -> None:
        """Returns once the index files are on the disk. :raises OSError: the disk failed."""
        for path in (self.offset_index.path, self.time_index.path):
            sync_file(self._file_system, path)

    def unload_indexes(self) -> None:
        """Frees the memory of indexes that their files hold as well."""
        self.offset_index.unload()
        self.time_index.unload()

    # -- reading

    def pread(self, position: int, size: int) -> bytes:
        """Bytes at `position`, fewer at the end of the file."""
        return self._file_system.pread(self.descriptor(), size, position)

    def headers(self, position: int = 0) -> Iterator[tuple[int, RecordBatchHeader]]:
        """The batches' headers from `position` on, unchecked but for lengths. Ends at the end, or where no batch can
        be.
        """
        size = self.size
        data, data_position = b"", position
        while size - position >= HEADER_SIZE:
            if position - data_position + HEADER_SIZE > len(data):
                data, data_position = self.pread(position, min(_SCAN_BYTES, size - position)), position
                if len(data) < HEADER_SIZE:
                    return
            header = parse_header(data, position - data_position)
            if header.size_bytes < HEADER_SIZE or position + header.size_bytes > size:
                return
            yield position, header
            position += header.size_bytes

    def scan(self, position: int = 0) -> Iterator[tuple[bytes, int]]:
        """The batches from `position` on, see `scan_batches`."""
        return scan_batches(self.pread, self.size, position)

    def locate(self, offset: int, gaps: OffsetGaps) -> tuple[int, int] | None:
        """(position, base offset) of the batch that holds `offset` or, in a gap, of the next; None if it is not here.

        :raises CorruptFileError: the index or a batch on the way cannot be right.
        """
        indexed_last, position = self.offset_index.lookup(offset)
        expected = self.base_offset
        for at, header in self.headers(position):
            if indexed_last is not None:
                if header.last_offset != indexed_last or header.magic != 2:
                    raise CorruptFileError(f"{self.offset_index.path} does not fit the log at position {at}")
                indexed_last = None
            elif not gaps.fit(header.base_offset, expected):
                raise CorruptFileError(f"base offset {header.base_offset}, not {expected}, at position {at}")
            if header.last_offset >= offset:
                return at, header.base_offset
            expected = header.next_offset
            position = at + header.size_bytes
        if position < self.size or indexed_last is not None:
            raise CorruptFileError(f"there is no record batch at position {position}")
        return None

    # -- cutting and deleting

    def end_before(self, position: int, base_offset: int) -> int:
        """Where the batch before the one at `position` ends, whose base offset is given; the segment's own base if it
        is the first.
        """
        end = self.base_offset
        for at, header in self.headers(self.offset_index.lookup(base_offset - 1)[1]):
            if at >= position:
                break
            end = header.next_offset
        return end

    def cut_at(self, position: int, end_offset: int) -> None:
        """Cuts the file at `position`; what is before it ends with `end_offset`."""
        self._file_system.truncate(self.descriptor(), position)
        self.size = position
        self.offset_index.truncate_to(end_offset)
        self.time_index.truncate_to(end_offset)
        self._bytes_since_index_entry = 0
        if not position:
            self._first_timestamp = None
        self._largest = largest = self.time_index.last()
        for _, header in self.headers(self.offset_index.lookup(largest[1])[1]):
            if header.newest_timestamp > self._largest[0]:
                self._largest = (header.newest_timestamp, header.last_offset)

    def rebuild_indexes(self, gaps: OffsetGaps) -> None:
        """Makes both indexes anew from the batches' headers, as far as these follow one another."""
        self.start_indexes()
        size, expected = self.size, self.base_offset
        for position, header in self.headers():
            if not gaps.fit(header.base_offset, expected):
                break
            self.note(position, header.size_bytes, header.last_offset, header.newest_timestamp)
            expected = header.next_offset
        self.size = size

    def start_indexes(self) -> None:
        """Empties both indexes and forgets what they told."""
        self.offset_index.start_empty()
        self.time_index.start_empty()
        self._largest = (-1, self.base_offset)
        self._bytes_since_index_entry = 0

    def rename_deleted(self) -> list[str]:
        """Takes the files out of the log by their names; returns the new ones, to be removed later."""
        self.removed = True
        self.close_file()
        renamed = []
        for path in (self.path, self.offset_index.path, self.time_index.path):
            if self._file_system.status(path) is not None:
                self._file_system.replace(path, path + DELETED_SUFFIX)
                renamed.append(path + DELETED_SUFFIX)
        return renamed

    def rename_files(self, suffix: str) -> None:
        """Gives the files other suffixes, the log file last; "" is for those in the log. What is open stays open."""
        for index, kind in ((self.offset_index, INDEX_SUFFIX), (self.time_index, TIME_INDEX_SUFFIX)):
            path = self._path(kind + suffix)
            self._file_system.replace(index.path, path)
            index.path = path
        path = self._path(LOG_SUFFIX + suffix)
        self._file_system.replace(self.path, path)
        self.path = path

    def adopt(self, pool: DescriptorPool) -> None:
        """The segment was made by a thread of its own; from now on its file counts with those of the log."""
        self.close_file()
        self._pool = pool

    def remove(self) -> None:
        """Removes the files at once."""
        self.removed = True
        self.close_file()
        for path in (self.path, self.offset_index.path, self.time_index.path):
            remove_if_present(self._file_system, path)

    @property
    def modified_ms(self) -> int:
        """When the file was last written to."""
        status = self._file_system.status(self.path)
        return status.modified_ms if status is not None else self._created_ms
