# SPDX-License-Identifier: Apache-2.0
"""What the stand-in hands over, looked at by a few instructions in a real QEMU."""

from __future__ import annotations

import asyncio
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cards import CONFIG, changed, good_files
from test_target_emulators import make_image, read_until

from ksmhost.board import Board, find_project, load_board
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import Timing
from ksmhost.target import Machine, QemuTarget
from ksmhost.target.emulated_pi import EMULATED, model_of, prepare_pi
from ksmhost.target.machine import prepare
from ksmhost.target.pi_cores import stub
from ksmhost.videocore import find_model
from ksmhost.videocore.fdt import parse
from ksmhost.videocore.memory import GIB
from ksmhost.videocore.models import MIB

FAT_AT = f"@@{MIB}"

LOOK = """
	mov	x20, x0
	ldr	x19, uart
	ldr	w1, [x20]		// the tree's magic number, the other way round
	ldr	w2, magic
	mov	w0, #'T'
	cmp	w1, w2
	b.ne	wrong
	str	w0, [x19]
	ldr	x3, end			// the last word of memory takes what is written
	str	x3, [x3]
	ldr	x4, [x3]
	mov	w0, #'M'
	cmp	x3, x4
	b.ne	wrong
	str	w0, [x19]
	mov	w0, #'.'
wrong:	str	w0, [x19]
	b	.
	.balign	8
uart:	.quad	%(uart)#x
end:	.quad	%(end)#x
magic:	.word	0xedfe0dd0
"""

WAKE = """
	ldr	x19, uart
	mov	w0, #'w'
	str	w0, [x19]
1:	ldr	w2, [x19, #0x18]	// until a byte is received
	tbnz	w2, #4, 1b
	adr	x1, second
	mov	x3, #0xe0
	str	x1, [x3]		// where the second core is to go
	sev
	b	.
second:	ldr	x19, uart
	orr	x0, x0, x1		// as the kernel's boot protocol asks: 0
	orr	x0, x0, x2
	orr	x0, x0, x3
	add	x0, x0, #'0'
	str	w0, [x19]
	mov	w0, #'!'
	str	w0, [x19]
	b	.
	.balign	8
uart:	.quad	%(uart)#x
"""


def assembled(source: str, folder: Path) -> bytes:
    tools = "aarch64-linux-gnu-"
    (folder / "look.s").write_text(source)
    for command in (["as", "look.s", "-o", "look.o"], ["objcopy", "-Obinary", "look.o", "look"]):
        subprocess.run([tools + command[0], *command[1:]], cwd=folder, check=True)
    return (folder / "look").read_bytes()


def disk(folder: Path, files: dict[str, bytes]) -> Path:
    """An image with these files in its FAT partition."""
    image = folder / "sdcard.img"
    make_image(image)
    at = f"{image}{FAT_AT}"
    subprocess.run(["mformat", "-i", at, "-T", "14336", "::"], check=True)
    subprocess.run(["mmd", "-i", at, "::overlays"], check=True)
    for name, content in files.items():
        (folder / "file").write_bytes(content)
        subprocess.run(["mcopy", "-i", at, folder / "file", f"::{name}"], check=True)
    return image


def pi(folder: Path, board: str, model: str, files: dict[str, bytes]) -> Machine:
    """A board of ours with another image."""
    disk(folder, files)
    return Machine(load_board(board, find_project()), folder, model=model)


@pytest.mark.parametrize(
    ("board", "model", "uart", "end"),
    [
        ("rpi4", "4b", 0xFE201000, 2 * GIB - 8),
        ("rpi4", "400", 0xFE201000, 2 * GIB - 8),
        ("rpi3", "3b", 0x3F201000, 992 * MIB - 8),
        ("rpi3", "zero2w", 0x3F201000, 480 * MIB - 8),
    ],
)
async def test_the_kernel_gets_tree_and_memory(
    board: str, model: str, uart: int, end: int, tmp_path: Path
) -> None:
    kernel = assembled(LOOK % {"uart": uart, "end": end}, tmp_path)
    target = QemuTarget(pi(tmp_path, board, model, good_files() | {"u-boot.bin": kernel}), Timing())
    line = await target.start()
    try:
        await read_until(line, b"TM.")
        await target.power_cycle()
        await read_until(line, b"TM.")
        assert find_model(model).title in target.notes[0]
        assert "not documented" in target.notes[1]
        assert model in target.describe()
    finally:
        await target.stop()


@pytest.mark.parametrize(
    ("board", "model", "uart"), [("rpi4", "4b", 0xFE201000), ("rpi3", "zero2w", 0x3F201000)]
)
async def test_secondary_cores_sleep_until_they_are_called(
    board: str, model: str, uart: int, tmp_path: Path
) -> None:
    """They would take the host's cores from the one that boots."""
    kernel = assembled(WAKE % {"uart": uart}, tmp_path)
    target = QemuTarget(pi(tmp_path, board, model, good_files() | {"u-boot.bin": kernel}), Timing())
    line = await target.start()
    try:
        await read_until(line, b"w")
        while (spent := await ticks_of_cores(target))[0] < 50:
            await asyncio.sleep(0.05)
        assert max(spent[1:]) < spent[0] / 2, "as much as the core that spins"
        await line.write(b"go")
        await read_until(line, b"0!")
    finally:
        await target.stop()


async def ticks_of_cores(target: QemuTarget) -> list[int]:
    """What each core has taken of the host's, in its clock ticks."""
    assert target._qmp is not None and target._process is not None
    cores = await target._qmp.execute("query-cpus-fast")
    tasks = Path(f"/proc/{target._process.pid}/task")
    stats = [(tasks / str(core["thread-id"]) / "stat").read_text() for core in cores]
    return [sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats]


async def test_the_arguments_say_where_everything_is(tmp_path: Path) -> None:
    machine = pi(tmp_path, "rpi4", "", good_files())
    arguments = (await prepare(machine, tmp_path)).arguments
    loaded = [word.split(",") for word in arguments if word.startswith("loader,")]
    assert [part[2] for part in loaded] == ["addr=0x400", "addr=0x200000", "addr=0x3df00000"]
    assert f"bcm2835-fb.vcram-size={32 * MIB}" in arguments
    assert "sd-card,drive=card,bus=/generic-sdhci/sd-bus" in arguments
    code = Path(arguments[arguments.index("-kernel") + 1]).read_bytes()
    assert struct.unpack_from("<QQ", code, 40) == (0x200000, 0x3DF00000) and len(code) == 64
    assert code == stub(0x200000, 0x3DF00000)


@pytest.mark.parametrize(
    ("model", "config", "vcram_mib"),
    [
        ("4b", CONFIG, 32),
        ("4b", changed("gpu_mem=32", ""), 76),
        ("3b", CONFIG, 32),
        ("zero2w", CONFIG, 512 + 32),
        ("zero2w", changed("gpu_mem=32", ""), 576),
        ("3a+", f"{CONFIG}total_mem=256", 768 + 32),
    ],
)
def test_the_mailbox_and_the_tree_agree(
    model: str, config: str, vcram_mib: int, tmp_path: Path
) -> None:
    """QEMU's mailbox tells of the first GiB without the VideoCore's share: so must the tree."""
    image = disk(tmp_path, good_files() | {"config.txt": config.encode()})
    started = prepare_pi(image, find_model(model), 2 * GIB, tmp_path)
    assert f"bcm2835-fb.vcram-size={vcram_mib * MIB}" in started.arguments
    assert started.handover.banks[0].end == GIB - vcram_mib * MIB


def test_the_tree_says_that_it_is_an_emulator_and_what_it_lacks(tmp_path: Path) -> None:
    image = disk(tmp_path, good_files())
    started = prepare_pi(image, find_model("4b"), 2 * GIB, tmp_path)
    tree = parse((tmp_path / "tree.dtb").read_bytes())
    chosen = tree.root.at("/chosen")
    assert chosen is not None and chosen.properties[EMULATED] == b""
    assert [node.string("status") for node in tree.compatible("brcm,bcm2711-rng200")] == [
        "disabled"
    ]
    handed = started.handover.tree
    assert handed is not None and EMULATED.encode() not in started.handover.tree_blob()
    assert [node.string("status") for node in handed.compatible("brcm,bcm2711-rng200")] == [""]


async def test_where_a_pi_stops_no_emulator_starts(tmp_path: Path) -> None:
    files = good_files() | {"config.txt": changed("gpu_mem=32", "gpu_mem=16").encode()}
    target = QemuTarget(pi(tmp_path, "rpi4", "", files), Timing())
    with pytest.raises(KsmhostError, match="start4cd") as stopped:
        await target.start()
    assert stopped.value.code is ExitCode.BAD_IMAGE and "4 short" in stopped.value.means


async def test_where_a_pi_goes_on_so_does_the_emulator_and_says_so(tmp_path: Path) -> None:
    files = good_files() | {"config.txt": f"{CONFIG}hdmi_drive=2\ndtoverlay=gone\n".encode()}
    machine = pi(tmp_path, "rpi4", "", files)
    notes = (await prepare(machine, tmp_path)).notes
    assert [note for note in notes if note.startswith("warning: ")] == list(notes[2:])
    assert "hdmi_drive" in notes[2] and "overlays/gone.dtbo" in notes[3]


def test_a_boot_without_a_tree_hands_over_nothing(tmp_path: Path) -> None:
    files = good_files() | {"bcm2711-rpi-4-b.dtb": b"broken"}
    arguments = prepare_pi(disk(tmp_path, files), find_model("4b"), 2 * GIB, tmp_path).arguments
    assert len([word for word in arguments if word.startswith("loader,")]) == 2
    code = (tmp_path / "stub").read_bytes()
    assert struct.unpack_from("<Q", code, 48) == (0,)


def test_a_kernel_in_the_wrong_mode_is_refused(tmp_path: Path) -> None:
    files = good_files() | {"config.txt": changed("arm_64bit=1\n", "").encode()}
    image = disk(tmp_path, files)
    prepare_pi(image, find_model("4b"), 2 * GIB, tmp_path)
    with pytest.raises(KsmhostError, match="32-bit mode"):
        prepare_pi(image, find_model("zero2w"), GIB, tmp_path)


def test_models_of_another_board_are_told() -> None:
    models = ("3b", "zero2w")
    assert model_of(models, "rpi3", "").name == "3b"
    assert model_of(models, "rpi3", "zero2w").name == "zero2w"
    with pytest.raises(KsmhostError, match="rpi3 is not for") as other:
        model_of(models, "rpi3", "4b")
    assert other.value.code is ExitCode.USAGE and "3b, zero2w" in other.value.means
    with pytest.raises(KsmhostError, match="no model 'zero'"):
        model_of(models, "rpi3", "zero")


async def test_a_board_without_models_takes_none(tmp_path: Path) -> None:
    board: Board = load_board("qemu-virt", find_project())
    machine = Machine(board, tmp_path, model="4b")
    with pytest.raises(KsmhostError, match="no models") as refused:
        await prepare(machine, tmp_path)
    assert refused.value.code is ExitCode.USAGE
    assert replace(machine, model="").pi is None
