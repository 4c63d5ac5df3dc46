"""Nothing of a cluster is left, also when its owner is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from harness.fake_cluster import FAKE_NODE, fake_cluster
from harness.waiting import wait_for
from klamm.deploy import reaper
from klamm.deploy.node_process import ProcessIdentity, ProcessState

OWNER = """
import sys
from harness.fake_cluster import fake_cluster
cluster = fake_cluster()
{before}
cluster.start(wait=False)
print(cluster.data_folder, *(node.pid for node in cluster.nodes()), flush=True)
{after}
sys.stdin.read()
"""


def _owner(before: str = "", after: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER.format(before=before, after=after)],
        env={**os.environ, "PYTHONPATH": str(FAKE_NODE.parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _kill_and_check(owner: subprocess.Popen[str]) -> None:
    assert owner.stdout is not None and owner.stdin is not None
    folder, *pids = owner.stdout.readline().split()
    assert Path(folder).exists()
    owner.kill()
    owner.wait()
    # A node that has ended may be a zombie for a while: whoever inherits orphans takes its time.
    wait_for(lambda: not any(reaper.process_start_time(int(pid)) for pid in pids) and not Path(folder).exists())
    owner.stdin.close()
    owner.stdout.close()


def test_owner_killed() -> None:
    _kill_and_check(_owner())


def test_owner_killed_with_a_paused_node() -> None:
    _kill_and_check(_owner(after="cluster.pause(1)"))


def test_owner_killed_before_it_could_report_its_nodes() -> None:
    _kill_and_check(_owner(before="cluster._tell_reaper = cluster._processes._on_spawn = lambda node: None"))


def test_owner_killed_while_a_fork_of_it_lives() -> None:
    # The fork has the pipe open still: its end of file never comes, the owner's end must be noticed all the same.
    fork = "import os, signal\nif os.fork() == 0:\n    os.close(1)\n    sys.stdin.read()\n    os._exit(0)"
    _kill_and_check(_owner(after=fork))


def test_reaper_ignores_ctrl_c_and_termination() -> None:
    cluster = fake_cluster()
    cluster.start(wait=False)
    assert cluster._reaper is not None
    wait_for(lambda: _catches_nothing(cluster._reaper.pid if cluster._reaper else 0))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        cluster._reaper.send_signal(number)
    folder = cluster.data_folder
    cluster.close()  # raises if the reaper did not end in order
    assert not folder.exists()


def _catches_nothing(pid: int) -> bool:
    """True once the process ignores SIGTERM: until then it is not there yet."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return True
    ignored = next(line for line in status.read_text().splitlines() if line.startswith("SigIgn"))
    return bool(int(ignored.split()[1], 16) & (1 << (signal.SIGTERM - 1)))


def test_a_reused_pid_is_never_hit() -> None:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        start_time = reaper.process_start_time(other.pid)
        assert start_time is not None
        assert not reaper.signal_process(other.pid, start_time + "0", signal.SIGKILL)
        assert ProcessIdentity(other.pid, start_time + "0").state() is ProcessState.DOWN
        assert ProcessIdentity(other.pid, start_time).state() is ProcessState.RUNNING
        assert reaper.signal_process(other.pid, start_time, signal.SIGKILL)
        other.wait()
        assert not reaper.signal_process(other.pid, start_time, signal.SIGKILL)


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert reaper.process_start_time(child.pid) is None
    child.wait()
