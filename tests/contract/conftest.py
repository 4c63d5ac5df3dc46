"""What the contract tests share: a cluster of three brokers, one broker alone, and topic names of one's own."""

from __future__ import annotations

import gc
import re
import uuid
from collections.abc import Iterator

import pytest
from klamm.deploy.local import LocalCluster

FOREIGN_WARNINGS = (
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:.*does not implement kafka.serializer:DeprecationWarning",
)
"""kafka-python leaves sockets to the garbage collector, and would rather not have the serializers of its tutorials."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the tests in this folder alone: pytest calls this with all of them."""
    for item in items:
        if "contract" in item.path.parts:
            for warning in FOREIGN_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True, scope="module")
def no_socket_is_left_to_other_tests() -> Iterator[None]:
    """Collects here what would otherwise be found in the middle of a test that takes warnings for errors."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def one_broker() -> Iterator[LocalCluster]:
    """A broker alone with one controller."""
    with LocalCluster(brokers=1, controllers=1) as cluster:
        yield cluster


@pytest.fixture(params=["three_brokers", "one_broker"])
def cluster(request: pytest.FixtureRequest) -> LocalCluster:
    """Each test that asks for it runs against the shared cluster of three, and against one broker alone."""
    name = "klamm_cluster" if request.param == "three_brokers" else "one_broker"
    started: LocalCluster = request.getfixturevalue(name)
    return started


@pytest.fixture
def servers(cluster: LocalCluster) -> str:
    """The Kafka addresses of `cluster`."""
    return cluster.kafka_bootstrap_servers


@pytest.fixture
def three_servers(klamm_cluster: LocalCluster) -> str:
    """The Kafka addresses of the cluster of three, for what does not depend on how many brokers there are."""
    return klamm_cluster.kafka_bootstrap_servers


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test has, for a topic or a group."""
    return re.sub(r"[^a-zA-Z0-9._-]", "-", request.node.name.removeprefix("test_"))[:80] + "-" + uuid.uuid4().hex[:8]
