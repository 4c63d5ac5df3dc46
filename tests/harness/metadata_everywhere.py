"""Until every broker knows what any broker knows: for what is asked of another broker than the one that was told."""

from __future__ import annotations

from klamm.deploy.local import LocalCluster


def wait_until_known_everywhere(cluster: LocalCluster) -> None:
    """Until every running broker has replayed, and acted on, what any of them has.

    An administrative call is answered when the broker that was asked has replayed it. Who asks the next broker (a
    client of many brokers, or the leader of a partition) may otherwise be told what was true before.
    """
    target = max(_metadata_end_offsets(cluster))
    cluster.wait_until(lambda: min(_metadata_end_offsets(cluster)) >= target, what="all brokers' metadata")


def _metadata_end_offsets(cluster: LocalCluster) -> list[int]:
    running = [spec for spec in cluster.layout.brokers if cluster.is_running(spec)]
    answers = [cluster.observer.ask_broker(spec) for spec in running]
    return [-1 if answer is None else answer.metadata_end_offset for answer in answers]
