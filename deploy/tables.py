"""Tables for people. Rich is imported when one is printed, so that the command's help does not wait for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .cluster_status import ClusterStatus, TopicStatus

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH: Final = 240
"""Columns where nobody's terminal says how many there are: nothing is cut."""


def console() -> Console:
    """Standard output, with colour and its own width on a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """One table; None is shown as a dash."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console().print(table)


def print_nodes(status: ClusterStatus) -> None:
    """The table of `klamm up`: who runs where."""
    rows = [
        (n.node, n.role, n.pid, n.kafka_address, n.address, shown_path(n.data_folder), n.state) for n in status.nodes
    ]
    print_table("nodes", ("node", "role", "pid", "Kafka", "gRPC", "data folder", "state"), rows)


def print_status(status: ClusterStatus) -> None:
    """The tables of `klamm status`."""
    controllers = [n for n in status.nodes if n.role == "controller"]
    brokers = [n for n in status.nodes if n.role != "controller"]
    title = f"controllers (term {'-' if status.controller_epoch is None else status.controller_epoch})"
    leaders = [(n.node, n.pid, n.address, n.process, "yes" if n.is_leader else "", n.lag) for n in controllers]
    print_table(title, ("node", "pid", "address", "process", "leader", "lag"), leaders)
    fencing = {True: "fenced", False: "unfenced", None: None}
    rows = [(n.node, n.pid, n.kafka_address, n.address, n.process, fencing[n.fenced], n.broker_epoch) for n in brokers]
    print_table("brokers", ("node", "pid", "Kafka", "gRPC", "process", "fenced", "epoch"), rows)
    if status.topics is None:
        console().print("topics: no broker answers")
    else:
        columns = ("topic", "partitions", "under-replicated", "offline")
        print_table("topics", columns, [_topic_row(topic) for topic in status.topics])


def shown_path(path: str) -> str:
    """The path as seen from the current folder if it lies below."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _topic_row(topic: TopicStatus) -> tuple[object, ...]:
    return topic.topic, topic.partitions, _numbers(topic.under_replicated), _numbers(topic.offline)


def _numbers(partitions: Sequence[int]) -> str:
    shown = ", ".join(str(partition) for partition in partitions[:10])
    return f"{len(partitions)} ({shown}{', ...' if len(partitions) > 10 else ''})" if partitions else "0"
