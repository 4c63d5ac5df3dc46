"""`klamm groups ...` as the command line has it; `cli_groups.py` does it."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli_output import BootstrapServers, Json, client_errors

groups_app = typer.Typer(
    help="List and describe consumer groups, reset their offsets, delete them.", no_args_is_help=True
)


@groups_app.command("list")
def list_groups(
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Stable, Empty, ...; may be given several times.")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Lists the groups and their states."""
    from . import cli_groups

    with client_errors():
        cli_groups.list_all(bootstrap_servers, state or [], as_json)


@groups_app.command("describe")
def describe_groups(
    groups: Annotated[list[str] | None, typer.Argument(help="Default: all.")] = None,
    members: Annotated[bool, typer.Option("--members", help="The members and what they have.")] = False,
    state: Annotated[bool, typer.Option("--state", help="State, coordinator and assignor.")] = False,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Shows where a group is in each partition, and how far behind its end (lag)."""
    from . import cli_groups

    if members and state:
        raise typer.BadParameter("--members and --state exclude each other")
    with client_errors():
        view = "members" if members else "state" if state else "offsets"
        cli_groups.describe(bootstrap_servers, groups or None, view, as_json)


@groups_app.command("reset-offsets")
def reset_offsets(
    group: str,
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", "-t", metavar="TOPIC[:P,...]", help="May be given several times."),
    ] = None,
    all_topics: Annotated[bool, typer.Option("--all-topics", help="All that the group has committed.")] = False,
    to_earliest: Annotated[bool, typer.Option("--to-earliest")] = False,
    to_latest: Annotated[bool, typer.Option("--to-latest")] = False,
    to_current: Annotated[bool, typer.Option("--to-current", help="What is committed now.")] = False,
    to_offset: Annotated[int | None, typer.Option("--to-offset", min=0, metavar="N")] = None,
    shift_by: Annotated[int | None, typer.Option("--shift-by", metavar="N", help="Negative: back.")] = None,
    by_duration: Annotated[
        str | None, typer.Option("--by-duration", metavar="P1DT2H", help="So long ago, as ISO 8601 has it.")
    ] = None,
    to_datetime: Annotated[
        str | None, typer.Option("--to-datetime", metavar="TIME", help="2026-01-31T12:00:00, or ms since 1970.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute/--dry-run", help="Does it; default: only shows it.")] = False,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Sets where a group without members goes on; shows only what would be, unless --execute is given."""
    from . import cli_groups

    wanted = {
        "to-earliest": to_earliest or None,
        "to-latest": to_latest or None,
        "to-current": to_current or None,
        "to-offset": to_offset,
        "shift-by": shift_by,
        "by-duration": by_duration,
        "to-datetime": to_datetime,
    }
    reset = cli_groups.parse_reset({name: value for name, value in wanted.items() if value is not None})
    if bool(topic) == all_topics:
        raise typer.BadParameter("give --topic or --all-topics, one of them")
    scope = None if all_topics else cli_groups.parse_scope(topic or [])
    with client_errors():
        cli_groups.reset_offsets(bootstrap_servers, group, scope, reset, execute, as_json)


@groups_app.command("delete")
def delete_groups(groups: list[str], bootstrap_servers: BootstrapServers = None) -> None:
    """Deletes groups without members, with all that they have committed."""
    from . import cli_groups

    with client_errors():
        cli_groups.delete(bootstrap_servers, groups)
