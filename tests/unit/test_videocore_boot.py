# SPDX-License-Identifier: Apache-2.0
"""From power-on to the kernel: files the firmware takes, where it stops, whose memory is whose.

Each table names the place in Raspberry Pi's documentation that it is made from.
"""

from __future__ import annotations

import gzip

import pytest
from cards import CONFIG, ELF, LOADER, card, changed, good_files, tree_for

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.videocore import MODELS, Card, Handover, Rule, find_model, power_on
from ksmhost.videocore.memory import GIB
from ksmhost.videocore.models import MIB, is_c0, type_of


def boot(on: Card | None = None, model: str = "4b", memory_mib: int = 0) -> Handover:
    chosen = find_model(model)
    size_bytes = memory_mib * MIB or chosen.fitting(2 * GIB)
    return power_on(on or card(), chosen, size_bytes, random=lambda count: b"\x5a" * count)


def stopped(on: Card, model: str = "4b", memory_mib: int = 0) -> KsmhostError:
    with pytest.raises(KsmhostError) as caught:
        boot(on, model, memory_mib)
    assert caught.value.code == ExitCode.BAD_IMAGE
    assert caught.value.todo
    return caught.value


def rules(handover: Handover) -> set[Rule]:
    return {warning.rule for warning in handover.warnings}


@pytest.mark.parametrize("model", MODELS)
def test_a_good_card_boots_every_model_without_a_word(model: str) -> None:
    handover = boot(model=model)
    assert handover.warnings == ()
    four = "4" if model in ("4b", "400", "cm4") else ""
    assert (handover.firmware.start, handover.firmware.fixup) == (
        f"start{four}.elf",
        f"fixup{four}.dat",
    )
    assert (handover.kernel.content, handover.kernel.bits) == (LOADER, 64)
    assert handover.kernel.address == 0x200000
    assert handover.tree_path == MODELS[model].tree
    assert handover.uart is not None
    assert (handover.uart.baud, handover.uart.clock_hz) == (115200, 64_000_000)
    assert handover.model.title in handover.describe()


@pytest.mark.parametrize(
    ("model", "kind", "title"),
    [
        ("3b", 0x08, "3B"),
        ("3b+", 0x0D, "3B+"),
        ("3a+", 0x0E, "3A+"),
        ("4b", 0x11, "4B"),
        ("zero2w", 0x12, "Zero 2 W"),
        ("400", 0x13, "400"),
        ("cm4", 0x14, "CM4"),
    ],
)
def test_revision_codes(model: str, kind: int, title: str) -> None:
    """Raspberry Pi hardware, "New-style revision codes"."""
    processors = {"bcm2837": 2, "bcm2711": 3}
    for mib, code in MODELS[model].revisions.items():
        assert type_of(code) == kind == MODELS[model].type, title
        assert code >> 23 & 1
        assert 256 << (code >> 20 & 7) == mib
        assert code >> 12 & 0xF == processors[MODELS[model].soc]


CARD = {"bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", "u-boot.bin"}
NEEDED = {"pi3": {"bootcode.bin", "start.elf", "fixup.dat"}, "pi4": {"start4.elf", "fixup4.dat"}}
FLASHES = {
    "start.elf": "0 long and 4 short",
    "start4.elf": "0 long and 4 short",
    "u-boot.bin": "0 long and 7 short",
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", sorted(CARD))
def test_a_missing_file_stops_the_board_that_needs_it(name: str, model: str) -> None:
    """Configuration, "bootcode.bin", "start.elf"; "LED warning flash codes"."""
    family = "pi4" if "pi4" in MODELS[model].filters else "pi3"
    if name in NEEDED[family] | {"u-boot.bin"}:
        error = stopped(card(without=(name,)), model)
        assert name in error.what
        assert FLASHES.get(name, "(") in error.means
        assert ("LED" in error.means) == (name in FLASHES)
    else:
        assert boot(card(without=(name,)), model).warnings == ()


@pytest.mark.parametrize(
    ("model", "mib", "config", "start", "fixup"),
    [
        ("4b", 2048, "gpu_mem=16", "start4cd.elf", "fixup4cd.dat"),
        ("4b", 2048, "gpu_mem=31", "start4cd.elf", "fixup4cd.dat"),
        ("4b", 2048, "gpu_mem=32", "start4.elf", "fixup4.dat"),
        ("4b", 2048, "", "start4.elf", "fixup4.dat"),
        ("4b", 2048, "start_x=1", "start4x.elf", "fixup4x.dat"),
        ("4b", 2048, "start_debug=1", "start4db.elf", "fixup4db.dat"),
        ("4b", 2048, "gpu_mem=64\ngpu_mem_1024=16", "start4cd.elf", "fixup4cd.dat"),
        ("4b", 1024, "gpu_mem=64\ngpu_mem_1024=16", "start4cd.elf", "fixup4cd.dat"),
        ("4b", 2048, "gpu_mem=64\ngpu_mem_512=16", "start4.elf", "fixup4.dat"),
        ("4b", 2048, "total_mem=512\ngpu_mem=64\ngpu_mem_512=16", "start4cd.elf", "fixup4cd.dat"),
        ("4b", 2048, "start_file=a.elf\nfixup_file=b.dat", "a.elf", "b.dat"),
        ("3b", 1024, "gpu_mem=16", "start_cd.elf", "fixup_cd.dat"),
        ("3b", 1024, "start_x=1", "start_x.elf", "fixup_x.dat"),
        ("3b", 1024, "start_debug=1", "start_db.elf", "fixup_db.dat"),
        ("3b", 1024, "gpu_mem=16\ngpu_mem_1024=64", "start.elf", "fixup.dat"),
        ("zero2w", 512, "gpu_mem_512=16", "start_cd.elf", "fixup_cd.dat"),
        ("zero2w", 512, "gpu_mem_1024=16", "start.elf", "fixup.dat"),
        ("zero2w", 512, "gpu_mem_256=16", "start.elf", "fixup.dat"),
        ("zero2w", 512, "[pi3]\ngpu_mem=16", "start.elf", "fixup.dat"),
        ("3a+", 512, "[pi3]\ngpu_mem=16", "start_cd.elf", "fixup_cd.dat"),
    ],
)
def test_which_firmware_is_taken(model: str, mib: int, config: str, start: str, fixup: str) -> None:
    """config.txt, "start_file, fixup_file"; Legacy: "start_x, start_debug", "Memory options"."""
    text = changed("gpu_mem=32", config)
    handover = boot(card(text, **{start: ELF, fixup: b"fixup"}), model, mib)
    assert (handover.firmware.start, handover.firmware.fixup) == (start, fixup)
    if start not in good_files():
        assert start in stopped(card(text, **{fixup: b"fixup"}), model, mib).what
        assert fixup in stopped(card(text, **{start: ELF}), model, mib).what


def test_the_card_with_gpu_mem_16_is_refused_for_the_cut_down_firmware() -> None:
    error = stopped(card(changed("gpu_mem=32", "gpu_mem=16")))
    assert "start4cd.elf is missing" in error.what and "gpu_mem=16" in error.what
    assert "0 long and 4 short" in error.means


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("start_file=start4cd.elf\nfixup_file=fixup4cd.dat", "by name"),
        ("start_file=start4x.elf", "do not belong together"),
        ("fixup_file=fixup4x.dat", "do not belong together"),
    ],
)
def test_firmware_that_does_not_start(config: str, named: str) -> None:
    """config.txt, "start_file, fixup_file": the notes."""
    there = dict.fromkeys(("start4x.elf", "fixup4x.dat", "start4cd.elf", "fixup4cd.dat"), ELF)
    assert named in stopped(card(changed("gpu_mem=32", config), **there)).what


def test_firmware_that_is_none() -> None:
    assert "no ELF" in stopped(card(**{"start4.elf": b""})).what
    assert "fixup4.dat" in stopped(card(**{"fixup4.dat": b""})).what


@pytest.mark.parametrize("name", ["autoboot.txt", "recovery.bin", "pieeprom.upd", "boot.img"])
def test_files_that_make_it_boot_otherwise_are_told(name: str) -> None:
    assert rules(boot(card(**{name: b"x"}))) == {Rule.OTHER_BOOT}


@pytest.mark.parametrize(
    ("model", "mib", "config", "banks"),
    [
        ("4b", 1024, "", [(0, 0x3B400000)]),
        ("4b", 2048, "", [(0, 0x3B400000), (0x40000000, 0x40000000)]),
        ("4b", 2048, "gpu_mem=32", [(0, 0x3E000000), (0x40000000, 0x40000000)]),
        ("4b", 4096, "", [(0, 0x3B400000), (0x40000000, 0xBC000000)]),
        (
            "4b",
            8192,
            "gpu_mem=128",
            [
                (0, 0x38000000),
                (0x40000000, 0xBC000000),
                (0x100000000, 0x80000000),
                (0x180000000, 0x80000000),
            ],
        ),
        ("4b", 8192, "total_mem=1024", [(0, 0x3B400000)]),
        ("4b", 2048, "total_mem=9999", [(0, 0x3B400000), (0x40000000, 0x40000000)]),
        ("4b", 2048, "total_mem=1\ngpu_mem=32", [(0, 0x6000000)]),
        ("400", 4096, "gpu_mem=32", [(0, 0x3E000000), (0x40000000, 0xBC000000)]),
        ("3b", 1024, "", [(0, 0x3B400000)]),
        ("3b", 1024, "gpu_mem=32", [(0, 0x3E000000)]),
        ("zero2w", 512, "", [(0, 448 * MIB)]),
        ("zero2w", 512, "gpu_mem=32", [(0, 480 * MIB)]),
        ("zero2w", 512, "gpu_mem=32\ngpu_mem_512=64", [(0, 448 * MIB)]),
    ],
)
def test_whose_memory_is_whose(
    model: str, mib: int, config: str, banks: list[tuple[int, int]]
) -> None:
    """Legacy config.txt options, "Memory options"; banks as in trees read from real boards."""
    handover = boot(card(changed("gpu_mem=32", config)), model, mib)
    assert [(bank.start, bank.size_bytes) for bank in handover.banks] == banks
    assert handover.tree is not None
    wide = 2 if model in ("4b", "400") else 1
    cells: list[int] = []
    for start, size_bytes in banks:
        cells += [*(start >> 32, start & 0xFFFFFFFF)[2 - wide :], size_bytes]
    memory = handover.tree.root.at("/memory@0")
    assert memory is not None and memory.cells("reg") == tuple(cells)
    end = banks[0][1]
    share_bytes = min(handover.split.total_bytes, GIB) - end
    assert handover.tree.root.cells("memreserve") == (end, share_bytes)
    assert handover.warnings == ()


def test_an_emulator_with_less_memory_is_like_total_mem() -> None:
    handover = power_on(card(), find_model("400"), 4 * GIB, limit_bytes=2 * GIB)
    assert handover.banks[-1].end == 2 * GIB
    assert handover.revision == 0xC03130


def test_a_share_that_leaves_linux_too_little_is_told() -> None:
    assert rules(boot(card(changed("gpu_mem=32", "gpu_mem=400")), "zero2w")) == {Rule.GPU_MEM}


@pytest.mark.parametrize(
    ("model", "config", "name", "bits"),
    [
        ("4b", "", "kernel8.img", 64),
        ("4b", "arm_64bit=0", "kernel7l.img", 32),
        ("3b", "", "kernel7.img", 32),
        ("3b", "arm_64bit=1", "kernel8.img", 64),
        ("zero2w", "", "kernel7.img", 32),
        ("4b", "kernel=u-boot.bin", "u-boot.bin", 64),
        ("3b", "kernel=u-boot.bin", "u-boot.bin", 32),
        ("3b", "kernel=kernel8.img", "kernel8.img", 64),
        ("4b", "kernel=kernel7.img", "kernel7.img", 32),
        ("3b", "arm_64bit=1\nkernel=dir/k", "dir/k", 64),
        ("zero2w", "[pi3]\narm_64bit=1", "kernel7.img", 32),
        ("zero2w", "[pi0]\narm_64bit=1", "kernel8.img", 64),
    ],
)
def test_which_kernel_is_taken(model: str, config: str, name: str, bits: int) -> None:
    """config.txt, "kernel", "arm_64bit"; Legacy: "kernel_address"."""
    handover = boot(card(config, **{name: b"it"}), model)
    kernel = handover.kernel
    assert (kernel.name, kernel.content, kernel.bits) == (name, b"it", bits)
    assert kernel.address == (0x200000 if bits == 64 else 0x8000)
    if name != "u-boot.bin":
        error = stopped(card(config), model)
        assert name in error.what and "0 long and 7 short" in error.means


def test_a_kernel_may_be_gzipped() -> None:
    assert boot(card(**{"u-boot.bin": gzip.compress(LOADER)})).kernel.content == LOADER
    assert "damaged" in stopped(card(**{"u-boot.bin": gzip.compress(LOADER)[:-4] + b"oops"})).what


def test_kernel_address_and_armstub() -> None:
    handover = boot(card(f"{CONFIG}kernel_address=0x80000\narmstub=stub.bin\n"))
    assert handover.kernel.address == 0x80000
    assert rules(handover) == {Rule.ARMSTUB}


@pytest.mark.parametrize(
    ("config", "there", "kernel", "tree", "warned"),
    [
        ("os_prefix=new/", ("k", "t"), "new/u-boot.bin", "new/bcm2711-rpi-4-b.dtb", False),
        ("os_prefix=new-", ("k", "t"), "new-u-boot.bin", "new-bcm2711-rpi-4-b.dtb", False),
        ("os_prefix=new/", ("k",), "u-boot.bin", "bcm2711-rpi-4-b.dtb", True),
        ("os_prefix=new/", ("t",), "u-boot.bin", "bcm2711-rpi-4-b.dtb", True),
        (
            "os_prefix=new/\nkernel=/u-boot.bin",
            ("t",),
            "u-boot.bin",
            "new/bcm2711-rpi-4-b.dtb",
            False,
        ),
    ],
)
def test_os_prefix(
    config: str, there: tuple[str, ...], kernel: str, tree: str, warned: bool
) -> None:
    """config.txt, "os_prefix"."""
    prefix = config.partition("=")[2].partition("\n")[0]
    more = {
        "k": {f"{prefix}u-boot.bin": LOADER},
        "t": {f"{prefix}bcm2711-rpi-4-b.dtb": tree_for("4b")},
    }
    files = {name: content for key in there for name, content in more[key].items()}
    handover = boot(card(f"{CONFIG}{config}\n", **files))
    assert (handover.kernel.name, handover.tree_path) == (kernel, tree)
    assert rules(handover) == ({Rule.OS_PREFIX} if warned else set())
    assert handover.tree is not None
    chosen = handover.tree.root.at("/chosen")
    assert chosen is not None and chosen.string("os_prefix") == ("" if warned else prefix)


@pytest.mark.parametrize(
    ("config", "more", "warned"),
    [
        ("", (), False),
        ("overlay_prefix=other/", ("other/disable-bt.dtbo",), False),
        ("overlay_prefix=other/", (), True),
        ("os_prefix=new/", ("new/u-boot.bin", "new/bcm2711-rpi-4-b.dtb"), False),
        (
            "os_prefix=new/",
            ("new/u-boot.bin", "new/bcm2711-rpi-4-b.dtb", "new/overlays/README"),
            True,
        ),
        (
            "os_prefix=new/",
            (
                "new/u-boot.bin",
                "new/bcm2711-rpi-4-b.dtb",
                "new/overlays/README",
                "new/overlays/disable-bt.dtbo",
            ),
            False,
        ),
    ],
)
def test_overlay_prefix(config: str, more: tuple[str, ...], warned: bool) -> None:
    """config.txt, "overlay_prefix"; "os_prefix" on README."""
    good = good_files()
    files = {
        name: good.get(name.rpartition("/")[2]) or good["overlays/disable-bt.dtbo"] for name in more
    }
    if config.startswith("overlay_prefix"):
        del good["overlays/disable-bt.dtbo"]
    config_txt = f"{CONFIG}{config}\n".encode()
    handover = boot(Card(good | files | {"config.txt": config_txt}))
    assert (Rule.SKIPPED in rules(handover)) == warned


def test_there_need_be_no_config_txt() -> None:
    """config.txt, "What is config.txt?": the file is optional."""
    handover = boot(card(without=("config.txt",), **{"kernel8.img": LOADER}))
    assert handover.kernel.name == "kernel8.img"


def test_an_empty_card_is_told_in_one_message() -> None:
    assert "start4.elf" in stopped(Card({})).what
    assert "bootcode.bin" in stopped(Card({}), "zero2w").what


def test_a_card_of_the_other_family_stops() -> None:
    pi3 = card(without=("start4.elf", "fixup4.dat"))
    assert "start4.elf" in stopped(pi3).what
    pi4 = card(without=("start.elf", "fixup.dat", "bootcode.bin"))
    assert "bootcode.bin" in stopped(pi4, "3b").what


def test_steppings() -> None:
    assert not is_c0(0xB03114) and not is_c0(0xA03111)
    assert is_c0(0xB03115) and is_c0(0xC03130) and is_c0(0xA03140)


def test_names_on_a_card_have_no_case() -> None:
    files = good_files()
    files = {name.upper(): content for name, content in files.items()}
    assert boot(Card(files)).warnings == ()


def test_an_unknown_model_is_told_with_those_there_are() -> None:
    with pytest.raises(KsmhostError) as caught:
        find_model("5")
    assert caught.value.code == ExitCode.USAGE and "zero2w" in caught.value.means
