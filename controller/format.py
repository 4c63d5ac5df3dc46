"""`python -m klamm.controller.format`: prepares a controller's data folder.

    new      once for each controller of a brand-new quorum (`--new-quorum` does the same at the first start)
    readmit  for a controller whose folder was wiped or is damaged; --set-aside keeps what is there in a folder beside

Both take `--config F`, the controller's configuration file, or what they need of it: `--data-folder D --quorum-id Q`.

`readmit` is safe only while a majority of the controllers, this one not counted, still has its data. The controller
then starts empty, learns everything from the leader and becomes a voter by itself once it has caught up.

Exit code: 0 done, 1 refused (the message says why and what to do), 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from ..proto.errors import KafkaConfigurationError
from .config import ControllerConfig
from .quorum_folder import MARKER, format_new, readmit
from .raft_contract import DataFolderError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m klamm.controller.format", description="Prepares a data folder.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (
        ("new", "a controller of a brand-new quorum"),
        ("readmit", "a wiped controller joins its quorum again"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--config", type=Path, metavar="F", help="the controller's configuration file")
        command.add_argument("--data-folder", type=Path, help="metadata.log.dir of the controller")
        command.add_argument("--quorum-id", help="controller.quorum.id: the same on all controllers of the quorum")
        if name == "readmit":
            command.add_argument("--set-aside", action="store_true", help="move files that are there away first")
    given = parser.parse_args(arguments)
    if given.config is None and (given.data_folder is None or given.quorum_id is None):
        parser.error("give --config, or --data-folder and --quorum-id")
    try:
        folder, quorum_id = _folder_and_quorum(given)
        if given.command == "new":
            format_new(folder, quorum_id)
        else:
            readmit(folder, quorum_id, learner_id=secrets.randbits(62) + 1, set_aside=given.set_aside)
    except KafkaConfigurationError as error:
        print(f"{given.config}: {error}", file=sys.stderr)
        return 2
    except (DataFolderError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder}: ready to start ({given.command}, quorum {quorum_id})")
    return 0


def format_if_empty(config: ControllerConfig) -> None:
    """What `--new-quorum` does before a start: formats the folder unless it was formatted before.

    :raises DataFolderError: it has no marker and yet holds a controller's files
    """
    if not (config.metadata_log_dir / MARKER).exists():
        format_new(config.metadata_log_dir, config.quorum_id)


def _folder_and_quorum(given: argparse.Namespace) -> tuple[Path, str]:
    """From the configuration file, where one is given; what is given besides comes first."""
    folder: Path | None = given.data_folder
    quorum_id: str | None = given.quorum_id
    if folder is None or quorum_id is None:
        config = ControllerConfig.load(given.config)
        folder, quorum_id = folder or config.metadata_log_dir, quorum_id or config.quorum_id
    return folder, quorum_id


if __name__ == "__main__":
    sys.exit(main())
