"""The members of one classic group: who is in, who leads, which protocols all of them speak. Pure.

A member is in one of these places, and `Members` keeps the counts of each right:

    pending     it was told its id (KIP-394) and has not joined with it yet; no member proper
    member      it joined; `joined` while it takes part in the rebalance that is under way
    static      a member with a group.instance.id (KIP-345): the instance keeps its place when the member id changes

What a group does about them, and when, is `rebalance.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...cluster.invariant import invariant
from ...proto.errors import ErrorCode
from .group import Ticket
from .group_request import UNKNOWN_MEMBER_ID, JoinedMember, JoinRequest
from .records import MemberMetadata

Protocols = tuple[tuple[str, bytes], ...]
"""Name and metadata of each protocol that a member speaks, in its order of preference."""


@dataclass(slots=True)
class Member:
    """One member. Times are the clock's monotonic time in ms."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocols: Protocols
    assignment: bytes = b""
    session_deadline_ms: int = 0  # put off by each sign of life
    join_ticket: Ticket | None = None  # None while `joined`: the connection of who waited is gone
    sync_ticket: Ticket | None = None  # the same while `syncing`
    joined: bool = False  # waits for the rebalance that is under way to complete
    syncing: bool = False  # waits for its assignment
    is_new: bool = False  # has not had its first answer to a join
    anonymous: bool = False  # nobody knows its id before its first answer: it cannot join again in place of a lost one

    @property
    def is_static(self) -> bool:
        return self.group_instance_id is not None

    @property
    def waits(self) -> bool:
        """Whoever waits for the group counts as alive, except a new member: it may have given up long ago."""
        return not self.is_new and (self.joined or self.syncing)

    def metadata(self, protocol_name: str) -> bytes:
        """What it said about itself under this protocol; it must be one that the member speaks."""
        for name, metadata in self.protocols:
            if name == protocol_name:
                return metadata
        invariant(False, f"member {self.member_id} does not speak {protocol_name}")
        return b""

    def vote(self, candidates: set[str]) -> str:
        """The protocol it likes best of the candidates; it must speak one of them."""
        for name, _ in self.protocols:
            if name in candidates:
                return name
        invariant(False, f"member {self.member_id} speaks none of {sorted(candidates)}")
        return ""

    def joined_member(self, protocol_name: str) -> JoinedMember:
        """As the leader is told of it."""
        return JoinedMember(self.member_id, self.group_instance_id, self.metadata(protocol_name))

    def record(self, protocol_name: str, assignment: bytes) -> MemberMetadata:
        """As it stands in the log."""
        return MemberMetadata(
            member_id=self.member_id,
            group_instance_id=self.group_instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            session_timeout_ms=self.session_timeout_ms,
            subscription=self.metadata(protocol_name),
            assignment=assignment,
        )


def member_of_request(request: JoinRequest, member_id: str) -> Member:
    """A member that joins for the first time."""
    return Member(
        member_id=member_id,
        group_instance_id=request.group_instance_id,
        client_id=request.client_id,
        client_host=request.client_host,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        session_timeout_ms=request.session_timeout_ms,
        protocols=request.protocols,
        is_new=True,
        anonymous=request.member_id == UNKNOWN_MEMBER_ID and request.group_instance_id is None,
    )


def member_of_record(record: MemberMetadata, protocol_name: str) -> Member:
    """A member as a coordinator before this one wrote it down. The log knows the chosen protocol alone."""
    return Member(
        member_id=record.member_id,
        group_instance_id=record.group_instance_id,
        client_id=record.client_id,
        client_host=record.client_host,
        rebalance_timeout_ms=record.rebalance_timeout_ms,
        session_timeout_ms=record.session_timeout_ms,
        protocols=((protocol_name, record.subscription),),
        assignment=record.assignment,
    )


class Members:
    """All members, in the order in which they joined; the first to join leads until it leaves."""

    def __init__(self) -> None:
        self.leader_id: str | None = None  # one of the members; None only while there are none
        self.pending: dict[str, int] = {}  # member ids given out (KIP-394), with the time at which they expire
        self.pending_sync: set[str] = set()  # who has not asked for its assignment in this generation
        self._members: dict[str, Member] = {}
        self._static: dict[str, str] = {}  # instance id to member id
        self._joined = 0  # how many are `joined`
        self._speakers: dict[str, int] = {}  # protocol name to the number of members that speak it

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._members

    def __getitem__(self, member_id: str) -> Member:
        return self._members[member_id]

    @property
    def joined_count(self) -> int:
        return self._joined

    @property
    def all_joined(self) -> bool:
        """Nobody is missing: neither a member, nor one that was told its id and is on its way back."""
        return self._joined == len(self._members) and not self.pending

    @property
    def leader(self) -> Member | None:
        return None if self.leader_id is None else self._members[self.leader_id]

    def is_leader(self, member_id: str) -> bool:
        return self.leader_id == member_id

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest that any member asked for."""
        return max((member.rebalance_timeout_ms for member in self), default=0)

    def static_member_id(self, group_instance_id: str) -> str | None:
        return self._static.get(group_instance_id)

    def check(self, member_id: str, group_instance_id: str | None) -> ErrorCode:
        """UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID where another member has taken the instance over (KIP-345)."""
        if group_instance_id is not None:
            current = self._static.get(group_instance_id)
            if current is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if current != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self._members else ErrorCode.UNKNOWN_MEMBER_ID

    # --- coming and going ---

    def add(self, member: Member) -> None:
        """Its protocols must have been checked, its ids must be free."""
        invariant(member.member_id not in self._members, f"member {member.member_id} is there already")
        if member.group_instance_id is not None:
            invariant(member.group_instance_id not in self._static, f"{member.group_instance_id} is there already")
            self._static[member.group_instance_id] = member.member_id
        self._members[member.member_id] = member
        self._count(member, 1)
        self.pending.pop(member.member_id, None)
        if self.leader_id is None:
            self.leader_id = member.member_id

    def remove(self, member_id: str) -> None:
        """Takes it out, be it a member, pending or unknown; another leads if it led."""
        member = self._members.pop(member_id, None)
        if member is not None:
            self._count(member, -1)
            if member.group_instance_id is not None:
                del self._static[member.group_instance_id]
        self.pending.pop(member_id, None)
        self.pending_sync.discard(member_id)
        if self.leader_id == member_id:
            self.leader_id = next(iter(self._members), None)

    def rename_static(self, member: Member, new_member_id: str) -> Member:
        """The same instance under a new member id, in the same place, nobody waiting; leads if the old one led."""
        instance_id = member.group_instance_id
        invariant(instance_id is not None, f"member {member.member_id} is not static")
        renamed = replace(member, member_id=new_member_id, join_ticket=None, sync_ticket=None)
        renamed.joined = renamed.syncing = renamed.is_new = False
        self._count(member, -1)
        self._members = {
            renamed.member_id if member_id == member.member_id else member_id: renamed if kept is member else kept
            for member_id, kept in self._members.items()
        }
        self._count(renamed, 1)
        if instance_id is not None:
            self._static[instance_id] = new_member_id
        if self.leader_id == member.member_id:
            self.leader_id = new_member_id
        if member.member_id in self.pending_sync:
            self.pending_sync.discard(member.member_id)
            self.pending_sync.add(new_member_id)
        return renamed

    def update(self, member: Member, protocols: Protocols, rebalance_timeout_ms: int, session_timeout_ms: int) -> None:
        """Takes up what a member says anew when it joins again."""
        self._count(member, -1)
        member.protocols = protocols
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms
        self._count(member, 1)

    def set_joined(self, member: Member, joined: bool, ticket: Ticket | None = None) -> None:
        """Whether it takes part in the rebalance under way, and who is to be told of the outcome."""
        self._joined += joined - member.joined
        member.joined, member.join_ticket = joined, ticket

    def _count(self, member: Member, by: int) -> None:
        self._joined += by if member.joined else 0
        for name in {name for name, _ in member.protocols}:
            speakers = self._speakers.get(name, 0) + by
            if speakers:
                self._speakers[name] = speakers
            else:
                del self._speakers[name]

    # --- choices ---

    def elect_joined_leader(self) -> bool:
        """Sees to it that a member that joined leads: the leader itself, or else the first whose client still waits.

        False if nobody has joined.
        """
        leader = self.leader
        if leader is not None and leader.joined and leader.join_ticket is not None:
            return True
        joined = [member for member in self if member.joined]
        if not joined:
            return False
        reachable = next((member for member in joined if member.join_ticket is not None), None)
        if reachable is not None:
            self.leader_id = reachable.member_id
        elif leader is None or not leader.joined:
            self.leader_id = joined[0].member_id
        return True

    def all_speak_one_of(self, names: set[str]) -> bool:
        """There is a protocol among these that every member speaks."""
        return any(self._speakers.get(name, 0) == len(self._members) for name in names)

    def select_protocol(self) -> str:
        """Each member votes for its favourite among the protocols that all speak; of equals the first voted for."""
        invariant(len(self) > 0, "no protocol without a member")
        candidates = {name for name, speakers in self._speakers.items() if speakers == len(self._members)}
        votes: dict[str, int] = {}
        for member in self:
            name = member.vote(candidates)
            votes[name] = votes.get(name, 0) + 1
        return max(votes, key=votes.__getitem__)
