"""Sets that are iterated over in the order in which they were filled, put in the place of aiokafka's own.

aiokafka keeps topics, partitions and brokers in sets, and their order decides whom it asks first. A set of strings is
in another order in every process, so two runs of one seed would differ.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher

_EMPTY_FETCH_S: Final = 0.005
_MODULES: Final = tuple(
    f"aiokafka.{name}"
    for name in (
        "client",
        "cluster",
        "consumer.consumer",
        "consumer.fetcher",
        "consumer.group_coordinator",
        "consumer.subscription_state",
        "coordinator.assignors.range",
        "coordinator.assignors.roundrobin",
        "producer.message_accumulator",
        "producer.sender",
    )
)


class OrderedSet(set[Any]):
    """As `set`; what is not defined here keeps no order."""

    __hash__ = None

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._order = dict.fromkeys(items)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._order)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)

    def add(self, item: Any) -> None:
        self._order.setdefault(item)
        super().add(item)

    def discard(self, item: Any) -> None:
        self._order.pop(item, None)
        super().discard(item)

    def remove(self, item: Any) -> None:
        super().remove(item)
        del self._order[item]

    def pop(self) -> Any:
        item = next(iter(self._order), None)
        self.remove(item)
        return item

    def clear(self) -> None:
        self._order.clear()
        super().clear()

    def update(self, *others: Iterable[Any]) -> None:
        for other in others:
            for item in other:
                self.add(item)

    def difference_update(self, *others: Iterable[Any]) -> None:
        for other in others:
            for item in tuple(other):
                self.discard(item)

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __isub__(self, other: Any) -> Any:
        self.difference_update(other)
        return self

    def copy(self) -> OrderedSet:
        return OrderedSet(self)

    def union(self, *others: Iterable[Any]) -> OrderedSet:
        result = self.copy()
        result.update(*others)
        return result

    def intersection(self, *others: Iterable[Any]) -> OrderedSet:
        kept = [set(other) for other in others]
        return OrderedSet(item for item in self if all(item in each for each in kept))

    def difference(self, *others: Iterable[Any]) -> OrderedSet:
        result = self.copy()
        result.difference_update(*others)
        return result

    def __or__(self, other: Any) -> Any:
        return self.union(other)

    def __and__(self, other: Any) -> Any:
        return self.intersection(other)

    def __sub__(self, other: Any) -> Any:
        return self.difference(other)


class OrderedFrozenSet(frozenset[Any]):
    """As `frozenset`; what is not defined here keeps no order."""

    _order: tuple[Any, ...]

    def __new__(cls, items: Iterable[Any] = ()) -> OrderedFrozenSet:
        order = tuple(dict.fromkeys(items))
        made = super().__new__(cls, order)
        made._order = order
        return made

    def __iter__(self) -> Iterator[Any]:
        return iter(self._order)

    def __or__(self, other: Any) -> Any:
        return OrderedFrozenSet((*self, *other))

    def __and__(self, other: Any) -> Any:
        return OrderedFrozenSet(item for item in self if item in other)

    def __sub__(self, other: Any) -> Any:
        return OrderedFrozenSet(item for item in self if item not in other)


class PacedFetcher(Fetcher):  # type: ignore[misc]
    """Has a fetch that brings nothing take the time that programs and brokers need for it in life.

    aiokafka asks again at once where a broker answers with an error, for as long as it does so; over a network whose
    delays are all that costs time it would do so a thousand times a second.
    """

    async def _proc_fetch_request(self, *arguments: Any) -> Any:
        brought = await super()._proc_fetch_request(*arguments)
        if not brought:
            await asyncio.sleep(_EMPTY_FETCH_S)
        return brought


class QuietConnection(AIOKafkaConnection):  # type: ignore[misc]
    """Does not complain that a client which was killed did not close it."""

    def __del__(self) -> None:
        """The process is gone, and its connections with it."""


@contextmanager
def aiokafka_in_order() -> Iterator[None]:
    """While it lasts aiokafka does the same in every run."""
    with ExitStack() as patches:
        for name in _MODULES:
            module = importlib.import_module(name)
            patches.enter_context(patch.object(module, "set", OrderedSet, create=True))
            patches.enter_context(patch.object(module, "frozenset", OrderedFrozenSet, create=True))
        patches.enter_context(patch("aiokafka.conn.AIOKafkaConnection", QuietConnection))
        patches.enter_context(patch("aiokafka.consumer.consumer.Fetcher", PacedFetcher))
        yield
