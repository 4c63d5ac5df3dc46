"""Under which broker epoch, and since which start of the machine, a data folder is written to.

Kafka cannot tell a process that was killed from a machine that lost its power: after either there is no clean-shutdown
marker, and it distrusts both (KIP-966). But kill -9 takes nothing from a log, for the kernel has what was written. The
system's boot id tells the two apart: where it is still the one that was noted when the broker registered, the machine
has not been off, and the log is whole. The marker is not synced, so that whatever drops what the disk was not asked to
keep drops it too; a disk that failed takes it away as well, for after a failed sync the kernel may have given up what
it could not write. Only where the disk lets it be neither removed nor overwritten, it goes on to vouch, until the
machine is started anew: an operator learns that from the broker's own log.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Final

from ...proto.identifiers import BrokerEpoch
from .file_system import FileSystem, read_file, remove_if_present, write_file_atomically

logger = logging.getLogger(__name__)

RUN_MARKER: Final = ".klamm_run"
_VERSION: Final = 0


class RunMarker:
    """That of one data folder. It may be called from any thread; all calls block."""

    def __init__(self, file_system: FileSystem, folder: str) -> None:
        self._file_system = file_system
        self._path = f"{folder}/{RUN_MARKER}"
        # Held from the look at `may_vouch` until the marker is there, so that it cannot appear behind its removal.
        self._lock = threading.Lock()
        self.may_vouch = True
        """False once a log has failed under this process: only recovery, at the next start, tells what is left."""

    def take(self) -> BrokerEpoch | None:
        """Removes the marker, and returns the epoch in it; None if the machine was off since, or nobody knows.

        :raises OSError: the disk failed.
        """
        epoch = self._read()
        remove_if_present(self._file_system, self._path)
        return epoch

    def write(self, broker_epoch: BrokerEpoch) -> None:
        """Notes the epoch of a registration, before anything is written under it. Where the system has no boot id,
        there is no marker; nor where it cannot be written: then the next start is less trusted, and that is all.
        """
        boot_id = self._file_system.boot_id()
        content = {"version": _VERSION, "brokerEpoch": broker_epoch, "bootId": boot_id}
        text = json.dumps(content, separators=(",", ":"))
        with self._lock:
            if not self.may_vouch or boot_id is None:
                self._remove()
                return
            try:
                write_file_atomically(self._file_system, self._path, text.encode(), sync=False)
            except OSError as error:
                logger.error("run_marker_not_written path=%s epoch=%d error=%s", self._path, broker_epoch, error)
                self._remove()

    def vouch_for_nothing(self) -> None:
        """A log has failed: what of it is on the disk, and stays there, nobody knows."""
        self.may_vouch = False
        with self._lock:
            self._remove()

    def _read(self) -> BrokerEpoch | None:
        try:
            content = json.loads(read_file(self._file_system, self._path))
            if content["version"] != _VERSION or content["bootId"] != self._file_system.boot_id():
                return None
            return BrokerEpoch(int(content["brokerEpoch"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None

    def _remove(self) -> None:
        try:
            remove_if_present(self._file_system, self._path)
        except OSError as error:
            logger.warning("run_marker_not_removed path=%s error=%s", self._path, error)
            self._empty()

    def _empty(self) -> None:
        try:
            descriptor = self._file_system.open(self._path)
            try:
                self._file_system.truncate(descriptor, 0)
            finally:
                self._file_system.close(descriptor)
        except OSError as error:
            logger.error("run_marker_still_vouches path=%s error=%s", self._path, error)
