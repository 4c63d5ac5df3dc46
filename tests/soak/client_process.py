"""A client of the soak as its parent sees it: started, told its rate, listened to, ended."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

CLIENT: Final = Path(__file__).with_name("client.py")
END_SECONDS_MAX: Final = 150.0

Line = Mapping[str, Any]


class ClientError(Exception):
    """A client ended before it was told to, or did not end."""


class ClientProcess:
    """Runs from the moment it is made. What it writes to stderr goes to `log`."""

    def __init__(self, name: str, options: Mapping[str, Any], log: Path, on_line: Callable[[int, Line], None]) -> None:
        self.name = name
        self._log = log
        self._on_line = on_line
        self._latest: Line = {}
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, str(CLIENT), json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self._thread = threading.Thread(target=self._listen, name=f"listen-{name}")
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            self._latest = line
            self._on_line(self._process.pid, line)

    def running_pid(self) -> int | None:
        """None once it has ended."""
        return self._process.pid if self._process.poll() is None else None

    @property
    def done(self) -> int:
        """Records acked, or read, as it last said."""
        return int(self._latest.get("done", 0))

    def order(self, line: str) -> None:
        """:raises ClientError: it has ended by itself."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ClientError(f"{self.name} has ended: {self._log.read_text()[-2000:]}") from error

    def end(self) -> Line:
        """Asks it to finish; its last line.

        :raises ClientError: it failed, or did not finish in time.
        """
        self.order("end")
        try:
            code = self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            raise ClientError(f"{self.name} did not finish within {END_SECONDS_MAX:g} s") from error
        self._thread.join()
        if code != 0 or not self._latest.get("final"):
            raise ClientError(f"{self.name} ended with {code}: {self._log.read_text()[-2000:]}")
        return self._latest

    def kill(self) -> None:
        """Ends it at once, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """Frees what is left of it after it has ended or was killed."""
        self._process.wait()
        self._thread.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was still to be told to one that is gone
                    stream.close()
