# SPDX-License-Identifier: Apache-2.0
"""Whatever the disk holds and whatever becomes of a write, a whole slot is booted: old or new.

`predict` says in ten lines what the loader is to do; the loader as built is compared with it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from boot_disk import NO_SLOT, Bench, Disk, Fault, Outcome

from conftest import MakeBench
from ksmhost.board.disk import SLOTS, BootState, newest_state, write_plan
from ksmhost.board.disk import Outcome as Ended
from ksmhost.board.model import SECTOR_BYTES

GARBAGE = b"\xa5" * SECTOR_BYTES
TRIAL = " ksmhost.trial=1 watchdog.open_timeout=60 ksmhost.watchdog=locked (watched)"

CONFIRMED = [BootState(9, slot) for slot in SLOTS]
ON_TRIAL = [
    BootState(9, slot, tries, trial=True) for slot, tries in itertools.product(SLOTS, range(3))
]


@dataclass(frozen=True)
class Prediction:
    """What is to come of a boot."""

    starts: str
    """The slot, empty for none."""
    on_trial: bool
    writes: tuple[BootState, ...]


def predict(disk: Disk, writable: bool = True) -> Prediction:
    """What the loader is to do with a disk."""
    state = newest_state(disk.copies) or BootState(1, "a")
    order, left = [state.first, state.other], None
    if state.trial:
        if state.tries and state.first in disk.whole and writable:
            return Prediction(state.first, True, (state.count_down(),))
        order.reverse()
        if state.tries == 0:
            left = Ended.OUT_OF_TRIES
        elif state.first not in disk.whole:
            left = Ended.UNREADABLE
    writes = (state.revert(left),) if left and writable else ()
    return Prediction(next((slot for slot in order if slot in disk.whole), ""), False, writes)


def after(copies: tuple[bytes, bytes], writes: Iterable[bytes]) -> tuple[bytes, bytes]:
    """The copies after writes, each over the copy that does not count."""
    changed = list(copies)
    for sector in writes:
        changed[write_plan(changed)] = sector
    return (changed[0], changed[1])


def check(bench: Bench, disk: Disk, outcome: Outcome, wanted: Prediction, failing: bool) -> None:
    """Compare what came of a boot with what was to come."""
    slot, about = wanted.starts, f"{disk}\n{outcome.console}"
    line = f"tiny-{slot} ksmhost.slot={slot} " + (TRIAL if wanted.on_trial else "")
    assert outcome.started == ([line] if slot else []), about
    assert (NO_SLOT in outcome.console) == (not slot), about
    if failing:
        return
    packed, copies = [state.pack() for state in wanted.writes], disk.copies
    assert len(outcome.writes) == len(packed), about
    for (offset, sector), expected in zip(outcome.writes, packed, strict=True):
        assert (offset, sector) == (bench.copy_offset(write_plan(copies)), expected), about
        copies = after(copies, [sector])
    assert outcome.copies == copies, about


class Boots:
    """Boots many disks side by side and checks each."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder
        self._names = itertools.count()

    def all(self, cases: Iterable[tuple[Disk, Fault | None]]) -> None:
        """Boot each disk, with its fault, and compare with the prediction."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(self._one, cases):
                pass

    def _one(self, case: tuple[Disk, Fault | None]) -> None:
        disk, fault = case
        outcome = self._bench.boot(disk, self._folder / str(next(self._names)), fault)
        wanted = predict(disk, writable=fault is None)
        check(self._bench, disk, outcome, wanted, failing=fault is not None)


@pytest.fixture
def boots(bench: Bench, tmp_path: Path) -> Boots:
    """Boots of slots that say which they are."""
    return Boots(bench, tmp_path)


def copies_of(state: BootState, other: bytes, at: int) -> tuple[bytes, bytes]:
    """The state in one copy, something older or worse in the other."""
    return (state.pack(), other) if at == 0 else (other, state.pack())


def older(state: BootState) -> bytes:
    """A state that does not count beside `state`, and says otherwise."""
    return BootState(state.sequence - 1, state.other).pack()


# -- a few boots ----------------------------------------------------------------------------------


def test_ordinary_boots(boots: Boots) -> None:
    new = BootState(1, "a").pack()
    trial = BootState(2, "b", 1, trial=True)
    copies = copies_of(trial, new, 1)
    boots.all(
        [
            (Disk((new, new)), None),
            (Disk((new, new), ("magic", "")), None),
            (Disk((GARBAGE, GARBAGE), ("size", "")), None),
            (Disk(copies), None),
            (Disk(copies, ("", "hash")), None),
            (Disk(copies_of(trial.count_down(), new, 0)), None),
            (Disk(copies), Fault(copy=0)),
            (Disk(copies), Fault(copy=0, read_back=True)),
            (Disk((new, new), ("unreadable", "hash")), None),
        ]
    )


def test_a_trial_that_hangs_comes_back(bench_of: MakeBench, tmp_path: Path) -> None:
    trial = BootState(2, "b", 2, trial=True)
    disk = Disk((BootState(1, "a").pack(), trial.pack()))
    outcome = bench_of("tiny-a", "tiny-b hang").boot(disk, tmp_path / "hang")
    hung = f"tiny-b hang ksmhost.slot=b {TRIAL}"
    assert outcome.started == [hung, hung, "tiny-a ksmhost.slot=a "]
    state = newest_state(outcome.copies)
    assert state == BootState(5, "a", outcome=Ended.OUT_OF_TRIES)


def test_a_whole_slot_that_cannot_be_started_is_left(bench_of: MakeBench, tmp_path: Path) -> None:
    trial = BootState(2, "b", 2, trial=True)
    disk = Disk((BootState(1, "a").pack(), trial.pack()))
    outcome = bench_of("tiny-a", "tiny-b unstartable").boot(disk, tmp_path / "unstartable")
    assert outcome.started == ["tiny-a ksmhost.slot=a "]  # and no longer watched
    counted = trial.count_down()
    written = [BootState.unpack(sector) for _, sector in outcome.writes]
    assert written == [counted, counted.revert(Ended.UNREADABLE)]
    assert newest_state(outcome.copies) == written[-1]


# -- all of them ----------------------------------------------------------------------------------

AILS = ("", "hash", "unreadable")


def _every_copies(states: Iterable[BootState]) -> Iterator[tuple[bytes, bytes]]:
    for state, at in itertools.product(states, (0, 1)):
        yield copies_of(state, older(state), at)
        yield copies_of(state, GARBAGE, at)


def _torn(disk: Disk, wanted: Prediction) -> Iterator[Disk]:
    """The disks that a cut leaves: at each write before it, in the middle of it, behind it."""
    packed = [state.pack() for state in wanted.writes]
    for count, sector in enumerate(packed):
        before = after(disk.copies, packed[:count])
        yield replace(disk, copies=before)
        at = write_plan(before)
        half = SECTOR_BYTES // 2
        for torn in (GARBAGE, sector[:half] + before[at][half:], before[at][:half] + sector[half:]):
            yield replace(disk, copies=copies_of_two(before, at, torn))
    yield replace(disk, copies=after(disk.copies, packed))


def copies_of_two(copies: tuple[bytes, bytes], at: int, sector: bytes) -> tuple[bytes, bytes]:
    """The copies with one replaced."""
    return (sector, copies[1]) if at == 0 else (copies[0], sector)


def _alike(disk: Disk) -> object:
    """What decides a boot: the state without its number, which copy has it, how the other is."""
    states = [BootState.unpack(copy) for copy in disk.copies]
    state = newest_state(disk.copies)
    shape = None if state is None else replace(state, sequence=0)
    return shape, write_plan(disk.copies), [s is None for s in states], disk.ails


def _closure(disks: Iterable[Disk]) -> list[Disk]:
    """The disks and all that cuts make of them, one of each kind."""
    found: dict[str, Disk] = {}
    waiting = list(disks)
    while waiting:
        disk = waiting.pop()
        kind = repr(_alike(disk))
        if kind not in found:
            found[kind] = disk
            waiting += _torn(disk, predict(disk))
    return list(found.values())


def _every_disk() -> list[Disk]:
    copies = [(GARBAGE, GARBAGE), *_every_copies([*CONFIRMED, *ON_TRIAL])]
    return [Disk(both, (a, b)) for both in copies for a in AILS for b in AILS]


def test_whatever_is_cut_a_whole_slot_is_next() -> None:
    """Of the prediction itself: it never asks for a slot that is not whole while there is one."""
    for disk in _closure(_every_disk()):
        for writable in (True, False):
            wanted = predict(disk, writable)
            assert (wanted.starts in disk.whole) if disk.whole else not wanted.starts
            state = newest_state(disk.copies)
            assert not wanted.on_trial or (state and state.trial and state.tries and writable)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_state_and_every_cut(boots: Boots) -> None:
    boots.all((disk, None) for disk in _closure(_every_disk()))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_failing_write(boots: Boots) -> None:
    faults: list[Callable[[int], Fault]] = [Fault, lambda copy: Fault(copy, read_back=True)]
    disks = [Disk(copies, (a, b)) for copies in _every_copies(ON_TRIAL) for a in AILS for b in AILS]
    boots.all((disk, fault(write_plan(disk.copies))) for disk in disks for fault in faults)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_copy_with_any_byte_wrong_does_not_count(boots: Boots) -> None:
    good, newer = BootState(9, "b").pack(), BootState(0xFFFF, "a").pack()
    disks = []
    for at in [*range(20), 255, *range(506, 512)]:
        bad = bytearray(newer)
        bad[at] ^= 0x10
        disks += [Disk((good, bytes(bad))), Disk((bytes(bad), good))]
    boots.all((disk, None) for disk in disks)
