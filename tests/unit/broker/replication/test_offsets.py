"""How the offsets of a replica move."""

from __future__ import annotations

import pytest
from klamm.broker.replication.offsets import check_order, follower_high_watermark
from klamm.cluster.invariant import InvariantError
from klamm.proto.identifiers import Offset


def test_rule_4_a_followers_high_watermark_follows_as_far_as_its_log_and_never_back() -> None:
    assert follower_high_watermark(Offset(40), Offset(60), Offset(50)) == 50
    assert follower_high_watermark(Offset(40), Offset(30), Offset(50)) == 40


def test_order() -> None:
    check_order(1, 2, 3)
    for wrong in ((3, 2, 3), (1, 4, 3)):
        with pytest.raises(InvariantError):
            check_order(*wrong)
