"""The bytes of the Raft journal: what an entry looks like on disk, and what of a file can be trusted.

    header (512 bytes)   magic, then the synced end: a file offset below which everything was on disk once, with its CRC
    entry                command length, CRC-32, index, term, position in its group, command; one after the other
    zeros                room for more: a sync that does not grow the file is several times cheaper

A *group* is what one sync made durable; only its last one can be torn by a crash. So when an entry fails its CRC

* below the synced end, or before an entry that begins a later group, something that was durable is damaged: refuse;
* otherwise it was never acked to anybody: cut it off.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .raft_contract import DataFolderError, Entry
from .way_out import WAY_OUT

MAGIC: Final = b"KLAMMRJ1"
HEADER_SIZE: Final = 512
SYNCED_END_AT: Final = len(MAGIC)
_SYNCED_END: Final = struct.Struct("<QI")
_ENTRY: Final = struct.Struct("<IIQQI")  # command length, CRC, index, term, position in group
_CHECKED: Final = struct.Struct("<IQQI")  # the same without the CRC
ENTRY_OVERHEAD: Final = _ENTRY.size
_LATER_ENTRIES_SOUGHT: Final = 2048


@dataclass(frozen=True, slots=True)
class Scan:
    """What of a journal file can be trusted."""

    entries: list[Entry]
    offsets: list[int]  # where each entry begins
    end: int  # where the last one ends
    torn: bool  # after it stands something that was written, and never synced


def encode_synced_end(offset: int) -> bytes:
    """To be written at SYNCED_END_AT."""
    return _SYNCED_END.pack(offset, zlib.crc32(MAGIC + offset.to_bytes(8, "little")))


def encode_entry(entry: Entry, position: int) -> bytes:
    """One entry; `position` counts from 0 in its group."""
    command, index, term = entry
    crc = zlib.crc32(command, zlib.crc32(_CHECKED.pack(len(command), index, term, position)))
    return _ENTRY.pack(len(command), crc, index, term, position) + command


def encode_file(entries: Iterable[Entry]) -> tuple[bytes, list[int]]:
    """A whole file, and where each entry begins in it. Each is a group of its own: the file appears at once."""
    offsets: list[int] = []
    parts: list[bytes] = []
    end = HEADER_SIZE
    for entry in entries:
        offsets.append(end)
        parts.append(encode_entry(entry, 0))
        end += len(parts[-1])
    header = (MAGIC + encode_synced_end(end)).ljust(HEADER_SIZE, b"\0")
    return header + b"".join(parts), offsets


def scan_journal(data: bytes, path: Path) -> Scan:
    """Reads a journal file. :raises DataFolderError: something that was durable is damaged"""
    synced_end = _read_synced_end(data, path)
    entries: list[Entry] = []
    offsets: list[int] = []
    end = HEADER_SIZE
    torn = False
    while end < len(data):
        entry = _read_entry(data, end)
        if entry is None:
            torn = data.count(0, end) < len(data) - end
            if torn:
                _require_torn(data, end, synced_end, entries, path)
            break
        if entries and (entry[1] != entries[-1][1] + 1 or entry[2] < entries[-1][2]):
            raise _corrupt(path, end, f"entry {entry[1]} of term {entry[2]} cannot follow entry {entries[-1][1]}")
        entries.append(entry)
        offsets.append(end)
        end += ENTRY_OVERHEAD + len(entry[0])
    if end < synced_end:
        raise _corrupt(path, end, f"its entries end before {synced_end}, up to where it was synced")
    return Scan(entries, offsets, end, torn)


def _read_synced_end(data: bytes, path: Path) -> int:
    if len(data) < HEADER_SIZE or not data.startswith(MAGIC):
        raise _corrupt(path, 0, "its header is damaged")
    offset, _ = _SYNCED_END.unpack_from(data, SYNCED_END_AT)
    rest = SYNCED_END_AT + _SYNCED_END.size
    if data[SYNCED_END_AT:rest] != encode_synced_end(offset) or data.count(0, rest, HEADER_SIZE) != HEADER_SIZE - rest:
        raise _corrupt(path, SYNCED_END_AT, "its header is damaged")
    return int(offset)


def _read_entry(data: bytes, offset: int) -> Entry | None:
    if offset + ENTRY_OVERHEAD > len(data):
        return None
    length, crc, index, term, position = _ENTRY.unpack_from(data, offset)
    command = data[offset + ENTRY_OVERHEAD : offset + ENTRY_OVERHEAD + length]
    if len(command) != length or zlib.crc32(command, zlib.crc32(_CHECKED.pack(length, index, term, position))) != crc:
        return None
    return command, index, term


def _require_torn(data: bytes, offset: int, synced_end: int, entries: list[Entry], path: Path) -> None:
    if offset < synced_end:
        raise _corrupt(path, offset, f"an entry that was synced (up to {synced_end}) fails its checksum")
    later = _later_group(data, offset, entries[-1][1] if entries else 0)
    if later is not None:
        raise _corrupt(path, offset, f"an entry fails its checksum, and a whole one follows at {later}")


def _later_group(data: bytes, offset: int, last_index: int) -> int | None:
    """Where an entry that begins a group stands after `offset`: it was written after all before it was synced."""
    index_at = 8  # in _ENTRY
    room = min(_LATER_ENTRIES_SOUGHT, (len(data) - offset) // ENTRY_OVERHEAD)
    for index in range(last_index + 2, last_index + 2 + room):
        sought = index.to_bytes(8, "little")
        found = data.find(sought, offset + index_at)
        while found >= 0:
            start = found - index_at
            if (
                start + ENTRY_OVERHEAD <= len(data)
                and _ENTRY.unpack_from(data, start)[4] == 0
                and _read_entry(data, start)
            ):
                return start
            found = data.find(sought, found + 1)
    return None


def _corrupt(path: Path, offset: int, what: str) -> DataFolderError:
    return DataFolderError(f"{path}: corrupt at byte {offset}: {what}. {WAY_OUT}")
