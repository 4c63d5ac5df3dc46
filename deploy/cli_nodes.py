"""`klamm broker ...` and `klamm controller ...`: stop, hang and start single nodes of the cluster in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from .layout import CONTROLLER, NodeSpec, Role
from .standing_cluster import StandingCluster, lock

FOLDER: Final = Path(".klamm")
Folder = Annotated[Path, typer.Option(help="The folder that holds the cluster: configuration, logs, data.")]
NodeNumber = Annotated[int, typer.Argument(metavar="N", help="The number of the node, from 1.")]


def node_commands(role: Role) -> typer.Typer:
    """The commands for nodes of one role."""
    app = typer.Typer(help=f"Kill, pause, resume and start single {role}s.", no_args_is_help=True)

    @app.command()
    def kill(number: NodeNumber, folder: Folder = FOLDER) -> None:
        """kill -9."""
        _do(folder, role, number, lambda cluster, spec: cluster.processes.kill(spec))
        print(f"{role}-{number} is killed; `klamm {role} start {number}` brings it back.")

    @app.command()
    def pause(number: NodeNumber, folder: Folder = FOLDER) -> None:
        """SIGSTOP: the process keeps its connections and does nothing."""
        _do(folder, role, number, lambda cluster, spec: cluster.processes.pause(spec))
        print(f"{role}-{number} is paused; `klamm {role} resume {number}` lets it go on.")

    @app.command()
    def resume(number: NodeNumber, folder: Folder = FOLDER) -> None:
        """SIGCONT, after pause."""
        _do(folder, role, number, lambda cluster, spec: cluster.processes.resume(spec))
        print(f"{role}-{number} goes on.")

    @app.command()
    def start(number: NodeNumber, folder: Folder = FOLDER) -> None:
        """Starts one that is down, and waits until it serves (a broker: until it is unfenced)."""
        _do(folder, role, number, lambda cluster, spec: cluster.start_node(spec))
        print(f"{role}-{number} is up.")

    if role == CONTROLLER:
        app.command()(readmit)
    return app


def readmit(
    number: NodeNumber,
    set_aside: Annotated[bool, typer.Option("--set-aside", help="Keep damaged files in a folder beside.")] = False,
    folder: Folder = FOLDER,
) -> None:
    """Lets a controller that lost its data join its quorum again, empty; the others must have theirs.

    Start it afterwards: it learns from the leader before it votes.
    """
    _do(folder, CONTROLLER, number, lambda cluster, spec: cluster.readmit(spec, set_aside=set_aside))
    print(f"controller-{number} may join again; `klamm controller start {number}` starts it.")


def _do(folder: Path, role: Role, number: int, action: Callable[[StandingCluster, NodeSpec], None]) -> None:
    with lock(folder):
        cluster = StandingCluster.load(folder)
        try:
            spec = cluster.layout.node(f"{role}-{number}")
        except KeyError as error:
            raise typer.BadParameter(error.args[0], param_hint="N") from error
        action(cluster, spec)
