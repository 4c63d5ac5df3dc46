"""What groups need to know of the cluster's topics. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...cluster.image import MetadataImage
from ...proto.identifiers import TopicId
from .consumer_group_records import TopicMetadata


class TopicsView(Protocol):
    """The topics at one offset of the metadata log."""

    @property
    def version(self) -> int:
        """That offset."""

    def names(self) -> Iterable[str]: ...

    def topic(self, name: str) -> TopicMetadata | None: ...

    def name_of(self, topic_id: TopicId) -> str | None: ...


class ImageTopics:
    """A `TopicsView` of a metadata image."""

    def __init__(self, image: MetadataImage) -> None:
        self._image = image

    @property
    def version(self) -> int:
        return self._image.end_offset

    def names(self) -> Iterable[str]:
        return self._image.topics

    def topic(self, name: str) -> TopicMetadata | None:
        topic = self._image.topics.get(name)
        return None if topic is None else TopicMetadata(topic.topic_id, topic.name, len(topic.partitions))

    def name_of(self, topic_id: TopicId) -> str | None:
        return self._image.topic_names.get(topic_id)
