"""How a node writes its log: one line an event, whatever a client put into the words of it.

A group id, a topic or a client id may hold a line break: written as it is, it would look like a line of its own.
"""

from __future__ import annotations

import logging


class LineFormatter(logging.Formatter):
    """`time level node=<role>-<id> logger message`; control characters of the message are escaped.

    A traceback, which is the node's own text, follows on lines of its own.
    """

    def __init__(self, node: str) -> None:
        """`node` is "broker-1" or the like."""
        super().__init__(f"%(asctime)s %(levelname)s node={node} %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        if not record.message.isprintable():
            record.message = "".join(
                character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
                for character in record.message
            )
        return super().formatMessage(record)
