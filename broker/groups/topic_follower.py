"""Holds a consumer group's subscriptions against the topics that there are, when there is reason to. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .consumer_group_change import GroupChange
from .consumer_group_records import ConsumerGroupRegularExpressionValue
from .topic_regex import InvalidTopicRegexError, TopicRegex
from .topics_view import TopicsView

logger = logging.getLogger(__name__)


class TopicFollower:
    """Remembers what a group was last held against, and its expressions as they are matched."""

    def __init__(self, group_id: str, topics: TopicsView, wall_ms: Callable[[], int]) -> None:
        self.topics = topics
        self._group_id = group_id
        self._wall_ms = wall_ms
        self._changed = True
        self._names: frozenset[str] | None = None  # that the expressions were last held against
        self._regexes: dict[str, TopicRegex] = {}

    def topics_changed(self, topics: TopicsView) -> None:
        """Looked at with the next change of the group."""
        self.topics = topics
        self._changed = True

    def look_again(self) -> None:
        """What was decided about the topics may be in no record."""
        self._changed = True
        self._names = None

    def follow(self, change: GroupChange) -> None:
        """Takes into the change what became of the subscribed topics, and of the expressions that are new.

        :raises InvalidTopicRegexError: a new expression is none.
        """
        if not change.must_bump and not self._changed:
            return
        names = None
        if any(member.subscribed_topic_regex for member in change.members.values()):
            names = frozenset(self.topics.names())
        change.refresh_regexes(
            lambda pattern: self._resolve(change, pattern, names or frozenset()), names != self._names
        )
        change.refresh_topics()
        self._regexes = {pattern: self._regexes[pattern] for pattern in change.regexes if pattern in self._regexes}
        self._names = names
        self._changed = False

    def _resolve(self, change: GroupChange, pattern: str, names: frozenset[str]) -> ConsumerGroupRegularExpressionValue:
        try:
            regex = self._regexes.get(pattern) or TopicRegex(pattern)
            matching = regex.matching(names)
        except InvalidTopicRegexError:
            before = change.regexes.get(pattern)
            if before is None:
                raise
            # It was good once, perhaps with fewer topics: another member's heartbeat must not suffer for it.
            logger.warning("group_regex_not_resolved group=%s regex=%r", self._group_id, pattern)
            return before
        self._regexes[pattern] = regex
        return ConsumerGroupRegularExpressionValue(matching, self.topics.version, self._wall_ms())
