"""The data commands of `klamm`: topics, groups, produce, consume, brokers, dump-log. Mounted by deploy.

What a command needs is imported when it runs: `klamm --help` must not wait for grpc or rich.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_groups_app import groups_app
from .cli_output import BootstrapServers, Json, client_errors

topics_app = typer.Typer(help="Create, list, describe, alter and delete topics.", no_args_is_help=True)

Configs = Annotated[list[str] | None, typer.Option("--config", metavar="KEY=VALUE", help="May be given several times.")]


def register(app: typer.Typer) -> None:
    """Adds the data commands to the klamm command."""
    app.add_typer(topics_app, name="topics")
    app.add_typer(groups_app, name="groups")
    app.command("produce")(produce)
    app.command("consume")(consume)
    app.command("brokers")(brokers)
    app.command("dump-log")(dump_log)


@topics_app.command("create")
def create_topic(
    name: str,
    partitions: Annotated[int | None, typer.Option("--partitions", "-p", help="Default: the cluster's.")] = None,
    replication_factor: Annotated[
        int | None, typer.Option("--replication-factor", "-r", help="Default: 3, or as many brokers as there are.")
    ] = None,
    config: Configs = None,
    if_not_exists: Annotated[bool, typer.Option("--if-not-exists", help="A topic that is there is no error.")] = False,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Creates a topic."""
    from . import cli_topics

    with client_errors():
        cli_topics.create(bootstrap_servers, name, partitions, replication_factor, config or [], if_not_exists, as_json)


@topics_app.command("list")
def list_topics(bootstrap_servers: BootstrapServers = None, as_json: Json = False) -> None:
    """Lists all topics."""
    from . import cli_topics

    with client_errors():
        cli_topics.list_all(bootstrap_servers, as_json)


@topics_app.command("describe")
def describe_topics(
    names: Annotated[list[str] | None, typer.Argument(help="Default: all.")] = None,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Shows partitions, leaders, replicas and configuration."""
    from . import cli_topics

    with client_errors():
        cli_topics.describe(bootstrap_servers, names or None, as_json)


@topics_app.command("alter")
def alter_topic(
    name: str,
    partitions: Annotated[int | None, typer.Option("--partitions", "-p", help="The new total; only more.")] = None,
    config: Configs = None,
    delete_config: Annotated[
        list[str] | None, typer.Option("--delete-config", metavar="KEY", help="Back to the default.")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Adds partitions, sets or deletes configuration."""
    from . import cli_topics

    if partitions is None and not config and not delete_config:
        raise typer.BadParameter("give --partitions, --config or --delete-config")
    with client_errors():
        cli_topics.alter(bootstrap_servers, name, partitions, config or [], delete_config or [])


@topics_app.command("delete")
def delete_topics(names: list[str], bootstrap_servers: BootstrapServers = None) -> None:
    """Deletes topics with all their records."""
    from . import cli_topics

    with client_errors():
        cli_topics.delete(bootstrap_servers, names)


def produce(
    topic: str,
    file: Annotated[Path | None, typer.Option("--file", "-f", exists=True, dir_okay=False, readable=True)] = None,
    key_separator: Annotated[
        str | None, typer.Option("--key-separator", "-k", help="A line is KEY, this, VALUE. Default: no keys.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="For every record.")
    ] = None,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0)] = None,
    compression: Annotated[str, typer.Option("--compression", "-z", help="none, gzip, snappy, lz4, zstd.")] = "none",
    acks: Annotated[str, typer.Option("--acks", help="all, 1 or 0.")] = "all",
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Writes each line of standard input, or of a file, as a record."""
    from . import cli_produce

    if key_separator == "":
        raise typer.BadParameter("an empty separator separates nothing", param_hint="--key-separator")
    with client_errors():
        cli_produce.produce(
            bootstrap_servers, topic, file, key_separator, header or [], partition, compression, acks, as_json
        )


def consume(
    topic: str,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", "-b", help="As --offset earliest.")] = False,
    offset: Annotated[
        str | None, typer.Option("--offset", "-o", help="earliest, latest (default), N, or -N for the last N records.")
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option("--timestamp", "-t", help="From then on: ms since 1970 or 2026-01-31T12:00:00.")
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", "-p", min=0, help="Default: all. May be given several times.")
    ] = None,
    max_messages: Annotated[int | None, typer.Option("--max-messages", "-n", min=0, help="Ends after so many.")] = None,
    exit_at_end: Annotated[bool, typer.Option("--exit-at-end", "-e", help="Ends where the log ends now.")] = False,
    group: Annotated[
        str | None, typer.Option("--group", "-g", help="Shares the partitions with its other members, and commits.")
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="%t topic, %p partition, %o offset, %k key, %s value, %T timestamp (ms), %D time, %h headers, "
            "%K and %S their sizes, %e leader epoch, %% percent, \\n, \\t. Default: %s\\n",
        ),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Prints records as they come, until Ctrl-C, --max-messages or --exit-at-end."""
    from . import cli_consume

    chosen = [
        name
        for name, given in (
            ("--from-beginning", from_beginning),
            ("--offset", offset is not None),
            ("--timestamp", timestamp is not None),
        )
        if given
    ]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} exclude each other")
    if as_json and output_format is not None:
        raise typer.BadParameter("--format and --json exclude each other")
    if group is not None and (partition or timestamp is not None or offset not in (None, "earliest", "latest")):
        raise typer.BadParameter(
            "a group goes on where it has committed: only --offset earliest or latest goes with it"
        )
    start = cli_consume.parse_start("earliest" if from_beginning else offset, timestamp)
    layout = cli_consume.parse_format(output_format) if not as_json else None
    with client_errors():
        cli_consume.consume(bootstrap_servers, topic, partition, start, max_messages, exit_at_end, layout, group)


def brokers(bootstrap_servers: BootstrapServers = None, as_json: Json = False) -> None:
    """Lists the brokers of the cluster."""
    from . import cli_topics

    with client_errors():
        cli_topics.brokers(bootstrap_servers, as_json)


def dump_log(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A .log file.")],
    records: Annotated[bool, typer.Option("--records", "-r", help="Shows the records too.")] = False,
    as_json: Json = False,
) -> None:
    """Shows the batches of a segment and checks their CRCs; exit code 1 if one is damaged."""
    from . import cli_dump_log

    with client_errors():
        cli_dump_log.dump(file, records, as_json)
