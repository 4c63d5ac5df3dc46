"""The reaper: when the owner of a cluster is gone, it kills the cluster's nodes and removes its folder.

A script of its own, run as `python -I -S reaper.py OWNER_PID TOKEN [FOLDER]`, so that it starts in 10 ms and holds
almost no memory; it may import the standard library alone. The owner writes one line "PID START_TIME" per node to its
standard input and closes that to say "now". The end of the owner, by whatever cause, closes it too: the kernel sees to
that, also after SIGKILL. Where a fork of the owner's keeps the pipe open, the owner's pidfd tells.

PR_SET_PDEATHSIG would be the obvious way. It fires when the *thread* that started the node ends, it leaves the folder,
and it is Linux only.

Exit codes: 0 nothing is left, 1 something is.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TOKEN_VARIABLE = "KLAMM_CLUSTER_TOKEN"
"""In the environment of every node: says whose it is, for a node that was started but not yet reported."""
KILL_SECONDS_MAX = 10.0


def process_start_time(pid: int) -> str | None:
    """When the process started, as a string that no other process of this pid will ever have; None if there is none.

    A zombie counts as none: it has ended.
    """
    if not os.path.isdir("/proc/self"):
        return _start_time_from_ps(pid)
    fields = _stat_fields(pid)
    if fields is None or fields[0] in ("Z", "X"):
        return None
    return f"{_boot_id()}/{fields[19]}"


def process_is_stopped(pid: int) -> bool:
    """True if the process is there and stopped (SIGSTOP)."""
    if not os.path.isdir("/proc/self"):
        return _ps(pid, "state=").startswith("T")
    fields = _stat_fields(pid)
    return fields is not None and fields[0] == "T"


def signal_process(pid: int, start_time: str, signal_number: int) -> bool:
    """Sends a signal to exactly this process, never to another that got its pid; False if it is gone."""
    try:
        pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except OSError:
        return False
    try:
        if process_start_time(pid) != start_time:
            return False
        if pidfd is None:
            os.kill(pid, signal_number)
        else:
            signal.pidfd_send_signal(pidfd, signal_number)
    except ProcessLookupError:
        return False
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return True


def processes_with_token(token: str) -> set[tuple[int, str]]:
    """Every process that bears the token in its environment; none where the system does not show environments."""
    found: set[tuple[int, str]] = set()
    if not os.path.isdir("/proc/self"):
        return found
    wanted = f"{TOKEN_VARIABLE}={token}".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as environ:
                bears_it = wanted in environ.read().split(b"\0")
        except OSError:
            continue  # another user's, or gone meanwhile
        start_time = process_start_time(int(name))
        if bears_it and start_time is not None:
            found.add((int(name), start_time))
    return found


def main(arguments: list[str]) -> int:
    """Waits for the owner's end, then cleans up."""
    owner_pid, token = int(arguments[0]), arguments[1]
    folder = arguments[2] if len(arguments) > 2 else None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nodes = _nodes_when_owner_is_gone(owner_pid)
    all_gone = _kill(nodes, token)
    return 0 if _remove(folder) and all_gone else 1


def _nodes_when_owner_is_gone(owner_pid: int) -> set[tuple[int, str]]:
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    try:
        poll.register(os.pidfd_open(owner_pid), select.POLLIN)
    except (OSError, AttributeError):
        pass  # gone already, or no pidfds here: the pipe alone tells
    received = b""
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        chunk = os.read(0, 65536) if 0 in ready else b""
        received += chunk
        if not chunk:
            break
    lines = (line.decode().split(" ") for line in received.splitlines() if line.count(b" ") == 1)
    return {(int(pid), start_time) for pid, start_time in lines}


def _kill(nodes: set[tuple[int, str]], token: str) -> bool:
    deadline = time.monotonic() + KILL_SECONDS_MAX
    while time.monotonic() < deadline:
        nodes |= processes_with_token(token)
        nodes = {(pid, start_time) for pid, start_time in nodes if signal_process(pid, start_time, signal.SIGKILL)}
        if not nodes:
            return True
        time.sleep(0.005)
    return False


def _remove(folder: str | None) -> bool:
    if folder is None or not os.path.lexists(folder):
        return True
    import shutil  # here: it costs more than all the rest, and the owner waits for the start

    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name, which may hold spaces and brackets: state is the first."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()
    except OSError:
        return None


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot_id:
            return boot_id.read().strip()
    except OSError:
        return ""


def _start_time_from_ps(pid: int) -> str | None:
    started = _ps(pid, "lstart=").replace(" ", "_")
    return started if started and not _ps(pid, "state=").startswith("Z") else None


def _ps(pid: int, column: str) -> str:
    import subprocess

    return subprocess.run(
        ["ps", "-o", column, "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
