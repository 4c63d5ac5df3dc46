"""InitProducerId (key 22), versions 0 to 5: an id for an idempotent producer (KIP-98).

    2    flexible
    3    producer id and epoch that the client has (KIP-360)
    4    PRODUCER_FENCED, for transactions
    5    TRANSACTION_ABORTABLE, for transactions (KIP-890)

Without a transactional id the answer is a new producer id with epoch 0, whatever id the client had, as in Apache Kafka:
such a client raises its epoch by itself. Transactional ids are refused for good: there are no transactions yet.
"""

from __future__ import annotations

import logging
from typing import Any

from ...proto.errors import ErrorCode, KafkaError
from ...proto.identifiers import NONE_ID
from .messages import NO_THROTTLE, get
from .rooms import RequestContext

logger = logging.getLogger(__name__)


async def handle(request: Any, context: RequestContext) -> Any:
    """An id from this broker's block, or why there is none."""
    producer_id, epoch = get(request, "producer_id", NONE_ID), get(request, "producer_epoch", NONE_ID)
    if (producer_id == NONE_ID) != (epoch == NONE_ID) or request.transactional_id == "":
        return _refused(context, ErrorCode.INVALID_REQUEST)
    if request.transactional_id is not None:
        logger.info(
            "transactional_producer_refused client_id=%r transactional_id=%r",
            context.client_id,
            request.transactional_id[:80],
        )
        return _refused(context, ErrorCode.UNSUPPORTED_VERSION)
    try:
        new_id = await context.rooms.producer_ids.next_id()
    except KafkaError as error:
        # Kafka's clients try again after this one, and may give up after others.
        return _refused(context, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if error.retriable else error.error_code)
    return context.schema.InitProducerIdResponse(
        throttle_time=NO_THROTTLE, error_code=ErrorCode.NONE, producer_id=new_id, producer_epoch=0
    )


def _refused(context: RequestContext, error: ErrorCode) -> Any:
    return context.schema.InitProducerIdResponse(
        throttle_time=NO_THROTTLE, error_code=error, producer_id=NONE_ID, producer_epoch=NONE_ID
    )
