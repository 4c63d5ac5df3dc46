"""One line an event."""

from __future__ import annotations

import logging
import sys

from klamm.cluster.log_format import LineFormatter


def line(message: str, *arguments: object, exc_info: object = None) -> str:
    record = logging.LogRecord("klamm.x", logging.INFO, "x.py", 1, message, arguments, exc_info)  # type: ignore[arg-type]
    return LineFormatter("broker-1").format(record)


def test_an_event_is_one_line_whatever_a_client_called_its_group() -> None:
    text = line("group_loaded group=%s", "a\n2026-11-21 CRITICAL node=broker-9 all is lost\r\x1b[2J\u2028")
    assert text.splitlines() == [text]
    assert "node=broker-1 klamm.x group_loaded group=a\\n2026" in text
    assert "\x1b" not in text


def test_other_alphabets_stay_as_they_are() -> None:
    assert line("topic=%s", "größe-日本").endswith("topic=größe-日本")


def test_a_traceback_stays_readable() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        text = line("failed", exc_info=sys.exc_info())
    assert "Traceback (most recent call last):\n" in text
