"""Sees to it that nothing of a campaign stays, however it ends: `python -m chaos.guard PID START_TIME TOKEN FOLDER`.

It waits for the end of its standard input, which the campaign holds open, and that of the campaign itself. Then it
kills every process that bears the campaign's token and removes its namespaces, its bridge and its disks. What the
campaign has removed itself by then is not there any more, and that is well.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from chaos.disk import unmount_leftovers
from chaos.network import owners_of_leftovers, remove_links_and_namespaces
from klamm.deploy.reaper import process_start_time, processes_with_token, signal_process

FOLDER_PREFIX: Final = "klamm-chaos-"
TOKEN_FILE: Final = "token"
"""In the folder of a campaign that has not come to its end: what its processes have in their environment."""
_KILL_SECONDS_MAX: Final = 10.0
_POLL_SECONDS: Final = 0.02


def start_guard(token: str, folder: Path) -> subprocess.Popen[bytes]:
    """The guard of this process; close its standard input when all is removed."""
    start_time = process_start_time(os.getpid()) or ""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "chaos.guard", str(os.getpid()), start_time, token, str(folder)],
        stdin=subprocess.PIPE,
        cwd="/",
        start_new_session=True,  # Ctrl-C is not for it
    )


def sweep(owner: int, token: str | None, folder: Path) -> None:
    """Removes all that the campaign with this pid made. :raises ShellCommandError: something cannot be removed."""
    deadline = time.monotonic() + _KILL_SECONDS_MAX
    while token is not None and (alive := processes_with_token(token)) and time.monotonic() < deadline:
        for pid, start_time in alive:
            signal_process(pid, start_time, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    unmount_leftovers(folder)
    if owner in owners_of_leftovers():
        remove_links_and_namespaces(owner)


def sweep_dead_campaigns(parent: Path) -> list[str]:
    """Removes what campaigns left whose processes are gone; says in words what that was.

    Such are campaigns that were killed. What one that came to its end has written stays: there is no token with it.
    """
    folders = {
        int(match.group(1)): folder
        for folder in sorted(parent.glob(f"{FOLDER_PREFIX}*"))
        if (match := re.fullmatch(rf"{FOLDER_PREFIX}(\d+)", folder.name)) and (folder / TOKEN_FILE).exists()
    }
    swept = []
    for owner in sorted(owners_of_leftovers() | set(folders)):
        if process_start_time(owner) is not None:
            continue  # it lives, or another has its pid: then it waits for the next campaign
        folder = folders.get(owner, parent / f"{FOLDER_PREFIX}{owner}")
        token_file = folder / TOKEN_FILE
        sweep(owner, token_file.read_text(encoding="ascii") if token_file.exists() else None, folder)
        shutil.rmtree(folder, ignore_errors=True)
        swept.append(f"removed what the campaign of process {owner} had left")
    return swept


def main() -> int:
    """Waits for the campaign's end, then sweeps."""
    owner, start_time, token, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while process_start_time(owner) == start_time and not poll.poll(1000):
        continue
    sweep(owner, token, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
