"""What deciding a command yields: records to commit and an answer. An error is an answer without records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.metadata_pb2 import MetadataRecord


@dataclass(frozen=True, slots=True)
class ControllerResult:
    """Records, in order, that are committed together, and the answer to who asked."""

    records: tuple[MetadataRecord, ...]
    response: CommandResponse

    @property
    def error_code(self) -> ErrorCode:
        """The error of the command as a whole."""
        return ErrorCode.of(self.response.error_code)


def refused(error_code: ErrorCode, message: str = "") -> ControllerResult:
    """The command as a whole is not carried out."""
    return ControllerResult((), CommandResponse(error_code=error_code, error_message=message or error_code.message))


class ItemError(NamedTuple):
    """Why one item of a command (a topic, a partition) is not carried out while its neighbours may be."""

    error_code: ErrorCode
    message: str

    @classmethod
    def of(cls, error_code: ErrorCode, message: str = "") -> ItemError:
        """With the table's words where there are no better ones."""
        return cls(error_code, message or error_code.message)
