"""A disk that fills up and is emptied again, and a wall clock that is moved. Where the machine allows it."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.clock_shift import ClockShift
from chaos.disk import SmallDisk, unmount_leftovers
from harness.waiting import wait_for

_MEBIBYTE = 1 << 20
# It waits for an event that never comes: libfaketime does not get along with how Python's `sleep` asks the kernel.
_CLOCK = """
import threading, time
while True:
    print(int(time.time() - time.monotonic()), flush=True)
    threading.Event().wait(0.05)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "disk", 4 * _MEBIBYTE)
    made.mount()
    if not made.can_fill:
        pytest.skip("nothing can be mounted here")
    yield made
    unmount_leftovers(tmp_path)


def test_a_full_disk_takes_nothing_until_it_is_freed(disk: SmallDisk, tmp_path: Path) -> None:
    data = tmp_path / "disk" / "data"
    disk.fill(0)
    with pytest.raises(OSError) as refused:
        data.write_bytes(b"x" * 100_000)
    assert refused.value.errno == errno.ENOSPC
    disk.free()
    data.write_bytes(b"x" * 100_000)


def test_what_is_on_a_disk_stays_when_it_is_taken_away(disk: SmallDisk, tmp_path: Path) -> None:
    data = tmp_path / "disk" / "data"
    data.write_bytes(b"records")
    disk.fill(_MEBIBYTE)
    disk.unmount()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["data"]
    assert data.read_bytes() == b"records"


def test_a_clock_is_moved_and_set_right_while_its_process_runs(tmp_path: Path) -> None:
    clocks = ClockShift(tmp_path)
    if not clocks.can_shift:
        assert clocks.command("broker-1", ["true"]) == ["true"]
        pytest.skip("libfaketime is not installed, or does not work with this Python")
    clocks.prepare(["broker-1", "broker-2"])
    command = clocks.command("broker-1", [sys.executable, "-I", "-S", "-c", _CLOCK])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            right = int(process.stdout.readline())

            def offset() -> int:
                assert process.stdout is not None
                return int(process.stdout.readline()) - right

            clocks.set("broker-2", 500)
            clocks.set("broker-1", -7200)
            wait_for(lambda: -7210 < offset() < -7190)
            clocks.set("broker-1", 0)
            wait_for(lambda: -10 < offset() < 10)
        finally:
            process.kill()


def test_the_cleaner_pauses_with_a_moved_clock(tmp_path: Path) -> None:
    clocks = ClockShift(tmp_path)
    if not clocks.can_shift:
        pytest.skip("libfaketime is not installed")
    clocks.prepare(["broker-1"])
    code = "from klamm.broker.log.cleaning import Pace; Pace(bytes_per_second_max=100).worked(1, lambda: False)"
    subprocess.run(clocks.command("broker-1", [sys.executable, "-c", code]), check=True)
