"""What one thread of a client program did, in a file of its own, so that kill -9 at any moment leaves it whole.

Each line is an operation as harness/history.py writes it, after one character: `?` for one that begins, `=` for one
that has ended. The last `?` without its `=` is what was under way when the program was killed: it becomes `unknown`,
for whatever it had asked of the cluster may yet happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.history import HistoryError, Operation, Sent, from_line, to_line


class Journal:
    """Written by one thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x", encoding="utf-8", buffering=1)

    def begin(self, operation: Operation) -> None:
        """Before the operation: what it is about to do."""
        self._file.write(f"?{to_line(operation)}")

    def end(self, operation: Operation) -> None:
        """After it: what came of it."""
        self._file.write(f"={to_line(operation)}")

    def close(self) -> None:
        """The thread has ended."""
        self._file.close()


def read_journal(path: Path, gone_ns: int | None) -> Iterator[Operation]:
    """The operations in a journal, in their order.

    `gone_ns`: when the program was killed. What was under way ended then, as unknown, and its process crashed.
    None: it ended in good order, and so did its operations.
    """
    began: Operation | None = None
    last: Operation | None = None
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                break  # killed while it wrote
            operation = _operation(line[1:])
            if line[0] == "?":
                began = operation
            else:
                began = None
                last = operation
                yield operation
    if gone_ns is None:
        if began is not None:
            raise HistoryError(f"{path}: an operation has no end, and its program was not killed: {began}")
        return
    if began is not None:
        last = _given_up(began, gone_ns)
        yield last
    if last is not None and last.kind != "crash":
        yield Operation(last.process, last.client, "crash", gone_ns, gone_ns, "ok")


def _given_up(began: Operation, gone_ns: int) -> Operation:
    sends = tuple(Sent(sent.partition, sent.value, "unknown") for sent in began.sends)
    return replace(began, ended_ns=gone_ns, outcome="unknown", sends=sends, error="the client was killed")


def _operation(text: str) -> Operation:
    entry = from_line(text)
    if not isinstance(entry, Operation):
        raise HistoryError(f"a client wrote what is no operation: {text[:80]!r}")
    return entry
