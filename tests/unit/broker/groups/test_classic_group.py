"""The classic protocol, request by request: what Apache Kafka's coordinator answers in each state."""

from __future__ import annotations

from harness.classic_groups import LATER, Shell, join, sync
from klamm.broker.groups.group_request import GroupState
from klamm.proto.errors import ErrorCode


def test_a_first_member_joins_syncs_and_is_stable() -> None:
    shell = Shell()
    asked = shell.join(join())
    assert asked.answer.error is ErrorCode.MEMBER_ID_REQUIRED
    joined = shell.join(join(asked.answer.member_id))
    assert joined.answer.error is ErrorCode.NONE
    assert joined.answer.generation_id == 1
    assert joined.answer.leader == joined.answer.member_id
    assert [member.member_id for member in joined.answer.members] == [joined.answer.member_id]
    synced = shell.sync(sync(joined.answer, {joined.answer.member_id: b"all"}))
    assert synced.answer is LATER
    shell.commit()
    assert synced.answer.assignment == b"all"
    assert shell.group.state is GroupState.STABLE
