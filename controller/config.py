"""What a controller is told by its configuration file: its keys, with Kafka's names where Kafka has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..cluster.node_config import (
    REQUIRED,
    Address,
    ConfigDefinition,
    ConfigValues,
    NodeConfigKey,
    parse_bool,
    parse_int,
    parse_listeners,
    parse_properties,
    parse_text,
    parse_voters,
)
from ..cluster.topic_config import CLUSTER_CONFIG_KEYS, PARTITIONS_PER_TOPIC_MAX
from ..proto.errors import KafkaConfigurationError
from ..proto.identifiers import NodeId
from .metadata_log import TAIL_RECORDS_MAX
from .raft_contract import RaftConfig

LISTENER_NAME: Final = "CONTROLLER"

_RAFT: Final = RaftConfig()
_QUORUM_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _parse_quorum_id(text: str) -> str:
    if not _QUORUM_ID.fullmatch(text):
        raise ValueError("must be 1 to 64 letters, digits, '.', '_' and '-'")
    return text


NODE_ID = NodeConfigKey("node.id", parse_int(minimum=0, maximum=2**31 - 1), REQUIRED, "the id of this controller")
VOTERS = NodeConfigKey(
    "controller.quorum.voters", parse_voters, REQUIRED, "all controllers, this one too: id@host:port, with commas"
)
QUORUM_ID = NodeConfigKey(
    "controller.quorum.id", _parse_quorum_id, "klamm", "the quorum's name; messages of another quorum are refused"
)
LISTENERS: NodeConfigKey[Mapping[str, Address] | None] = NodeConfigKey(
    "listeners", parse_listeners, None, "where it listens: CONTROLLER://host:port; by default its voter address"
)
METADATA_LOG_DIR = NodeConfigKey("metadata.log.dir", parse_text, REQUIRED, "the folder of the metadata log")
SESSION_TIMEOUT_MS = NodeConfigKey(
    "broker.session.timeout.ms",
    parse_int(minimum=100, maximum=3_600_000),
    2_000,
    "a broker that is silent for so long is fenced",
)
CRASH_GRACE_MS = NodeConfigKey(
    "broker.crash.grace.ms",
    parse_int(minimum=0, maximum=3_600_000),
    250,
    "a broker whose connection broke is fenced after so long, unless it comes back",
)
# A leader that dies is noticed by its broken connections, at once. These time-outs are for one that hangs or is cut
# off; shorter ones would cost an idle quorum processor time and gain little.
RAFT_HEARTBEAT_MS = NodeConfigKey(
    "controller.quorum.heartbeat.interval.ms",
    parse_int(minimum=5, maximum=10_000),
    _RAFT.heartbeat_interval_ms,
    "time between two words of the leader to the other controllers",
)
ELECTION_TIMEOUT_MIN_MS = NodeConfigKey(
    "controller.quorum.election.timeout.min.ms",
    parse_int(minimum=20, maximum=60_000),
    _RAFT.election_timeout_ms_min,
    "the shortest wait without word from a leader before an election",
)
ELECTION_TIMEOUT_MAX_MS = NodeConfigKey(
    "controller.quorum.election.timeout.max.ms",
    parse_int(minimum=20, maximum=60_000),
    _RAFT.election_timeout_ms_max,
    "the longest wait without word from a leader before an election",
)
LEADER_FALLBACK_TIMEOUT_MS = NodeConfigKey(
    "controller.quorum.leader.fallback.timeout.ms",
    parse_int(minimum=20, maximum=60_000),
    _RAFT.leader_fallback_timeout_ms,
    "a leader that hears of no majority for so long stops leading",
)
SNAPSHOT_ENTRIES_MAX = NodeConfigKey(
    "metadata.snapshot.entries.max",
    parse_int(minimum=10),
    _RAFT.snapshot_entries_max,
    "commands after which the metadata log is replaced by a snapshot",
)
TAIL_RECORDS = NodeConfigKey(
    "metadata.tail.records.max",
    parse_int(minimum=100),
    TAIL_RECORDS_MAX,
    "records kept in memory for brokers that are behind; one that is further behind gets a snapshot",
)
NUM_PARTITIONS: NodeConfigKey[int | None] = NodeConfigKey(
    "num.partitions",
    parse_int(minimum=1, maximum=PARTITIONS_PER_TOPIC_MAX),
    None,
    CLUSTER_CONFIG_KEYS["num.partitions"].documentation,
)
DEFAULT_REPLICATION_FACTOR: NodeConfigKey[int | None] = NodeConfigKey(
    "default.replication.factor",
    parse_int(minimum=1, maximum=1_000),
    None,
    CLUSTER_CONFIG_KEYS["default.replication.factor"].documentation,
)
AUTO_REBALANCE = NodeConfigKey(
    "auto.leader.rebalance.enable", parse_bool, True, "whether leaderships go back to preferred leaders by themselves"
)
IMBALANCE_CHECK_S = NodeConfigKey(
    "leader.imbalance.check.interval.seconds",
    parse_int(minimum=1, maximum=86_400),
    300,
    "how often the active controller looks for partitions that another than the preferred leader leads",
)

CONTROLLER_DEFINITION: Final = ConfigDefinition(
    (
        NODE_ID,
        VOTERS,
        QUORUM_ID,
        LISTENERS,
        METADATA_LOG_DIR,
        SESSION_TIMEOUT_MS,
        CRASH_GRACE_MS,
        RAFT_HEARTBEAT_MS,
        ELECTION_TIMEOUT_MIN_MS,
        ELECTION_TIMEOUT_MAX_MS,
        LEADER_FALLBACK_TIMEOUT_MS,
        SNAPSHOT_ENTRIES_MAX,
        TAIL_RECORDS,
        NUM_PARTITIONS,
        DEFAULT_REPLICATION_FACTOR,
        AUTO_REBALANCE,
        IMBALANCE_CHECK_S,
    )
)


@dataclass(frozen=True)
class ControllerConfig:
    """One controller's settings."""

    node_id: NodeId
    voters: Mapping[NodeId, Address]
    quorum_id: str
    listen: Address
    metadata_log_dir: Path
    session_timeout_ms: int
    crash_grace_ms: int
    raft: RaftConfig
    metadata_tail_records_max: int
    num_partitions: int | None  # None: the cluster-wide default decides
    default_replication_factor: int | None
    leader_imbalance_check_s: int | None  # None: leaders stay where they are until somebody asks

    @classmethod
    def load(cls, path: Path) -> ControllerConfig:
        """Reads the file. :raises KafkaConfigurationError: it is not there, or something in it is not valid."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KafkaConfigurationError(f"the configuration file cannot be read: {error}") from error
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> ControllerConfig:
        """Reads the text of a file. :raises KafkaConfigurationError: something in it is not valid."""
        values = CONTROLLER_DEFINITION.resolve(parse_properties(text))
        voters = {NodeId(node_id): address for node_id, address in values[VOTERS].items()}
        node_id = NodeId(values[NODE_ID])
        if node_id not in voters:
            raise KafkaConfigurationError(f"node.id={node_id} is not among controller.quorum.voters")
        _check_ports(voters)
        return cls(
            node_id=node_id,
            voters=voters,
            quorum_id=values[QUORUM_ID],
            listen=_listen_address(values, voters[node_id]),
            metadata_log_dir=Path(values[METADATA_LOG_DIR]),
            session_timeout_ms=values[SESSION_TIMEOUT_MS],
            crash_grace_ms=values[CRASH_GRACE_MS],
            raft=_raft_config(values),
            metadata_tail_records_max=values[TAIL_RECORDS],
            num_partitions=values[NUM_PARTITIONS],
            default_replication_factor=values[DEFAULT_REPLICATION_FACTOR],
            leader_imbalance_check_s=values[IMBALANCE_CHECK_S] if values[AUTO_REBALANCE] else None,
        )


def _check_ports(voters: Mapping[NodeId, Address]) -> None:
    for node_id, address in voters.items():
        if address.port == 0 and len(voters) > 1:
            raise KafkaConfigurationError(
                f"{VOTERS.name}: {node_id}@{address}: controllers find one another by port, it cannot be 0"
            )


def _listen_address(values: ConfigValues, voter: Address) -> Address:
    listeners = values[LISTENERS]
    if listeners is None:
        return voter
    unknown = sorted(set(listeners) - {LISTENER_NAME})
    if unknown:
        raise KafkaConfigurationError(f"{LISTENERS.name}: unknown listener {unknown[0]}; a controller has CONTROLLER")
    return listeners[LISTENER_NAME]


def _raft_config(values: ConfigValues) -> RaftConfig:
    try:
        return RaftConfig(
            heartbeat_interval_ms=values[RAFT_HEARTBEAT_MS],
            election_timeout_ms_min=values[ELECTION_TIMEOUT_MIN_MS],
            election_timeout_ms_max=values[ELECTION_TIMEOUT_MAX_MS],
            leader_fallback_timeout_ms=values[LEADER_FALLBACK_TIMEOUT_MS],
            snapshot_entries_max=values[SNAPSHOT_ENTRIES_MAX],
        )
    except ValueError as error:
        raise KafkaConfigurationError(f"controller.quorum time-outs: {error}") from error
