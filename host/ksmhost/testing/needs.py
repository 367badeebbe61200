# SPDX-License-Identifier: Apache-2.0
"""What a test needs of a board, and whether it is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ksmhost.link import Identity
from ksmhost.testing.live import LiveBoard

Names = tuple[str, ...] | str


@dataclass(frozen=True, slots=True)
class Needs:
    """The arguments of the marker `ksm_needs`."""

    engine: str | None = None
    knobs: Names = ()
    counters: Names = ()
    workload: str | None = None
    mem_mib: int = 0
    cpus: int = 0
    real: bool | None = None
    """True: no emulator; False: an emulator only."""

    def missing(self, board: LiveBoard) -> str:
        """The first of these that the board lacks, in words; "" when it has all."""
        return next(self._missing(board, board.identity), "")

    def _missing(self, board: LiveBoard, who: Identity) -> Iterator[str]:
        if self.engine is not None and who.engine != self.engine:
            yield f"the engine {self.engine}: it runs {who.engine}"
        if who.mem_bytes < self.mem_mib << 20:
            yield f"{self.mem_mib} MiB: it has {who.mem_bytes >> 20}"
        if who.cpus < self.cpus:
            yield f"{self.cpus} CPUs: it has {who.cpus}"
        if self.real is not None and board.emulated == self.real:
            yield "real hardware" if self.real else "an emulator"
        if self.knobs:
            yield from _lacking("knob", self.knobs, board.knobs())
        if self.counters:
            yield from _lacking("counter", self.counters, board.counters())
        if self.workload is not None:
            there = {workload.name: workload for workload in board.workloads()}
            yield from _lacking("workload", self.workload, there)


def _lacking(what: str, names: Names, there: object) -> Iterator[str]:
    assert isinstance(there, dict)
    wanted = (names,) if isinstance(names, str) else names
    yield from (f"the {what} {name}" for name in wanted if name not in there)
