"""What must hold of a classic group at every step, whatever fails: rule 22, and what it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from klamm.broker.groups.group_request import GroupState, HeartbeatRequest, JoinAnswer, SyncAnswer
from klamm.broker.groups.records import GroupMetadata, group_metadata_record
from klamm.proto.errors import ErrorCode

if TYPE_CHECKING:
    from simulation.classic_groups import World


class Oracles:
    """Told of each step, each answer and each assignment that a client takes up."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._generation = 0
        self._decision: dict[int, str] = {}  # by generation, of those that clients took up
        self._owner: dict[tuple[int, str], str] = {}  # by generation and partition
        self.taken_up = 0

    @staticmethod
    def value_of(metadata: GroupMetadata) -> bytes:
        value = group_metadata_record("g", metadata, 0).value
        assert value is not None
        return value

    def new_coordinator(self) -> None:
        """It may be behind the last one in generations that were never committed."""
        self._generation = self._world.group.generation_id

    def step(self) -> None:
        """Generations never fall under one coordinator."""
        generation = self._world.group.generation_id
        assert generation >= self._generation, (generation, self._generation)
        self._generation = generation

    def answered(self, answer: Any) -> None:
        """An assignment is told only as the committed log has it."""
        if isinstance(answer, JoinAnswer) and answer.error is ErrorCode.NONE:
            assert answer.generation_id == self._world.group.generation_id
            assert answer.leader
            if self._world.group.state is GroupState.STABLE:
                record = self._world.log[: self._world.committed_end][-1]
                assert answer.member_id in [member.member_id for member in record.members], "not in the log yet"
        if isinstance(answer, SyncAnswer) and answer.error is ErrorCode.NONE and answer.assignment:
            generation, committed = self._world.group.generation_id, self._world.log[: self._world.committed_end]
            parts = [
                member.assignment
                for record in committed
                if record.generation == generation
                for member in record.members
            ]
            assert answer.assignment in parts, (answer, generation)

    def alive(self, request: HeartbeatRequest, answer: ErrorCode) -> None:
        if answer is ErrorCode.NONE:
            assert request.generation_id == self._world.group.generation_id

    def owns(self, owner: str, generation: int, assignment: bytes) -> None:
        """Rule 22: all parts of a generation are of one decision, and no partition is in two of them."""
        if not assignment:
            return
        self.taken_up += 1
        decision, _, partitions = assignment.decode().rpartition(":")
        assert self._decision.setdefault(generation, decision) == decision, (generation, owner)
        for partition in filter(None, partitions.split(",")):
            other = self._owner.setdefault((generation, partition), owner)
            assert other == owner, f"partition {partition} of generation {generation}: {other} and {owner}"

    def finish(self) -> None:
        """The log has one decision for each generation, and it is the one that clients took up."""
        for record in self._world.log:
            decisions = {member.assignment.decode().rpartition(":")[0] for member in record.members} - {""}
            assert len(decisions) <= 1, decisions
            for decision in decisions:
                assert self._decision.setdefault(record.generation, decision) == decision
        generations = [record.generation for record in self._world.log]
        assert generations == sorted(generations)
