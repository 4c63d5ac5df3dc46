"""A cluster for tests: the fixture `klamm_cluster`, there in any project that has klamm installed.

    def test_orders(klamm_cluster):
        producer = Producer(bootstrap_servers=klamm_cluster.bootstrap_servers)              # Klamm's own SDK
        producer = KafkaProducer(bootstrap_servers=klamm_cluster.kafka_bootstrap_servers)   # any Kafka client

It starts when the first test asks for it and lives until the session ends, so tests share it: give topics names of
their own, and leave no broker down. A test that kills brokers may rather start a LocalCluster for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .local import LocalCluster


def pytest_addoption(parser: pytest.Parser) -> None:
    """How large the shared cluster is."""
    group = parser.getgroup("klamm", "the cluster of the fixture klamm_cluster")
    group.addoption("--klamm-brokers", type=int, default=3, metavar="N", help="brokers (3)")
    group.addoption("--klamm-controllers", type=int, default=3, metavar="N", help="controllers: 1, 3 or 5 (3)")


@pytest.fixture(scope="session")
def klamm_cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A running LocalCluster that the tests of this session share."""
    from .local import LocalCluster  # here: a session without a cluster does not pay for it

    brokers: int = request.config.getoption("--klamm-brokers")
    controllers: int = request.config.getoption("--klamm-controllers")
    with LocalCluster(brokers, controllers) as cluster:
        yield cluster
