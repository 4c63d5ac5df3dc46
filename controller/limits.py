"""How much one command may ask for, so that no Raft entry, record batch or answer grows past what a node can carry."""

from __future__ import annotations

from typing import Final

COMMAND_BYTES_MAX: Final = 4 * 1024 * 1024
"""A longer command is refused; whoever proposes should refuse it sooner, before it is in the Raft log."""
RECORDS_PER_COMMAND_MAX: Final = 10_000
"""Records that a user's command may make (Kafka's MAX_RECORDS_PER_USER_OP). Fencing a broker is not bound by it."""
ENTRIES_PER_COMMAND_MAX: Final = 10_000
"""Topics, partitions or resources that one command may name."""
BROKERS_MAX: Final = 1_000
ENDPOINTS_PER_BROKER_MAX: Final = 16
NAME_LENGTH_MAX: Final = 255
"""Hosts, racks and listener names."""

ANSWERS_MAX: Final = 10_000
"""Answers remembered for commands that are sent again."""
ANSWERS_BYTES_MAX: Final = 16 * 1024 * 1024
REQUEST_ID_LENGTH_MAX: Final = 64

PRODUCER_ID_BLOCK_SIZE: Final = 1_000
"""KIP-730."""
