"""A controller's data folder: new, member, wiped, re-admitted, damaged."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from harness.memory_disk import DiskDiedError, MemoryDisk
from harness.raft_network import FOLDER, RaftNetwork
from klamm.controller import format as format_command
from klamm.controller.quorum_folder import MARKER, FolderState, QuorumFolder, format_new, readmit
from klamm.controller.raft_contract import DataFolderError
from klamm.proto.identifiers import NodeId

VOTERS = [NodeId(0), NodeId(1), NodeId(2)]


def open_folder(disk: MemoryDisk, node_id: int = 0, voters: list[NodeId] = VOTERS) -> QuorumFolder | None:
    return QuorumFolder.open(FOLDER, node_id=NodeId(node_id), voters=voters, file_system=disk)


def member() -> MemoryDisk:
    disk = MemoryDisk(Random(0))
    format_new(FOLDER, "q", file_system=disk)
    folder = open_folder(disk)
    assert folder is not None and folder.properties.state is FolderState.MEMBER
    folder.journal.setCurrentTerm(1, NodeId(1))
    folder.journal.add(b"\x00x", 2, 1)
    folder.journal.sync()
    folder.close()
    return disk


def test_a_folder_without_a_marker_is_not_opened() -> None:
    disk = MemoryDisk(Random(0))
    assert open_folder(disk) is None
    assert disk.names(FOLDER) == []


def test_a_formatted_folder_is_opened_and_becomes_a_members() -> None:
    folder = open_folder(member())
    assert folder is not None
    assert (folder.journal.last_index, folder.journal.getCurrentTerm(), folder.is_learner) == (2, 1, False)
    assert folder.properties.quorum_id == "q"


@pytest.mark.parametrize("name", ["metadata.journal", "quorum-state"])
def test_rule_25_a_member_whose_file_is_gone_does_not_start_as_empty(name: str) -> None:
    disk = member()
    disk.move(FOLDER / name, Path("/elsewhere") / name)
    with pytest.raises(DataFolderError, match=rf"{name}: missing.*readmit"):
        open_folder(disk)


def test_rule_25_a_missing_snapshot_is_noticed_by_the_journal() -> None:
    network = RaftNetwork(3)
    for node_id in network.voters:
        network.start(node_id)
    network.run(1_000)
    for number in range(40):
        network.propose(f"c{number}")
        network.run(20)
    network.kill(NodeId(1))
    network.controllers[NodeId(1)].disk.move(FOLDER / "metadata.snapshot", Path("/elsewhere/x"))
    with pytest.raises(DataFolderError, match=r"metadata.snapshot: missing or old"):
        network.start(NodeId(1))


@pytest.mark.parametrize("name", ["metadata.journal", "quorum-state"])
def test_files_without_a_marker_stop_the_start(name: str) -> None:
    disk = member()
    disk.move(FOLDER / MARKER, Path("/elsewhere") / MARKER)
    with pytest.raises(DataFolderError, match=r"quorum.properties: missing, yet"):
        open_folder(disk)


def test_a_damaged_marker_stops_the_start() -> None:
    disk = member()
    for offset in range(len(disk.read(FOLDER / MARKER) or b"")):
        disk.flip_byte(FOLDER / MARKER, offset)
        with pytest.raises(DataFolderError, match=r"quorum.properties: "):
            open_folder(disk)
        disk.flip_byte(FOLDER / MARKER, offset)
    assert open_folder(disk) is not None


def test_a_first_start_that_died_anywhere_can_be_repeated() -> None:
    for learner in (False, True):
        for operations in range(8):
            disk = MemoryDisk(Random(operations))
            if learner:
                readmit(FOLDER, "q", learner_id=7, file_system=disk)
            else:
                format_new(FOLDER, "q", file_system=disk)
            disk.crash_after = operations
            try:
                open_folder(disk)
            except DiskDiedError:
                pass
            disk.lose_power()
            folder = open_folder(disk)
            assert folder is not None
            assert folder.is_learner is learner
            assert folder.journal.last_index == 1


def test_a_new_marker_over_an_old_journal_stops_the_start() -> None:
    disk = member()
    fresh = MemoryDisk(Random(0))
    format_new(FOLDER, "q", file_system=fresh)
    disk.replace(FOLDER / MARKER, fresh.read(FOLDER / MARKER) or b"")
    with pytest.raises(DataFolderError, match="says that this is a new quorum, but"):
        open_folder(disk)


def test_another_controllers_folder_is_refused() -> None:
    with pytest.raises(DataFolderError, match="is controller 0's data folder, not controller 1's"):
        open_folder(member(), 1)


def test_the_voters_do_not_change() -> None:
    with pytest.raises(DataFolderError, match=r"voters are \[0, 1, 2\], but controller.quorum.voters says \[0, 1\]"):
        open_folder(member(), 0, VOTERS[:2])


def test_formatting_twice_is_refused() -> None:
    for disk in (member(), MemoryDisk(Random(0))):
        if not disk.names(FOLDER):
            format_new(FOLDER, "q", file_system=disk)
        with pytest.raises(DataFolderError, match="would forget what it has acked"):
            format_new(FOLDER, "q", file_system=disk)


def test_a_controller_that_has_its_files_is_readmitted_only_when_they_are_set_aside() -> None:
    disk = member()
    with pytest.raises(DataFolderError, match="--set-aside"):
        readmit(FOLDER, "q", learner_id=5, file_system=disk)
    readmit(FOLDER, "q", learner_id=5, set_aside=True, file_system=disk)
    assert disk.names(FOLDER / "set-aside-0000000000000005") == ["metadata.journal", "quorum-state", MARKER]
    folder = open_folder(disk)
    assert folder is not None
    assert (folder.is_learner, folder.properties.learner_id, folder.journal.last_index) == (True, 5, 1)
    folder.admit()
    folder.close()
    again = open_folder(disk)
    assert again is not None and not again.is_learner and again.properties.learner_id == 0


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    format_new(tmp_path, "q")
    first = QuorumFolder.open(tmp_path, node_id=NodeId(0), voters=VOTERS)
    assert first is not None
    for _ in range(2):
        with pytest.raises(DataFolderError, match="another process uses this data folder"):
            QuorumFolder.open(tmp_path, node_id=NodeId(0), voters=VOTERS)
    with pytest.raises(DataFolderError, match="another process"):
        readmit(tmp_path, "q", learner_id=1, set_aside=True)
    first.close()
    second = QuorumFolder.open(tmp_path, node_id=NodeId(0), voters=VOTERS)
    assert second is not None
    second.close()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--data-folder", str(tmp_path / "c0")]
    assert format_command.main(["new", *folder, "--quorum-id", "q"]) == 0
    assert "ready to start" in capsys.readouterr().out
    assert format_command.main(["new", *folder, "--quorum-id", "q"]) == 1
    assert "use readmit" in capsys.readouterr().err
    assert format_command.main(["readmit", *folder, "--quorum-id", "q"]) == 1
    assert format_command.main(["readmit", *folder, "--quorum-id", "q", "--set-aside"]) == 0
    assert format_command.main(["new", "--data-folder", str(tmp_path / "c1"), "--quorum-id", "a b"]) == 1
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        format_command.main(["new"])
    assert exit_info.value.code == 2
    opened = QuorumFolder.open(tmp_path / "c0", node_id=NodeId(0), voters=VOTERS)
    assert opened is not None and opened.is_learner
    opened.close()
