"""The Raft journal on disk: what a crash may take, and what stops the start."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from harness.memory_disk import DiskDiedError, MemoryDisk
from klamm.cluster.invariant import InvariantError
from klamm.controller.file_system import PosixFileSystem
from klamm.controller.journal import Journal
from klamm.controller.journal_format import HEADER_SIZE
from klamm.controller.raft_contract import NO_OP, DataFolderError, Entry
from klamm.controller.vote_store import VoteStore

FOLDER = Path("/data")
PATH = FOLDER / Journal.FILE_NAME


def new_journal(disk: MemoryDisk) -> Journal:
    votes = VoteStore.create(disk, FOLDER)
    votes.store(9, None)
    journal = Journal.create(disk, FOLDER, votes, [(NO_OP, 1, 0)])
    journal.preallocated_bytes = 2048
    return journal


def reopen(disk: MemoryDisk) -> list[Entry]:
    return Journal.open(disk, FOLDER, VoteStore.open(disk, FOLDER))[:]


def add(journal: Journal, count: int, term: int = 1) -> None:
    for _ in range(count):
        index = journal.last_index + 1
        journal.add(b"\x00" + bytes([index % 256]) * (index * 37 % 300), index, term)


def content(disk: MemoryDisk) -> bytes:
    data = disk.read(PATH)
    assert data is not None
    return data


def test_what_was_synced_is_read_back() -> None:
    disk = MemoryDisk(Random(0))
    journal = new_journal(disk)
    for _ in range(20):
        add(journal, 7)
        journal.sync()
    assert journal.synced_index == journal.last_index == 141
    assert reopen(disk) == journal[:]
    assert journal.term_at(141) == 1
    assert journal.term_at(142) is None


@pytest.mark.parametrize("seed", range(150))
def test_rule_25_a_crash_anywhere_leaves_a_prefix_with_all_that_was_synced(seed: int) -> None:
    random = Random(seed)
    disk = MemoryDisk(random)
    journal = new_journal(disk)
    synced: list[Entry] = journal[:]
    disk.crash_after = random.randrange(60)
    written = list(synced)
    try:
        for _ in range(30):
            add(journal, random.randrange(1, 5), term=1 + len(written) // 20)
            written = journal[:]
            journal.sync()
            synced = journal[:]
            if random.random() < 0.3:
                journal.mark_synced()
            if random.random() < 0.15 and len(journal) > 4:
                position = random.randrange(2, len(journal))
                synced = journal[:position]
                journal.deleteEntriesFrom(position)
                written = journal[:]
    except DiskDiedError:
        pass
    if random.random() < 0.5:
        disk.lose_power()
    disk.kill()
    found = reopen(disk)
    assert found[: len(synced)] == synced
    assert found == written[: len(found)]
    assert reopen(disk) == found


def test_a_torn_end_that_was_never_synced_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk(Random(0))
    journal = new_journal(disk)
    add(journal, 3)
    journal.sync()
    journal.mark_synced()
    end = journal.size_bytes
    before = journal[:]
    add(journal, 1)
    journal.sync()
    whole = content(disk)
    for cut in range(end, journal.size_bytes):
        disk.replace(PATH, whole[:cut] + bytes(len(whole) - cut))
        assert reopen(disk) == before
    assert "journal_tail_cut" in caplog.text


def test_a_cut_end_takes_new_entries() -> None:
    disk = MemoryDisk(Random(0))
    journal = new_journal(disk)
    add(journal, 3)
    journal.sync()
    journal.mark_synced()
    data = content(disk)
    disk.replace(PATH, data[: journal.size_bytes] + b"\x01\x02\x03torn" + data[journal.size_bytes + 7 :])
    opened = Journal.open(disk, FOLDER, VoteStore.open(disk, FOLDER))
    add(opened, 2)
    opened.sync()
    assert reopen(disk) == opened[:]


def test_rule_25_a_flipped_byte_below_the_synced_end_stops_the_start() -> None:
    disk = MemoryDisk(Random(0))
    journal = new_journal(disk)
    for _ in range(4):
        add(journal, 2)
        journal.sync()
    journal.mark_synced()
    whole = content(disk)
    for offset in range(journal.size_bytes):
        disk.replace(PATH, whole)
        disk.flip_byte(PATH, offset)
        with pytest.raises(DataFolderError, match=r"metadata.journal: corrupt at byte .*readmit"):
            reopen(disk)


def test_rule_25_damage_before_a_later_group_stops_the_start_even_past_the_noted_end() -> None:
    disk = MemoryDisk(Random(0))
    journal = new_journal(disk)
    add(journal, 1)
    journal.sync()
    begin = journal.size_bytes
    add(journal, 3)
    journal.sync()
    middle = journal.size_bytes
    add(journal, 1)
    journal.sync()
    whole = content(disk)
    for offset in range(begin, middle):
        disk.replace(PATH, whole)
        disk.flip_byte(PATH, offset)
        with pytest.raises(DataFolderError, match="a whole one follows"):
            reopen(disk)


@pytest.mark.parametrize("data", [b"", b"KLAMMRJ1", bytes(4096), b"\x80\x04pickle" * 100])
def test_rule_25_a_file_that_is_no_journal_stops_the_start(data: bytes) -> None:
    disk = MemoryDisk(Random(0))
    new_journal(disk)
    disk.replace(PATH, data)
    with pytest.raises(DataFolderError, match="corrupt"):
        reopen(disk)


def test_rule_25_a_journal_without_entries_stops_the_start() -> None:
    disk = MemoryDisk(Random(0))
    new_journal(disk)
    disk.replace(PATH, content(disk)[:HEADER_SIZE])
    with pytest.raises(DataFolderError, match="corrupt"):
        reopen(disk)


def test_a_journal_with_a_term_that_the_vote_file_does_not_know_stops_the_start() -> None:
    disk = MemoryDisk(Random(0))
    journal = new_journal(disk)
    add(journal, 1, term=9)
    journal.sync()
    VoteStore.open(disk, FOLDER).store(8, None)
    with pytest.raises(DataFolderError, match="entries of term 9, but quorum-state knows of 8 only"):
        reopen(disk)


def test_nothing_counts_as_committed_before_it_is_synced() -> None:
    journal = new_journal(MemoryDisk(Random(0)))
    add(journal, 5)
    assert journal.synced_index == 1
    journal.setRaftCommitIndex(4)
    assert journal.synced_index == 6


def test_compaction_keeps_the_rest() -> None:
    disk = MemoryDisk(Random(0))
    journal = new_journal(disk)
    add(journal, 50)
    journal.sync()
    kept = journal[30:]
    journal.deleteEntriesTo(30)
    assert journal.first_index == 31
    assert reopen(disk) == kept
    add(journal, 3)
    journal.sync()
    assert reopen(disk) == journal[:]


def test_entries_must_follow_one_another() -> None:
    journal = new_journal(MemoryDisk(Random(0)))
    with pytest.raises(InvariantError):
        journal.add(b"\x00", 3, 1)
    journal.add(b"\x00", 2, 5)
    with pytest.raises(InvariantError):
        journal.add(b"\x00", 3, 4)
    with pytest.raises(InvariantError):
        journal.clear()


def test_on_a_real_disk(tmp_path: Path) -> None:
    disk = PosixFileSystem()
    votes = VoteStore.create(disk, tmp_path)
    journal = Journal.create(disk, tmp_path, votes, [(NO_OP, 1, 0)])
    votes.store(3, None)
    for _ in range(50):
        add(journal, 10)
        journal.sync()
    journal.deleteEntriesFrom(400)
    journal.deleteEntriesTo(100)
    add(journal, 5, term=3)
    journal.sync()
    expected = journal[:]
    journal._destroy()
    opened = Journal.open(disk, tmp_path, VoteStore.open(disk, tmp_path))
    assert opened[:] == expected
    opened._destroy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metadata.journal", "quorum-state"]
