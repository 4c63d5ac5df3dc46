"""What the commands share: options, output for people and for programs, errors without a stack trace."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..proto.errors import KafkaConfigurationError, KafkaError

if TYPE_CHECKING:
    from .admin import Admin

BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        envvar="KLAMM_BOOTSTRAP_SERVERS",
        metavar="HOST:PORT,...",
        help="Default: 127.0.0.1:9192,127.0.0.1:9193,127.0.0.1:9194.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]

_REQUEST_TIMEOUT_MS = 10_000
_PIPED_WIDTH = 200


@contextmanager
def client_errors() -> Iterator[None]:
    """Ends the command with one line and an exit code instead of a stack trace: 1 failed, 2 used wrongly."""
    logging.getLogger("klamm").addHandler(logging.NullHandler())  # what matters is told as the command's own error
    logging.getLogger("klamm").propagate = False
    try:
        yield
    except KafkaConfigurationError as error:
        fail(str(error), code=2)
    except KafkaError as error:
        fail(str(error))
    except BrokenPipeError:
        # Who read our output has gone; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def fail(message: str, *, code: int = 1) -> None:
    """:raises typer.Exit: after one line on standard error."""
    print(f"klamm: {message}", file=sys.stderr)
    raise typer.Exit(code)


@contextmanager
def connected_admin(bootstrap_servers: str | None) -> Iterator[Admin]:
    """An admin client. :raises NodeNotReadyError: no broker answers, told at once instead of after a time-out."""
    from .admin import Admin

    with Admin(
        bootstrap_servers=bootstrap_servers, client_id="klamm-cli", request_timeout_ms=_REQUEST_TIMEOUT_MS
    ) as admin:
        admin.check_connection()
        yield admin


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """ "KEY=VALUE" texts. :raises typer.BadParameter: one is none."""
    found = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint=option)
        found[key] = value
    return found


def print_json(content: Any) -> None:
    """One document on standard output."""
    print(json.dumps(content, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people; None is shown as a dash. Nothing is cut where the output is no terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False).print(table)
