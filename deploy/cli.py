"""The klamm command: clusters on this machine, and all of the client's commands.

Exit codes: 0 done, 1 failed, 2 used wrongly. What a command needs is imported inside it: `klamm --help` is quick.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..client.cli import register
from ..client.cli_output import Json, client_errors
from .cli_nodes import FOLDER, Folder, node_commands
from .errors import DeployError
from .layout import BROKER, CONTROLLER
from .node_process import ProcessState
from .standing_cluster import ClusterPlan, StandingCluster, exists, lock, remove

app = typer.Typer(
    name="klamm",
    help="A replicated, partitioned log: Kafka's model, Raft controllers, a cluster from one command.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
broker_app = typer.Typer(
    help="Stop, hang and start single brokers of the cluster in this folder.", no_args_is_help=True
)
controller_app = typer.Typer(help="The same for controllers.", no_args_is_help=True)
demo_app = typer.Typer(help="Demonstrations, each with a cluster of its own.", no_args_is_help=True)
app.add_typer(node_commands(BROKER), name=BROKER)
app.add_typer(node_commands(CONTROLLER), name=CONTROLLER)
app.add_typer(demo_app, name="demo")
register(app)


def main() -> None:
    """The entry point of the klamm command."""
    try:
        app()
    except DeployError as error:
        print(f"klamm: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def up(
    brokers: Annotated[int | None, typer.Option(min=1, max=100, help="How many brokers (3).")] = None,
    controllers: Annotated[int | None, typer.Option(help="How many controllers: 1, 3 or 5 (3).")] = None,
    broker_port: Annotated[int | None, typer.Option(min=1, max=65435, help="gRPC port of broker 1 (9192).")] = None,
    controller_port: Annotated[int | None, typer.Option(min=1, max=65435, help="Port of controller 1 (9292).")] = None,
    kafka_port: Annotated[int | None, typer.Option(min=1, max=65435, help="Kafka port of broker 1 (9092).")] = None,
    folder: Folder = FOLDER,
) -> None:
    """Starts a cluster that outlives this command; where there is one that was stopped, starts it again."""
    from .tables import print_nodes

    if controllers not in (None, 1, 3, 5):
        raise typer.BadParameter("a quorum has 1, 3 or 5 controllers", param_hint="--controllers")
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        cluster = _existing_or_new(folder, brokers, controllers, broker_port, controller_port, kafka_port)
        states = cluster.states()
        is_new_start = set(states.values()) == {ProcessState.DOWN}
        if is_new_start:
            cluster.start()
        print_nodes(cluster.status())
    if is_new_start:
        print("The cluster is up. Bootstrap servers:")
        print(f"  for Kafka clients:  {cluster.layout.kafka_bootstrap_servers}")
        print(f"  for Klamm's (gRPC): {cluster.layout.bootstrap_servers}")
        return
    ways = {ProcessState.DOWN: "start", ProcessState.PAUSED: "resume"}
    wanting = {name: ways[state] for name, state in states.items() if state in ways}
    if not wanting:
        print("The cluster was up already.")
        return
    print("The cluster is up in part. To bring back what is missing:")
    for name, way in wanting.items():
        print(f"  klamm {name.replace('-', f' {way} ')}")
    raise typer.Exit(1)


@app.command()
def down(folder: Folder = FOLDER) -> None:
    """Stops the cluster in good order, brokers one by one; data stays."""
    if not exists(folder):
        print(f"There is no cluster in {folder}.")
        return
    with lock(folder):
        cluster = StandingCluster.load(folder)
        was_down = all(state is ProcessState.DOWN for state in cluster.states().values())
        killed = cluster.stop(on_progress=print)
    if killed:
        print(f"klamm: did not stop in time and had to be killed: {', '.join(killed)}", file=sys.stderr)
        raise typer.Exit(1)
    print("The cluster was down already." if was_down else "The cluster is down. Its data stays.")


@app.command()
def status(folder: Folder = FOLDER, as_json: Json = False) -> None:
    """Controllers, brokers, and topics with partitions that lack replicas or a leader."""
    from .tables import print_status

    found = StandingCluster.load(folder).status()
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print_status(found)
    if len(found.nodes_down) == len(found.nodes):
        print("klamm: the cluster is down; `klamm up` starts it", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, folder: Folder = FOLDER
) -> None:
    """Removes the cluster in this folder with all its data, after asking. It must be down."""
    if not exists(folder):
        print(f"There is no cluster in {folder}.")
        return
    if not yes and not typer.confirm(f"Remove {folder.absolute()} with all topics and records?"):
        raise typer.Exit(1)
    with lock(folder):
        remove(folder)
    print(f"{folder} is removed.")


@demo_app.command("failover")
def demo_failover(
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live view, also on a terminal.")] = False,
    keep: Annotated[Path | None, typer.Option(help="A new folder for data and logs, which stays afterwards.")] = None,
    lines: Annotated[int | None, typer.Option(min=1, help="Only so many lines, instead of all (some 20 MB).")] = None,
) -> None:
    """Kills brokers and controllers under load, then checks every record; exits 1 if one was lost."""
    from .demo import run_failover_demo

    if keep is not None and keep.exists():
        raise typer.BadParameter(f"{keep} is there already", param_hint="--keep")
    with client_errors():
        code = run_failover_demo(plain=plain or not sys.stdout.isatty(), keep=keep, lines_max=lines)
    raise typer.Exit(code)


def _existing_or_new(
    folder: Path,
    brokers: int | None,
    controllers: int | None,
    broker_port: int | None,
    controller_port: int | None,
    kafka_port: int | None,
) -> StandingCluster:
    if not exists(folder):
        default = ClusterPlan()
        plan = ClusterPlan(
            brokers=brokers or default.brokers,
            controllers=controllers or default.controllers,
            first_broker_port=broker_port or default.first_broker_port,
            first_controller_port=controller_port or default.first_controller_port,
            first_kafka_port=kafka_port or default.first_kafka_port,
        )
        return StandingCluster.create(folder, plan)
    cluster = StandingCluster.load(folder)
    is_down = set(cluster.states().values()) == {ProcessState.DOWN}
    if not cluster.layout.kafka_bootstrap_servers and is_down:
        cluster = cluster.with_kafka_ports(kafka_port)
    layout = cluster.layout
    asked_and_there = (
        ("brokers", brokers, len(layout.brokers)),
        ("controllers", controllers, len(layout.controllers)),
        ("broker-port", broker_port, layout.brokers[0].port),
        ("controller-port", controller_port, layout.controllers[0].port),
        ("kafka-port", kafka_port, layout.brokers[0].kafka_port),
    )
    for name, asked, there in asked_and_there:
        if asked is not None and asked != there:
            message = f"the cluster in {folder} has {there}; `klamm clean` removes it, --folder takes another place"
            raise typer.BadParameter(message, param_hint=f"--{name}")
    return cluster
