# SPDX-License-Identifier: Apache-2.0
"""Wherever the power is cut in an update, the board boots a whole image: the old one or the new.

A whole update is given to a board, its trial boot and its confirmation included, while all that
its disk gets is logged. Then the disk is brought to what a cut may have left of it, and the board
is switched on: through its boot loader, to its agent.

    pytest tests/board/test_power_cuts.py                     some cuts
    pytest tests/board/test_power_cuts.py -m long -s          every kind of step, 500 instants

The disk of qemu-virt has a cache that the kernel flushes. SD cards know no flush, and the emulated
controller passes none on: a card is taken to have written what it has taken, in that order, with
only the write under way torn.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from board_images import Change, fit_with_change, fit_with_words, sign
from board_waits import command_line
from emulated_board import flash, logging_writes, switched_on, with_drive
from write_log import Cut, CutDisk, Entry, read_log

from ksmhost.board import Board, ImageLayout
from ksmhost.board.disk import SLOTS, newest_state
from ksmhost.board.model import SECTOR_BYTES
from ksmhost.flash import kept
from ksmhost.flash.image import SlotImage, read_slot_image
from ksmhost.flash.plan import Tier
from ksmhost.link import Where
from ksmhost.link.smp_session import SmpSession

BLOCK_BYTES = 4096
SIDE_BY_SIDE = 2
SEED = 4
SOME_STEPS, SOME_INSTANTS = 5, 3
AGAIN_EVERY = 20
"""On one board in so many the update is given again."""
NEW_WORDS = "ksmhost.test=new"
WEIGHTS = {"state": 10, "start": 15, "tail": 25, "data": 50}
"""How many cuts of a hundred are at each kind of write."""
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def layout(where: Where, described: Board) -> ImageLayout:
    """The layout of a board whose power can be cut."""
    if not where.emulate or described.image is None:
        pytest.skip("only an emulated board's disk can be changed here")
    return described.image


@dataclass(frozen=True, slots=True)
class Recorded:
    """An update as the board's disk saw it."""

    board: Board
    base: Path
    """What the disk held before."""
    entries: Sequence[Entry]
    old: SlotImage
    new: SlotImage
    kept_in: tuple[Path, ...]

    @property
    def flushes(self) -> bool:
        """The disk has a cache, and the kernel flushes it."""
        return self.board.boot.disk == "virtio"

    @property
    def layout(self) -> ImageLayout:
        """Where everything is on the disk."""
        assert self.board.image is not None
        return self.board.image

    def kind(self, entry: Entry) -> str:
        """What a write is: of the boot state, a slot's start, the agent's records, the content."""
        if entry.offset in self.layout.state_offsets:
            return "state"
        at = next(
            entry.offset - offset
            for offset in self.layout.slot_offsets
            if offset <= entry.offset < offset + self.layout.slot_bytes
        )
        if at < BLOCK_BYTES:
            return "start"
        return "tail" if at >= self.layout.slot_bytes - BLOCK_BYTES else "data"

    def by_kind(self) -> dict[str, list[int]]:
        """The writes of each kind, by their place in the log."""
        found: dict[str, list[int]] = {kind: [] for kind in WEIGHTS}
        for index, entry in enumerate(self.entries):
            if not entry.flush:
                found[self.kind(entry)].append(index)
        return found


async def record(board: Board, tier: Tier, folder: Path) -> Recorded:
    """Give a board an update and log it. Slot B holds another image before, which is whole, too."""
    assert board.image is not None
    built = board.build_dir() / "slot.bin"
    (folder / "shift").write_bytes(bytes(SECTOR_BYTES))
    moved = Change("ksmhost.test=older", {"shift": folder / "shift"}, moved=True)
    older = sign(board, fit_with_change(board, moved, folder), folder / "older.bin")
    new = sign(board, fit_with_words(built.read_bytes(), NEW_WORDS, folder), folder / "new.bin")
    base, disk, log = folder / "base", folder / "disk", folder / "log"
    _copy(board.build_dir() / "sdcard.img", base)
    with base.open("r+b") as file:
        file.seek(board.image.slot_offsets[1])
        file.write(older.read_bytes())
    _copy(base, disk)
    old = read_slot_image(built)
    kept.keep(old, folder / "kept")
    kept_in = (folder / "kept",) if tier is Tier.PATCH else ()
    image = read_slot_image(new)
    async with switched_on(logging_writes(board, log), disk) as session:
        plan = await flash(session, image, kept_in)
    assert plan.tier is tier
    recorded = Recorded(board, base, read_log(log), old, image, (folder / "kept",))
    _check_it_is_an_update(recorded, disk)
    for path in (log, disk):
        path.unlink()
    return recorded


def _check_it_is_an_update(recorded: Recorded, disk: Path) -> None:
    """The log makes the disk that the emulator left, and has all there is to an update."""
    work = disk.with_name("replayed")
    _copy(recorded.base, work)
    with CutDisk(work, recorded.entries).after(Cut(len(recorded.entries))):
        subprocess.run(["cmp", work, disk], check=True, timeout=60)
    work.unlink()
    by_kind = recorded.by_kind()
    # A trial begins, is counted down and confirmed; the start is cleared, and written at the end.
    assert len(by_kind["state"]) == 3 and len(by_kind["start"]) >= 2
    assert by_kind["tail"] and by_kind["data"]
    if recorded.flushes:
        for index in by_kind["state"]:  # each is on the disk before anything else happens
            assert recorded.entries[index].durable or recorded.entries[index + 1].flush


def _copy(source: Path, copy: Path) -> None:
    command = ["cp", "--sparse=always", str(source), str(copy)]
    subprocess.run(command, check=True, timeout=60)


# -- where the power is cut ------------------------------------------------------------------------


def every_step(recorded: Recorded) -> list[Cut]:
    """Before, in the middle of and behind each write that decides, and some of the others."""
    cuts = set()
    for kind, writes in recorded.by_kind().items():
        some = {0, 1, len(writes) // 2, len(writes) - 2, len(writes) - 1}
        for number, index in enumerate(writes):
            if kind in ("state", "start") or number in some:
                sectors = len(recorded.entries[index].data) // SECTOR_BYTES
                cuts |= {Cut(index), Cut(index, None, sectors // 2), Cut(index + 1)}
    return sorted(cuts, key=_in_time)


def behind_what_decides(recorded: Recorded) -> list[Cut]:
    """Behind each write of the boot state, and the first and the last one of the slot's start."""
    by_kind = recorded.by_kind()
    writes = [*by_kind["state"], by_kind["start"][0], by_kind["start"][-1]]
    return [Cut(index + 1) for index in writes]


def instants(recorded: Recorded, count: int, chance: random.Random) -> list[Cut]:
    """So many cuts at random."""
    by_kind = recorded.by_kind()
    kinds = chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    return [_instant(recorded, chance.choice(by_kind[kind]), chance) for kind in kinds]


def _instant(recorded: Recorded, index: int, chance: random.Random) -> Cut:
    if not recorded.flushes:
        sectors = len(recorded.entries[index].data) // SECTOR_BYTES
        return Cut(index, None, chance.randint(0, sectors))
    return Cut(index + chance.randint(0, 2), chance.getrandbits(32))


def _in_time(cut: Cut) -> tuple[int, int, int]:
    return cut.at, cut.seed or 0, cut.sectors


# -- what comes of it ------------------------------------------------------------------------------


class Cuts:
    """Cuts the power again and again, and looks at what boots."""

    def __init__(self, recorded: Recorded, folder: Path) -> None:
        self._recorded = recorded
        self._folder = folder
        self._seen: dict[int, Cut] = {}
        self.booted: Counter[str] = Counter()
        """How many disks were booted, and into which image."""
        self.again = 0
        """How often the update was given again."""

    async def all(self, cuts: Sequence[Cut], again_every: int) -> None:
        """Check each cut, boards side by side."""
        cuts = sorted(cuts, key=_in_time)
        share = -(-len(cuts) // SIDE_BY_SIDE)
        async with asyncio.TaskGroup() as tasks:
            for first in range(0, len(cuts), share):
                some = cuts[first : first + share]
                tasks.create_task(self._some(some, self._folder / f"work-{first}", again_every))

    async def _some(self, cuts: Sequence[Cut], work: Path, again_every: int) -> None:
        await asyncio.to_thread(_copy, self._recorded.base, work)
        disk = CutDisk(work, self._recorded.entries)
        for cut in cuts:
            with disk.after(cut) as digest:
                if self._seen.setdefault(digest, cut) != cut:
                    continue  # such a disk was booted already
                try:
                    await self._boot(work, again=self.booted.total() % again_every == 0)
                except Exception as error:
                    error.add_note(f"the power was cut: {cut}")
                    raise
        work.unlink()

    async def _boot(self, work: Path, again: bool) -> None:
        """Switch on; the board keeps nothing of what it writes now."""
        wanted = self._wanted(work)
        async with switched_on(with_drive(self._recorded.board, f"file={work}")) as session:
            slots = await session.slots()
            assert slots.running is not None
            assert SLOTS[slots.running] == wanted, slots
            assert slots.slots[slots.running].state == "whole", slots
            image = self._image_in(work, slots.running)
            assert (NEW_WORDS in await command_line(session)) == (image is self._recorded.new)
            if image is self._recorded.old:
                await _checked(session)
            self.booted["new" if image is self._recorded.new else "old"] += 1
            if again:
                await self._give_again(session)

    def _wanted(self, work: Path) -> str:
        """The slot that the boot state names."""
        with work.open("rb") as file:
            offsets = self._recorded.layout.state_offsets
            copies = [os.pread(file.fileno(), SECTOR_BYTES, at) for at in offsets]
        state = newest_state(copies)
        assert state is not None
        return state.first if not state.trial or state.tries else state.other

    def _image_in(self, work: Path, slot: int) -> SlotImage:
        """The image a slot holds, byte for byte."""
        with work.open("rb") as file:
            file.seek(self._recorded.layout.slot_offsets[slot])
            content = file.read(self._recorded.layout.slot_bytes)
        for image in (self._recorded.old, self._recorded.new):
            if content.startswith(image.data):
                return image
        raise AssertionError(f"slot {SLOTS[slot]} holds neither the old image nor the new one")

    async def _give_again(self, session: SmpSession) -> None:
        if (await session.slots()).state.trial:  # it was cut before it was confirmed
            await session.activate("confirm")
        await flash(session, self._recorded.new, self._recorded.kept_in)
        assert NEW_WORDS in await command_line(session)
        slots = await session.slots()
        assert not slots.state.trial and slots.state.first == slots.running
        self.again += 1


async def _checked(session: SmpSession) -> None:
    """Wait until the board has read its running slot through, and found it right."""
    async with asyncio.timeout(120):
        while True:
            slots = await session.slots()
            assert slots.running is not None
            info = slots.slots[slots.running]
            assert info.state == "whole", slots
            if info.checked:
                return
            await asyncio.sleep(0.1)


async def test_some_power_cuts(described: Board, layout: ImageLayout, tmp_path: Path) -> None:
    if described.boot.disk != "virtio":
        pytest.skip("an emulated SD card takes minutes: -m long")
    recorded = await record(described, Tier.PATCH, tmp_path)
    chance = random.Random(SEED)
    decide = [cut for cut in every_step(recorded) if _decides(recorded, cut)]
    cuts = Cuts(recorded, tmp_path)
    chosen = chance.sample(decide, SOME_STEPS) + instants(recorded, SOME_INSTANTS, chance)
    await cuts.all(chosen, AGAIN_EVERY)
    assert cuts.booted.total() > 1 and cuts.again


def _decides(recorded: Recorded, cut: Cut) -> bool:
    entry = recorded.entries[min(cut.at, len(recorded.entries) - 1)]
    return not entry.flush and recorded.kind(entry) in ("state", "start")


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("tier", [Tier.PATCH, Tier.BLOCKS])
async def test_power_cuts_at_every_kind_of_step_and_at_random_instants(
    described: Board, layout: ImageLayout, tier: Tier, tmp_path: Path
) -> None:
    if tier is Tier.BLOCKS and described.boot.disk != "virtio":
        pytest.skip("a dozen cuts of one update will do where each takes a minute")
    recorded = await record(described, tier, tmp_path)
    count = 250 if recorded.flushes else 7
    cuts = every_step(recorded) if recorded.flushes else behind_what_decides(recorded)
    cuts += instants(recorded, count, random.Random(SEED))
    found = Cuts(recorded, tmp_path)
    await found.all(cuts, AGAIN_EVERY)
    print(
        f"\n{described.name}, {tier.value}: {len(cuts)} cuts, {count} of them at random; "
        f"{found.booted.total()} different disks booted: {found.booted['old']} the old image, "
        f"{found.booted['new']} the new one; the update given again {found.again} times"
    )
    assert found.booted["old"] and found.booted["new"] and found.again
