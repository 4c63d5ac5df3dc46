"""docs/compatibility.md says what the table of APIs says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import klamm

DOCS = Path(klamm.__file__).parent / "docs"


def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_compatibility", DOCS / "write_compatibility.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_is_generated() -> None:
    text = (DOCS / "compatibility.md").read_text(encoding="utf-8")
    assert writer().page(text) == text, "run: make docs"


def test_no_api_is_left_unmentioned() -> None:
    """Each API of Kafka is served, listed as missing, or between brokers and controllers only."""
    from kio.schema.index import api_key_map
    from klamm.broker.kafka.table import APIS

    between_nodes = {
        "allocate_producer_ids", "alter_partition", "assign_replicas_to_dirs", "begin_quorum_epoch",
        "broker_heartbeat", "broker_registration", "controller_registration", "end_quorum_epoch", "envelope",
        "fetch_snapshot", "update_raft_voter", "vote",
        "initialize_share_group_state", "read_share_group_state", "write_share_group_state",
        "delete_share_group_state", "read_share_group_state_summary",
        "describe_share_group_offsets", "alter_share_group_offsets", "delete_share_group_offsets",
    }  # fmt: skip
    listed = {name for names in writer()._MISSING.values() for name in names}
    assert set(api_key_map.values()) == {api.name for api in APIS.values()} | listed | between_nodes
