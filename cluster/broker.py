"""A broker as the cluster knows it: who it is, where it listens, and whether it may lead (KIP-631)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..proto import metadata_pb2
from ..proto.identifiers import BrokerEpoch, BrokerId


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and port that others can reach."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BrokerRegistration:
    """One broker's latest registration. Each start of the process makes a new one, with a higher epoch."""

    broker_id: BrokerId
    incarnation_id: bytes
    broker_epoch: BrokerEpoch
    endpoints: Mapping[str, Endpoint]
    rack: str | None
    fenced: bool
    in_controlled_shutdown: bool
    log_dir_id: bytes

    @property
    def active(self) -> bool:
        """Fit to lead and to be in an ISR (KIP-841)."""
        return not self.fenced and not self.in_controlled_shutdown

    def with_state(self, *, fenced: bool, in_controlled_shutdown: bool) -> BrokerRegistration:
        """The same registration with other flags."""
        return replace(self, fenced=fenced, in_controlled_shutdown=in_controlled_shutdown)

    @classmethod
    def from_record(cls, record: metadata_pb2.RegisterBrokerRecord) -> BrokerRegistration:
        """The registration that a record states."""
        return cls(
            broker_id=BrokerId(record.broker_id),
            incarnation_id=record.incarnation_id,
            broker_epoch=BrokerEpoch(record.broker_epoch),
            endpoints={entry.name: Endpoint(entry.host, entry.port) for entry in record.endpoints},
            rack=record.rack or None,
            fenced=record.fenced,
            in_controlled_shutdown=record.in_controlled_shutdown,
            log_dir_id=record.log_dir_id,
        )

    def to_record(self) -> metadata_pb2.MetadataRecord:
        """The record that states this registration in full."""
        return metadata_pb2.MetadataRecord(
            register_broker=metadata_pb2.RegisterBrokerRecord(
                broker_id=self.broker_id,
                incarnation_id=self.incarnation_id,
                broker_epoch=self.broker_epoch,
                endpoints=[
                    metadata_pb2.Endpoint(name=name, host=endpoint.host, port=endpoint.port)
                    for name, endpoint in self.endpoints.items()
                ],
                rack=self.rack or "",
                fenced=self.fenced,
                in_controlled_shutdown=self.in_controlled_shutdown,
                log_dir_id=self.log_dir_id,
            )
        )
