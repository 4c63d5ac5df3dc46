"""What one thread of a client program did, in a file of its own, so that kill -9 at any moment leaves it whole.

Each line is an operation as harness/history.py writes it, after one character: `?` for one that begins, `=` for one
that has ended. Sends may overlap, so an end names its operation by the time at which it began: no two of a thread begin
at one. A `?` without its `=` was under way when the program was killed: it becomes `unknown`, for whatever it had asked
of the cluster may yet happen.
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
    """The operations in a journal, in the order in which they began.

    `gone_ns`: when the program was killed. What was under way ended then, as unknown, and its process crashed.
    None: it ended in good order, and so did its operations.
    """
    began: dict[int, Operation] = {}  # by the time at which it began, as are those that have ended
    ended: dict[int, Operation] = {}
    last: Operation | None = None
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                break  # killed while it wrote
            operation = _operation(line[1:])
            if line[0] == "?" or operation.began_ns not in began:  # some are written once, when they have ended
                began[operation.began_ns] = operation
            if line[0] == "=":
                ended[operation.began_ns] = operation
                while began and (first := next(iter(began))) in ended:
                    last = ended.pop(first)
                    del began[first]
                    yield last
    if gone_ns is None:
        if began:
            raise HistoryError(f"{path}: {len(began)} operations without an end, and their program was not killed")
        return
    for began_ns, operation in began.items():
        last = ended[began_ns] if began_ns in ended else _given_up(operation, gone_ns)
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
