"""Runs the small programs that set up hosts and disks: ip, tc, mount. What they complain of is never lost."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


class ShellCommandError(Exception):
    """A program ended with another code than 0; the message has its words."""


def run(*command: str, standard_input: str | None = None) -> str:
    """What the program prints. :raises ShellCommandError: it failed, or is not there."""
    try:
        done = subprocess.run(command, input=standard_input, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ShellCommandError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        fed = "" if standard_input is None else f" (given {standard_input!r})"
        raise ShellCommandError(f"{' '.join(command)}{fed}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def succeeds(commands: Sequence[Sequence[str]]) -> bool:
    """True if all of them end with code 0, one after another; stops at the first that does not."""
    try:
        for command in commands:
            run(*command)
    except ShellCommandError:
        return False  # the caller asked whether it can be done: this is the answer
    return True
