"""Metadata (key 3), versions 0 to 13.

    0    no topics in the request stands for all of them; replicas that are not alive are left out
    1    null stands for all topics, none for none; controller id, rack, internal topics
    2    cluster id
    3    throttle time
    4    automatic creation may be forbidden (KIP-204)
    5    offline replicas
    6    LISTENER_NOT_FOUND where LEADER_NOT_AVAILABLE was said before
    7    leader epochs (KIP-320)
    8    authorized operations (KIP-430); 11 has those of the cluster no more
    9    flexible
    10   topic ids in the answer (KIP-516)
    12   topics asked for by id; by name no more, as soon as one is
    13   an error of the whole answer (KIP-1102), which there is none of here

A topic that is created because it was asked for is described as soon as it is there, as the gRPC door does; if that
takes too long, or cannot be, it is UNKNOWN_TOPIC_OR_PARTITION, which Apache Kafka says at first in any case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...cluster.image import MetadataImage
from ...proto.errors import ErrorCode
from ...proto.identifiers import TopicId
from . import authorized_operations
from .fields import topic_id
from .messages import NO_THROTTLE, get, make
from .metadata_encoding import EncodedTopics
from .rooms import RequestContext
from .topic_view import alive_brokers, broker_fields, controller_id


async def handle(request: Any, context: RequestContext) -> bytes:
    """Brokers and topics of the image that this broker has now, as bytes."""
    rooms = context.rooms.admin
    asked = request.topics
    if asked is None or (not asked and context.api_version == 0):
        image = rooms.image()
        return await _answer(request, context, image, sorted(image.topics), ())
    if context.api_version < 12 and any(topic.name is None or get(topic, "topic_id", None) for topic in asked):
        return _refused(request, context)
    ids = dict.fromkeys(found for topic in asked if (found := topic_id(get(topic, "topic_id", None))) is not None)
    if ids:
        image = rooms.image()
        names = [name for wanted in ids if (name := image.topic_names.get(wanted)) is not None]
        return await _answer(request, context, image, names, [each for each in ids if each not in image.topic_names])
    names = list(dict.fromkeys(topic.name for topic in asked if topic.name is not None))
    if get(request, "allow_auto_topic_creation", True):
        await rooms.create_missing(names)
    return await _answer(request, context, rooms.image(), names, ())


async def _answer(
    request: Any, context: RequestContext, image: MetadataImage, names: Iterable[str], unknown_ids: Iterable[TopicId]
) -> bytes:
    encoded = _encoded_topics(request, context, image)
    found = [image.topics[name] for name in names if name in image.topics]
    topics = await encoded.topics(found)
    topics += [encoded.missing(name) for name in names if name not in image.topics]
    topics += [encoded.unknown_id(wanted) for wanted in unknown_ids]
    return encoded.whole(_without_topics(request, context, image), topics)


def _refused(request: Any, context: RequestContext) -> bytes:
    """Before version 12 a topic has a name, and no id (KIP-516)."""
    image = context.rooms.image()
    encoded = _encoded_topics(request, context, image)
    topics = [encoded.refused(topic.name, topic_id(get(topic, "topic_id", None))) for topic in request.topics]
    return encoded.whole(_without_topics(request, context, image), topics)


def _encoded_topics(request: Any, context: RequestContext, image: MetadataImage) -> EncodedTopics:
    asked = get(request, "include_topic_authorized_operations", False)
    operations = authorized_operations.TOPIC if asked else authorized_operations.NOT_ASKED
    return context.rooms.topic_descriptions.of(image, context.api_version, operations)


def _without_topics(request: Any, context: RequestContext, image: MetadataImage) -> Any:
    schema = context.schema
    alive = alive_brokers(image)
    asked = get(request, "include_cluster_authorized_operations", False)
    return make(
        schema.MetadataResponse,
        throttle_time=NO_THROTTLE,
        brokers=tuple(
            make(schema.MetadataResponseBroker, node_id=broker_id, **broker_fields(image, broker_id, endpoint))
            for broker_id, endpoint in alive.items()
        ),
        cluster_id=image.cluster_id,
        controller_id=controller_id(context.rooms.broker_id, alive),
        topics=(),
        cluster_authorized_operations=authorized_operations.CLUSTER if asked else authorized_operations.NOT_ASKED,
        error_code=ErrorCode.NONE,
    )
