"""Writes the generated parts of docs/compatibility.md: `make docs`. A test holds the page to what this makes.

The table is read from broker/kafka/table.py, the one from which brokers answer ApiVersions; the versions of Apache
Kafka 4.x are those of its message schemas, as kio has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kio.schema.index import api_key_map, schema_name_map
from klamm.broker.kafka.table import APIS

PAGE: Final = Path(__file__).with_name("compatibility.md")
_PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_REMARKS: Final = {
    "init_producer_id": "idempotent producers; version 6 is for two-phase commit (KIP-939), unstable in Kafka too",
    "find_coordinator": "groups; transactions and share groups are answered with an error",
    "produce": "record batches (magic 2) alone; not transactional",
    "fetch": "sessions (KIP-227), from the closest replica (KIP-392), leader hints (KIP-951)",
    "consumer_group_heartbeat": "KIP-848; see [consumer-groups.md](consumer-groups.md)",
    "describe_configs": "topics and brokers",
    "alter_configs": "topics and brokers",
    "incremental_alter_configs": "topics and brokers",
    "get_telemetry_subscriptions": "an empty subscription (KIP-714)",
    "push_telemetry": "taken, checked and dropped (KIP-714)",
    "describe_quorum": "no observers; offsets are indexes of the Raft log",
}
_MISSING: Final = {
    "transactions": (
        "add_partitions_to_txn",
        "add_offsets_to_txn",
        "end_txn",
        "txn_offset_commit",
        "write_txn_markers",
        "describe_transactions",
        "list_transactions",
    ),
    "authentication": (
        "sasl_handshake",
        "sasl_authenticate",
        "describe_user_scram_credentials",
        "alter_user_scram_credentials",
    ),
    "authorization": ("describe_acls", "create_acls", "delete_acls"),
    "quotas": ("describe_client_quotas", "alter_client_quotas"),
    "delegation tokens": (
        "create_delegation_token",
        "renew_delegation_token",
        "expire_delegation_token",
        "describe_delegation_token",
    ),
    "several log folders": ("alter_replica_log_dirs",),
    "share groups (KIP-932)": ("share_fetch", "share_acknowledge", "share_group_heartbeat", "share_group_describe"),
    "streams groups (KIP-1071)": ("streams_group_heartbeat", "streams_group_describe"),
    "the rest": (
        "list_config_resources",
        "update_features",
        "unregister_broker",
        "add_raft_voter",
        "remove_raft_voter",
    ),
}


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _range(versions: Iterable[int]) -> str:
    low, high = min(versions), max(versions)
    return str(low) if low == high else f"{low} to {high}"


def apis() -> str:
    """One row for each API that is served."""
    rows = ["| key | API | versions served | versions of Kafka 4.x | remarks |", "| --- | --- | --- | --- | --- |"]
    for key, api in sorted(APIS.items()):
        served = range(api.min_version, api.max_version + 1)
        of_kafka = schema_name_map[api_key_map[key]]
        rows.append(
            f"| {key} | {_title(api.name)} | {_range(served)} | {_range(of_kafka)} | {_REMARKS.get(api.name, '')} |"
        )
    return "\n".join(rows) + "\n"


def missing() -> str:
    """What is not advertised, by what it is for."""
    served = {api.name for api in APIS.values()}
    rows = ["| for | not advertised |", "| --- | --- |"]
    for purpose, names in _MISSING.items():
        wrong = [name for name in names if name in served]
        if wrong:
            raise ValueError(f"{wrong} are served: take them out of the list of what is missing")
        rows.append(f"| {purpose} | {', '.join(_title(name) for name in names)} |")
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    """The page with its generated parts made anew."""
    makers = {"apis": apis, "missing": missing}
    return _PART.sub(lambda part: part[1] + makers[part[2]]() + part[3], text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
