"""What a broker answers at its doors: rules 3, 4, 11, 17, 20 and 23, at each produce and each fetch.

3   an ack under acks=all is given for what is committed
4   nobody is given a record at or past the high watermark
11  a request of another leader epoch is refused
17  a producer id is given once
20  nothing is served before the broker acts on its own registration
23  the last stable offset is not past the high watermark
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.oracles.breach import Report


class Served(NamedTuple):
    """A read of one partition that was answered without an error."""

    broker_id: int
    name: str
    asked_epoch: int | None
    leader_epoch: int | None
    records_end: int  # offset behind the last record given; -1 if there is none
    high_watermark: int
    last_stable_offset: int
    told_high_watermark: int  # in the answer


class DoorOracle:
    """Told of what goes out."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._producer_ids: dict[int, int] = {}  # and the broker that gave each

    def read(self, served: Served) -> None:
        """Records, or none, for a consumer."""
        where = f"broker {served.broker_id} gave a consumer records of {served.name}"
        if served.records_end > served.high_watermark:
            self._report(
                4, f"{where} up to offset {served.records_end}, past the high watermark {served.high_watermark}"
            )
        if served.last_stable_offset > served.told_high_watermark:
            self._report(
                23,
                f"{where} and told a last stable offset of {served.last_stable_offset}, past the high watermark "
                f"{served.told_high_watermark}",
            )
        self.epochs(served.broker_id, served.name, "read", served.asked_epoch, served.leader_epoch)

    def epochs(self, broker_id: int, name: str, what: str, asked: int | None, leader_epoch: int | None) -> None:
        """A request that names an epoch was carried out."""
        if asked is not None and asked != leader_epoch:
            self._report(
                11,
                f"broker {broker_id} carried out a {what} of {name} for leader epoch {asked}; its own is "
                f"{leader_epoch}",
            )

    def gave_producer_id(self, broker_id: int, producer_id: int) -> None:
        """To a producer that had none."""
        first = self._producer_ids.get(producer_id)
        if first is not None:
            self._report(17, f"broker {broker_id} gave out producer id {producer_id}, which broker {first} gave before")
        self._producer_ids[producer_id] = broker_id

    def served(self, broker_id: int, broker_epoch: int, acts_on: int) -> None:
        """Something was served by a process that was registered under `broker_epoch` when it began, and acts on the
        metadata below `acts_on`."""
        if acts_on <= broker_epoch:
            self._report(
                20,
                f"broker {broker_id} serves under epoch {broker_epoch} while it acts on the metadata below {acts_on}",
            )
