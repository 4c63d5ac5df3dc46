"""What a user of standard tools expects of every node: health, reflection, and leaders that go back by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from klamm.client import Admin, NewTopic
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    settings = {"leader.imbalance.check.interval.seconds": "1"}
    with LocalCluster(brokers=2, controllers=1, controller_config=settings) as cluster:
        yield cluster


def address_of(cluster: LocalCluster, name: str) -> str:
    return next(node.address for node in cluster.layout.nodes if node.name == name)


@pytest.mark.parametrize(
    ("node", "service", "method"),
    [
        ("broker-1", "klamm.v1.Broker", "Produce"),
        ("broker-2", "klamm.v1.Replication", "Replicate"),
        ("controller-1", "klamm.v1.Controller", "Submit"),
    ],
)
def test_reflection_and_health(cluster: LocalCluster, node: str, service: str, method: str) -> None:
    with grpc.insecure_channel(address_of(cluster, node)) as channel:
        descriptors = ProtoReflectionDescriptorDatabase(channel)
        assert {service, "grpc.health.v1.Health"} <= set(descriptors.get_services())
        file = descriptors.FindFileContainingSymbol(service)
        (found,) = [each for each in file.service if f"{file.package}.{each.name}" == service]
        assert method in {each.name for each in found.method}
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", service):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_preferred_leader_that_is_back_leads_again(cluster: LocalCluster) -> None:
    admin = Admin(bootstrap_servers=cluster.bootstrap_servers)
    admin.create_topics([NewTopic("balanced", replica_assignments={0: [1, 2]})])
    admin.close()
    cluster.wait_until(lambda: cluster.leader_of("balanced", 0) == 1)
    cluster.kill(1)
    cluster.wait_until(lambda: cluster.leader_of("balanced", 0) == 2)
    cluster.restart(1)
    cluster.wait_until(lambda: cluster.leader_of("balanced", 0) == 1)
