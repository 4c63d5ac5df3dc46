"""Under which broker epoch, and since which start of the machine, a data folder is written to.

Kafka cannot tell a process that was killed from a machine that lost its power: after either there is no clean-shutdown
marker, and it distrusts both (KIP-966). But kill -9 takes nothing from a log, for the kernel has what was written. The
system's boot id tells the two apart: where it is still the one that was noted when the broker registered, the machine
has not been off, and the log is whole. The marker is not synced, so that whatever drops what the disk was not asked to
keep drops it too; a disk that failed takes it away as well, for after a failed sync the kernel may have given up what
it could not write.
"""

from __future__ import annotations

import json
from typing import Final

from ...proto.identifiers import BrokerEpoch
from .file_system import FileSystem, read_file, remove_if_present, write_file_atomically

RUN_MARKER: Final = ".klamm_run"
_VERSION: Final = 0


def write_run_marker(file_system: FileSystem, folder: str, broker_epoch: BrokerEpoch) -> None:
    """Notes the epoch of a registration, before anything is written under it. Where the system has no boot id, there
    is no marker.

    :raises OSError: the disk failed.
    """
    boot_id = file_system.boot_id()
    if boot_id is None:
        remove_run_marker(file_system, folder)
        return
    content = {"version": _VERSION, "brokerEpoch": broker_epoch, "bootId": boot_id}
    text = json.dumps(content, separators=(",", ":"))
    write_file_atomically(file_system, f"{folder}/{RUN_MARKER}", text.encode(), sync=False)


def read_run_marker(file_system: FileSystem, folder: str) -> BrokerEpoch | None:
    """The epoch in the marker; None if the machine was off since, or nobody knows. :raises OSError: the disk failed."""
    try:
        content = json.loads(read_file(file_system, f"{folder}/{RUN_MARKER}"))
        if content["version"] != _VERSION or content["bootId"] != file_system.boot_id():
            return None
        return BrokerEpoch(int(content["brokerEpoch"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None


def remove_run_marker(file_system: FileSystem, folder: str) -> None:
    """From here on nobody vouches for what is in the logs. :raises OSError: the disk failed."""
    remove_if_present(file_system, f"{folder}/{RUN_MARKER}")
