"""Whose data this is: `meta.properties` in the data folder, as Kafka's (version 1), and the lock beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ...proto.identifiers import BrokerId
from .checkpoints import decode_uuid, encode_uuid
from .errors import LogDirectoryError
from .file_system import FileSystem, read_file, write_file_atomically

META_PROPERTIES: Final = "meta.properties"
LOCK: Final = ".lock"


@dataclass(frozen=True, slots=True)
class MetaProperties:
    """`cluster_id` is None until the broker has heard from its cluster for the first time."""

    node_id: BrokerId
    directory_id: UUID
    cluster_id: str | None = None

    def encode(self) -> str:
        """The file's text."""
        lines = ["#", "version=1", f"node.id={self.node_id}", f"directory.id={encode_uuid(self.directory_id)}"]
        if self.cluster_id is not None:
            lines.append(f"cluster.id={self.cluster_id}")
        return "\n".join(lines) + "\n"


def read_meta_properties(file_system: FileSystem, folder: str) -> MetaProperties | None:
    """None if there is no file. :raises LogDirectoryError: it cannot be read."""
    path = f"{folder}/{META_PROPERTIES}"
    try:
        text = read_file(file_system, path).decode()
        entries = dict(
            line.split("=", 1) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
        )
        if entries["version"] != "1":
            raise LogDirectoryError(f"{path} has version {entries['version']!r}; only 1 is known")
        node_id, directory_id = BrokerId(int(entries["node.id"])), decode_uuid(entries["directory.id"])
        return MetaProperties(node_id, directory_id, entries.get("cluster.id"))
    except FileNotFoundError:
        return None
    except (KeyError, ValueError) as error:
        raise LogDirectoryError(
            f"{path} is damaged ({error}); restore it, or move the folder {folder} away to start this broker empty"
        ) from error


def write_meta_properties(file_system: FileSystem, folder: str, properties: MetaProperties) -> None:
    """Replaces the file at one stroke, and makes sure of it on disk."""
    write_file_atomically(file_system, f"{folder}/{META_PROPERTIES}", properties.encode().encode())
    file_system.sync_folder(folder)


def check_owner(folder: str, found: MetaProperties, node_id: BrokerId, cluster_id: str | None) -> None:
    """:raises LogDirectoryError: the folder holds the data of another node, or of another cluster."""
    if found.node_id != node_id:
        raise LogDirectoryError(
            f"{folder} holds the data of broker {found.node_id}, not of broker {node_id}; "
            "set log.dirs to this broker's own folder, or correct node.id"
        )
    if cluster_id is not None and found.cluster_id is not None and found.cluster_id != cluster_id:
        raise LogDirectoryError(
            f"{folder} holds data of the cluster {found.cluster_id}, not of {cluster_id}; set log.dirs to another "
            "folder, or the controllers' addresses to the right cluster"
        )


class FolderLock:
    """Keeps a second process out of the folder, for as long as this one lives.

    :raises LogDirectoryError: another process has it.
    """

    def __init__(self, file_system: FileSystem, folder: str) -> None:
        path = f"{folder}/{LOCK}"
        self._file_system = file_system
        try:
            self._descriptor = file_system.lock(path)
        except BlockingIOError as error:
            holder = read_file(file_system, path).decode(errors="replace").strip()
            by = f" by process {holder}" if holder.isdecimal() else ""
            raise LogDirectoryError(f"{folder} is in use{by}; stop that process, or set log.dirs elsewhere") from error
        file_system.truncate(self._descriptor, 0)
        file_system.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets another process in."""
        self._file_system.close(self._descriptor)
