# SPDX-License-Identifier: Apache-2.0
"""A card is written whole and read back; a disk that looks like somebody's own is refused."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash.card import Roots, check_disk, write_card

NOISE = random.Random(5).randbytes((3 << 20) + 4096)
IMAGE = NOISE[:440] + b"HMSK" + NOISE[444:510] + b"\x55\xaa" + NOISE[512:]
"""As an image for a card starts: with our disk signature, and that of an MBR."""


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "sdcard.img"
    file.write_bytes(IMAGE)
    return file


class Computer:
    """What a kernel tells of its disks: as much of it as is looked at."""

    def __init__(self, folder: Path) -> None:
        self.roots = Roots(folder / "block", folder / "mountinfo", folder / "swaps")
        self.roots.block.mkdir()
        self.roots.mounts.write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.roots.swaps.write_text(
            "Filename Type Size Used Priority\n/dev/sda5 partition 1 0 -2\n"
        )

    def disk(self, name: str, dev: str, **files: str) -> Path:
        about = self.roots.block / name
        about.mkdir()
        (about / "dev").write_text(dev)
        for file, content in files.items():
            path = about / file.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        return Path("/dev") / name

    def part(self, disk: str, name: str, dev: str) -> Path:
        about = self.roots.block / disk / name
        about.mkdir()
        (about / "dev").write_text(dev)
        (about / "partition").write_text("1")
        (self.roots.block / name).symlink_to(about)
        return Path("/dev") / name


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


def refusal(disk: Path, computer: Computer, *, insist: bool = False) -> str:
    with pytest.raises(KsmhostError) as caught:
        check_disk(disk, computer.roots, insist=insist)
    assert caught.value.code is ExitCode.USAGE
    assert "Nothing was written" in str(caught.value)
    return str(caught.value)


def test_a_file_is_written_whole(image: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    write_card(image, tmp_path / "card", lambda *step: told.append(step))
    assert (tmp_path / "card").read_bytes() == IMAGE
    assert told[-1] == ("reading back", len(IMAGE), len(IMAGE))
    assert ("writing", len(IMAGE), len(IMAGE)) in told


def test_a_file_there_before_is_replaced(image: Path, tmp_path: Path) -> None:
    (tmp_path / "card").write_bytes(bytes(10 << 20))
    write_card(image, tmp_path / "card", silent)
    assert (tmp_path / "card").read_bytes() == IMAGE


@pytest.mark.parametrize(
    "content",
    [b"", IMAGE[:500], NOISE, IMAGE[:510] + b"??", IMAGE[:440] + b"????" + IMAGE[444:]],
)
def test_what_is_no_image_for_a_card_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "slot.bin").write_bytes(content)
    (tmp_path / "card").write_bytes(b"before")
    with pytest.raises(KsmhostError, match="no image for a card") as caught:
        write_card(tmp_path / "slot.bin", tmp_path / "card", silent)
    assert caught.value.code is ExitCode.USAGE
    assert (tmp_path / "card").read_bytes() == b"before"


def test_the_image_is_not_written_onto_itself(image: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(image)
    os.link(image, tmp_path / "other-name")
    for card in (image, tmp_path / "link", tmp_path / "other-name"):
        with pytest.raises(KsmhostError, match="is the image itself"):
            write_card(image, card, silent)
    assert image.read_bytes() == IMAGE


def test_a_disk_that_is_not_there_is_not_made(image: Path, tmp_path: Path) -> None:
    (tmp_path / "card").symlink_to("/dev/no-such-disk")
    for card in (Path("/dev/no-such-disk"), tmp_path / "card"):
        with pytest.raises(KsmhostError, match="is not there"):
            write_card(image, card, silent)
    assert not Path("/dev/no-such-disk").exists()


def test_removable_disks_are_taken(computer: Computer) -> None:
    check_disk(computer.disk("sdb", "8:16", removable="1"), computer.roots, insist=False)
    card = computer.disk("mmcblk0", "179:0", removable="0", device__type="SD")
    check_disk(card, computer.roots, insist=False)


def test_a_fixed_disk_needs_insisting(computer: Computer) -> None:
    disk = computer.disk("sdc", "8:32", removable="0")
    assert "not removable" in refusal(disk, computer)
    check_disk(disk, computer.roots, insist=True)


def test_a_mounted_disk_is_refused_in_any_case(computer: Computer) -> None:
    disk = computer.disk("sda", "8:0", removable="1")
    partition = computer.part("sda", "sda1", "8:1")
    assert "mounted at /" in refusal(disk, computer, insist=True)
    assert "is a partition" in refusal(partition, computer, insist=True)


def test_a_disk_with_swap_is_refused(computer: Computer) -> None:
    disk = computer.disk("sda", "8:64", removable="1")
    computer.part("sda", "sda5", "8:69")
    assert "used for swap" in refusal(disk, computer, insist=True)


def test_what_cannot_be_written_is_told(image: Path, tmp_path: Path) -> None:
    with pytest.raises(KsmhostError, match="cannot be written: No such file"):
        write_card(image, tmp_path / "nowhere/card", silent)
    with pytest.raises(KsmhostError, match="neither a disk nor a file"):
        write_card(image, tmp_path, silent)
    with pytest.raises(KsmhostError, match="is not there"):
        write_card(tmp_path / "nosuch.img", tmp_path / "card", silent)
    assert not (tmp_path / "card").exists()


def test_a_full_disk_is_told(image: Path) -> None:
    full = Path("/dev/full")
    with pytest.raises(KsmhostError, match="neither a disk nor a file"):
        write_card(image, full, silent)


def test_what_reads_back_differently_is_told(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tmp_path / "card"

    def worn_out(fd: int) -> None:
        with card.open("r+b") as file:
            file.seek(2 << 20)
            file.write(b"rot")

    monkeypatch.setattr(os, "fsync", worn_out)
    with pytest.raises(KsmhostError, match="reads back differently near byte 2097152"):
        write_card(image, card, silent)
