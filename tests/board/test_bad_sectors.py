# SPDX-License-Identifier: Apache-2.0
"""A disk with a bad sector: an update that meets it says so, and the board keeps what it runs.

QEMU's blkdebug driver under the board's disk fails what touches the sector. What the boot loader
does when it cannot read or write the boot state is tests/boot's business: with both copies damaged
it starts slot A.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from board_images import fit_with_words, sign
from board_waits import answering, command_line
from emulated_board import failing, flash, switched_on

from ksmhost.board import Board, ImageLayout
from ksmhost.board.model import SECTOR_BYTES
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash import kept
from ksmhost.flash.image import SlotImage, read_slot_image
from ksmhost.link import Where
from ksmhost.link.smp_session import SmpSession

NEW_WORDS = "ksmhost.test=new"
AT = 12 << 20
"""Where in a slot: amid its content."""
pytestmark = pytest.mark.timeout(1200)

Rules = list[dict[str, object]]


@pytest.fixture
def layout(where: Where, described: Board) -> ImageLayout:
    """The layout of a board whose disk can fail: an emulated controller of SD cards knows none."""
    if not where.emulate or described.image is None or described.boot.disk != "virtio":
        pytest.skip("only an emulated virtio disk can be made to fail")
    return described.image


@dataclass(frozen=True, slots=True)
class Sent:
    """An image to be sent, and where that is kept which it can be a patch of."""

    image: SlotImage
    kept_in: tuple[Path, ...]


@pytest.fixture
def sent(described: Board, layout: ImageLayout, tmp_path: Path) -> Sent:
    """A new image, to be sent as a patch, which rewrites all of the slot."""
    built = described.build_dir() / "slot.bin"
    kept.keep(read_slot_image(built), tmp_path / "kept")
    fit = fit_with_words(built.read_bytes(), NEW_WORDS, tmp_path)
    image = read_slot_image(sign(described, fit, tmp_path / "new.bin"))
    return Sent(image, (tmp_path / "kept",))


def bad(layout: ImageLayout, slot: int, what: str, once: bool = False) -> Rules:
    """A sector of a slot that fails when it is read or written, for ever or just once."""
    sector = (layout.slot_offsets[slot] + AT) // SECTOR_BYTES
    rule: dict[str, object] = {"event": "none", "iotype": what, "sector": sector, "errno": 5}
    return [rule | ({"once": "on"} if once else {})]


@pytest.mark.parametrize("what", ["write", "read"])
async def test_a_bad_sector_in_the_inactive_slot_ends_the_update(
    described: Board, layout: ImageLayout, sent: Sent, tmp_path: Path, what: str
) -> None:
    board = failing(described, bad(layout, 1, what))
    async with switched_on(board, tmp_path / "disk") as session:
        with pytest.raises(KsmhostError) as failed:
            await flash(session, sent.image, sent.kept_in)
        assert failed.value.code is ExitCode.REFUSED, failed.value
        assert "disk failed" in str(failed.value), failed.value
        await _runs_the_old_image(session)
        await session.power_cycle()
        await _runs_the_old_image(session)


async def test_a_sector_that_fails_once_is_written_again(
    described: Board, layout: ImageLayout, sent: Sent, tmp_path: Path
) -> None:
    board = failing(described, bad(layout, 1, "write", once=True))
    async with switched_on(board, tmp_path / "disk") as session:
        await flash(session, sent.image, sent.kept_in)
        assert NEW_WORDS in await command_line(session)


async def test_a_bad_sector_in_the_slot_to_boot_starts_the_other(
    described: Board, layout: ImageLayout, tmp_path: Path
) -> None:
    board = failing(described, bad(layout, 0, "read"))
    async with switched_on(board, tmp_path / "disk") as session:
        slots = await session.slots()
        assert slots.running == 1 and slots.slots[1].state == "whole"
        assert slots.state.first == 0


async def _runs_the_old_image(session: SmpSession) -> None:
    await answering(session)
    assert NEW_WORDS not in await command_line(session)
    slots = await session.slots()
    assert slots.running == 0 and slots.slots[0].state == "whole"
    assert not slots.state.trial and slots.slots[1].state != "whole"
