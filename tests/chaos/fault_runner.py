"""Carries out the nemesis' plan: each fault in a thread of its own, noted in the history when it begins and ends.

What several faults must share is kept here: which nodes are taken (a node is not killed by one fault and paused by
another), and which ways are cut (what one fault cuts stays cut when another heals).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final

from chaos.cluster import HostedCluster
from chaos.cuts import union
from chaos.fleet import Fleet
from chaos.nemesis import PlannedFault
from chaos.network import Network, Way
from harness.history import Entry, Fault
from klamm.deploy.errors import DeployError
from klamm.deploy.layout import NodeSpec
from klamm.proto.errors import KafkaError

FAULTS_AT_ONCE_MAX: Final = 3
_CLAIM_SECONDS_MAX: Final = 60.0
_POLL_SECONDS: Final = 0.1


class Arena:
    """Where faults happen: the cluster, its network and its clients, and who has hold of what."""

    def __init__(self, cluster: HostedCluster, network: Network, fleet: Fleet, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.network = network
        self.fleet = fleet
        self.say = say
        self.ending = threading.Event()
        """Set when the time is up: faults that wait go on to their end at once."""
        self._changed = threading.Condition()
        self._claimed: set[str] = set()
        self._waiting_for_all = 0
        self._cuts: dict[int, frozenset[Way]] = {}

    @contextmanager
    def claim(self, specs: Collection[NodeSpec]) -> Iterator[bool]:
        """Holds these nodes while the block runs; False if others did not let go of them in time."""
        with self._hold({spec.name for spec in specs}, _CLAIM_SECONDS_MAX) as held:
            yield held

    @contextmanager
    def claim_thing(self, name: str) -> Iterator[bool]:
        """Holds something other than a node's process, by any name; False at once if another has it."""
        with self._hold({f"thing {name}"}, 0.0) as held:
            yield held

    @contextmanager
    def _hold(self, wanted: Collection[str], seconds_max: float) -> Iterator[bool]:
        wanted = set(wanted)
        all_of_them = len(wanted) > 1
        with self._changed:
            # Who wants them all would never get them if others went on taking one after another.
            self._waiting_for_all += all_of_them
            held = self._changed.wait_for(
                lambda: not (wanted & self._claimed) and (all_of_them or not self._waiting_for_all), seconds_max
            )
            self._waiting_for_all -= all_of_them
            if held:
                self._claimed |= wanted
        try:
            yield held
        finally:
            with self._changed:
                if held:
                    self._claimed -= wanted
                self._changed.notify_all()

    def free(self, specs: Sequence[NodeSpec]) -> list[NodeSpec]:
        """Those of them that run and that nobody holds."""
        with self._changed:
            claimed = set(self._claimed)
        return [spec for spec in specs if spec.name not in claimed and self.cluster.is_running(spec)]

    def cut(self, fault: int, ways: frozenset[Way]) -> None:
        """This fault cuts these ways; none heals what it cut."""
        with self._changed:
            self._cuts[fault] = ways
            self.network.set_cuts(union(self._cuts))

    def pause(self, seconds: float) -> None:
        """Lets a fault last."""
        self.ending.wait(seconds)


class Passed(Exception):
    """The fault could not be done just then: nobody leads, or others hold the nodes."""


Note = Callable[[str, str], None]
"""Called by a fault once it has begun: whom it hit, and more about it."""
Action = Callable[[Arena, PlannedFault, Random, Note], None]
"""Does one fault and undoes it. :raises Passed: it was not done."""


class FaultRunner:
    """Starts the planned faults at their times, and waits for their ends."""

    def __init__(self, arena: Arena, plan: Sequence[PlannedFault], do: Action, write: Callable[[Entry], None]) -> None:
        self._arena = arena
        self._plan = plan
        self._do = do
        self._write = write
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        """How many faults there were, by kind."""
        self.passed: Counter[str] = Counter()
        """How many could not be done when their time came."""
        self.trouble: list[str] = []
        """Faults that did not heal as they should: a node that does not start, a shutdown that takes too long."""

    def run(self, began: float, seconds: float) -> None:
        """Until so many seconds after `began` (monotonic clock); returns when every fault has ended.

        On a busy machine, where nodes take long to start, the plan falls behind: there are never more than
        FAULTS_AT_ONCE_MAX at a time, or nothing but faults would happen.
        """
        end = began + seconds
        late_s = 0.0
        for planned in self._plan:
            due = began + planned.start_s + late_s
            self._arena.ending.wait(max(0.0, min(due, end) - time.monotonic()))
            while self._under_way() >= FAULTS_AT_ONCE_MAX and time.monotonic() < end:
                if self._arena.ending.wait(_POLL_SECONDS):
                    break
            late_s += max(0.0, time.monotonic() - due)
            if self._arena.ending.is_set() or time.monotonic() >= end:
                break
            thread = threading.Thread(target=self._run_one, args=(planned,), name=f"fault-{planned.number}")
            self._threads.append(thread)
            thread.start()
        self._arena.ending.wait(max(0.0, end - time.monotonic()))
        self.heal()

    def _under_way(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    def heal(self) -> None:
        """Brings every fault to its end."""
        self._arena.ending.set()
        for thread in self._threads:
            thread.join()

    def _run_one(self, planned: PlannedFault) -> None:
        faults: list[Fault] = []

        def note(target: str, detail: str) -> None:
            fault = Fault(planned.kind.value, target, time.monotonic_ns(), None, detail)
            faults.append(fault)
            self._write(fault)
            self._arena.say(f"fault {planned.number}: {planned.kind.value}: {target} {detail}".rstrip())

        trouble: str | None = None
        try:
            self._do(self._arena, planned, Random(planned.seed), note)
        except Passed as reason:
            self._arena.say(f"fault {planned.number}: {planned.kind.value}: passed over, {reason}")
            with self._lock:
                self.passed[planned.kind.value] += 1
            return
        except (DeployError, KafkaError, OSError) as error:
            trouble = f"{planned.kind.value} (fault {planned.number}): {type(error).__name__}: {error}"
        except Exception as error:
            trouble = f"{planned.kind.value} (fault {planned.number}) broke: {type(error).__name__}: {error}"
            raise
        finally:
            self._note_end(planned, faults, trouble)

    def _note_end(self, planned: PlannedFault, faults: Sequence[Fault], trouble: str | None) -> None:
        with self._lock:
            if faults:
                self.done[planned.kind.value] += 1
            if trouble is not None:
                self.trouble.append(trouble)
        for fault in faults:
            detail = fault.detail if trouble is None else f"{fault.detail}; {trouble}"
            self._write(Fault(fault.kind, fault.target, fault.began_ns, time.monotonic_ns(), detail))
        if trouble is not None:
            self._arena.say(f"TROUBLE: {trouble}")
        elif faults:
            self._arena.say(f"fault {planned.number}: {planned.kind.value}: over")
