"""What a controller commits first when it becomes active, and blocks of producer ids (KIP-730)."""

from __future__ import annotations

import re
from typing import Final

from ..cluster.image import MetadataImage
from ..cluster.records import cluster_record, controller_change_record, producer_ids_record
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerEpoch, BrokerId, ControllerEpoch, NodeId, ProducerId
from .brokers import broker_epoch_error
from .limits import PRODUCER_ID_BLOCK_SIZE
from .result import ControllerResult, refused

_CLUSTER_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_PRODUCER_ID_END: Final = 2**63 - 1


def decide_become_controller(image: MetadataImage, command: command_pb2.BecomeControllerCommand) -> ControllerResult:
    """Takes over from every controller of a lower epoch. The same controller may say so twice."""
    if command.controller_id < 0:
        return refused(ErrorCode.INVALID_REQUEST, f"controller id {command.controller_id} is below 0")
    if command.controller_epoch == image.controller_epoch and command.controller_id == image.controller_id:
        return ControllerResult((), CommandResponse())
    if command.controller_epoch <= image.controller_epoch:
        return refused(
            ErrorCode.NOT_CONTROLLER,
            f"controller {image.controller_id} is active under epoch {image.controller_epoch}",
        )
    records = []
    if image.cluster_id is None:
        if not _CLUSTER_ID.fullmatch(command.proposed_cluster_id):
            return refused(
                ErrorCode.INVALID_REQUEST, "the first controller proposes a cluster id of 22 base64 characters"
            )
        records.append(cluster_record(command.proposed_cluster_id))
    records.append(controller_change_record(NodeId(command.controller_id), ControllerEpoch(command.controller_epoch)))
    return ControllerResult(tuple(records), CommandResponse())


def decide_allocate_producer_ids(
    image: MetadataImage, command: command_pb2.AllocateProducerIdsCommand
) -> ControllerResult:
    """Gives a broker the next block of producer ids; none is ever given twice."""
    error = broker_epoch_error(image, command.broker_id, command.broker_epoch)
    if error is not None:
        return refused(error.error_code, error.message)
    start = image.next_producer_id
    if start > _PRODUCER_ID_END - PRODUCER_ID_BLOCK_SIZE:
        return refused(ErrorCode.UNKNOWN_SERVER_ERROR, "every producer id has been given away")
    record = producer_ids_record(
        BrokerId(command.broker_id), BrokerEpoch(command.broker_epoch), ProducerId(start + PRODUCER_ID_BLOCK_SIZE)
    )
    result = command_pb2.AllocateProducerIdsResult(producer_id_start=start, producer_id_len=PRODUCER_ID_BLOCK_SIZE)
    return ControllerResult((record,), CommandResponse(allocate_producer_ids=result))
