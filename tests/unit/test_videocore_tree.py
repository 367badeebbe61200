# SPDX-License-Identifier: Apache-2.0
"""The device tree the ARM gets: overlays, fix-ups, what is refused; and the format itself."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from cards import CONFIG, OVERLAY, card, changed, compiled, overlay, tree_for
from hypothesis import given
from hypothesis import strategies as st
from test_videocore_boot import boot, rules

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.videocore import MODELS, Rule, check_card, find_model, power_on
from ksmhost.videocore.fdt import FdtError, Node, Tree, pack, parse
from ksmhost.videocore.memory import GIB

TREE_FILE = "bcm2711-rpi-4-b.dtb"
BT = "overlays/disable-bt.dtbo"


def source_of(blob: bytes, folder: Path) -> str:
    (folder / "tree").write_bytes(blob)
    command = ["dtc", "-q", "-s", "-I", "dtb", "-O", "dts", "tree"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("model", MODELS)
def test_a_tree_read_and_written_means_the_same_to_dtc(model: str, tmp_path: Path) -> None:
    blob = tree_for(model)
    assert source_of(pack(parse(blob)), tmp_path) == source_of(blob, tmp_path)


NAMES = st.text("abc,-#@1", min_size=1, max_size=8)
NODES = st.recursive(
    st.builds(Node, st.dictionaries(NAMES, st.binary(max_size=9), max_size=3)),
    lambda below: st.builds(
        Node,
        st.dictionaries(NAMES, st.binary(max_size=9), max_size=3),
        st.dictionaries(NAMES, below, max_size=3),
    ),
    max_leaves=8,
)
TREES = st.builds(
    Tree,
    NODES,
    st.lists(st.tuples(st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=3),
    st.integers(0, 7),
)


@given(TREES)
def test_any_tree_survives(tree: Tree) -> None:
    assert parse(pack(tree)) == tree


@given(TREES, st.data())
def test_a_damaged_tree_is_refused_or_read(tree: Tree, data: st.DataObject) -> None:
    blob = bytearray(pack(tree))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    for damaged in (bytes(blob), bytes(blob[: data.draw(st.integers(0, len(blob)))])):
        with suppress(FdtError):
            parse(damaged)


def test_what_the_documentation_says_of_chosen() -> None:
    """Device Trees, "Firmware parameters"; config.txt, "cmdline"."""
    handover = boot(card(**{"cmdline.txt": b"console=serial0 quiet\nsecond line"}))
    assert handover.tree is not None
    chosen = handover.tree.root.at("/chosen")
    assert chosen is not None
    assert chosen.string("bootargs") == "console=serial0 quiet"
    assert (chosen.string("os_prefix"), chosen.string("overlay_prefix")) == ("", "overlays/")
    bootloader = chosen.at("bootloader")
    assert bootloader is not None
    told = {name: bootloader.cells(name) for name in bootloader.properties}
    assert told == {"boot-mode": (1,), "partition": (1,), "tryboot": (0,)}
    assert chosen.string("stdout-path") == "serial0:115200n8"


def test_what_is_inferred_is_done_and_said_to_be() -> None:
    seeds = iter(range(1, 9))
    handover = power_on(
        card(),
        find_model("4b"),
        2 * GIB,
        serial=0x10000000ABCD,
        random=lambda count: bytes([next(seeds)]) * count,
    )
    assert handover.tree is not None
    root = handover.tree.root
    chosen, system = root.at("/chosen"), root.at("/system")
    assert chosen is not None and system is not None
    assert chosen.properties["kaslr-seed"] == b"\1" * 8
    assert chosen.properties["rng-seed"] == b"\2" * 32
    assert system.cells("linux,revision") == (0xB03115,)
    assert system.cells("linux,serial") == (0x1000, 0x0000ABCD)
    assert root.string("serial-number") == "000010000000abcd"
    assert root.string("model") == "Raspberry Pi 4 Model B Rev 1.5"
    assert handover.tree.reservations == [(0, 0x1000)]
    assert {rule for rule in Rule if rule.inferred} == set(handover.inferred)
    for word in ("memory", "seeds", "identity", "not documented"):
        assert word in handover.describe_inferred()


@pytest.mark.parametrize(
    ("model", "mib", "reaches_all"),
    [("4b", 1024, False), ("4b", 2048, True), ("400", 4096, True), ("3b", 1024, False)],
)
def test_dma_ranges_are_those_of_the_stepping(model: str, mib: int, reaches_all: bool) -> None:
    handover = boot(model=model, memory_mib=mib)
    assert handover.tree is not None
    bus = handover.tree.alias("emmc2bus")
    assert bus is not None
    assert (bus.cells("dma-ranges") == (0, 0, 0, 0, 0xFC000000)) == reaches_all
    assert (Rule.DMA_RANGES in handover.inferred) == reaches_all


def test_seeds_differ_from_boot_to_boot() -> None:
    blobs = {power_on(card(), find_model("4b"), 2 * GIB).tree_blob() for _ in range(3)}
    assert len(blobs) == 3


@pytest.mark.parametrize("model", MODELS)
def test_the_tree_goes_by_the_model(model: str) -> None:
    """Device Trees, "DTBs, overlays and config.txt": a 3 A+ takes that of the 3 B+."""
    handover = boot(
        card(without=tuple({m.tree for m in MODELS.values()} - {MODELS[model].tree})), model
    )
    assert handover.warnings == () and handover.tree is not None


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ("", {TREE_FILE: None}),
        ("", {TREE_FILE: b"no tree"}),
        ("", {TREE_FILE: tree_for("4b")[:200]}),
        ("device_tree=my.dtb\n", {}),
        ("device_tree=\n", {}),
        ("", {BT: b"no overlay"}),
        ("", {BT: compiled(OVERLAY.replace("&bt {", "&nowhere {"))}),
    ],
)
def test_a_broken_tree_means_a_boot_without_one(
    config: str, files: dict[str, bytes | None]
) -> None:
    """Device Trees, "Debugging": the loader falls back to a non-DT boot; the build refuses it."""
    gone = tuple(name for name, content in files.items() if content is None)
    spoilt = card(CONFIG + config, gone, **files)
    handover = boot(spoilt)
    assert handover.tree is None and handover.tree_blob() == b""
    assert rules(handover) == {Rule.BROKEN_TREE}
    with pytest.raises(KsmhostError):
        check_card(spoilt, [find_model("4b")], 64)


@pytest.mark.parametrize(
    "order",
    ["dtoverlay=gone", "dtparam=audio=on", "dtoverlay=disable-bt,speed=1", "dtoverlay=gone,a=b"],
)
def test_missing_overlays_and_bad_parameters_are_skipped(order: str) -> None:
    """Device Trees, "Debugging"."""
    handover = boot(card(f"{CONFIG}{order}\n"))
    assert handover.tree is not None
    assert rules(handover) == {Rule.SKIPPED}


def test_an_overlay_is_merged_and_its_labels_stay_its_own() -> None:
    """Device Trees, "Exporting labels"."""
    handover = boot(card(**{BT: compiled(OVERLAY)}))
    assert handover.tree is not None
    uart, symbols = handover.tree.alias("serial0"), handover.tree.root.at("/__symbols__")
    assert uart is not None and symbols is not None
    bluetooth = uart.at("bluetooth")
    assert bluetooth is not None and bluetooth.string("status") == "disabled"
    assert "uart0" in symbols.properties and "marked" not in symbols.properties


PARAMETER = OVERLAY + '/ { __overrides__ { speed = <&uart0>, "speed:0"; }; };'
BASE_PARAMETER = '/ { __overrides__ { audio = <&uart0>, "status"; }; };'
FRAGMENTS = """\
/dts-v1/;
/plugin/;
/ {
	fragment@0 { target-path = "/"; %s { off; }; };
	%s
};
"""


INNER = "fragment@1 { target = <&inner>; __overlay__ { a; }; };"
MAP = "/dts-v1/; / { disable-bt { }; };"


@pytest.mark.parametrize(
    ("order", "files", "named"),
    [
        ("dtoverlay=disable-bt,speed=9", {BT: compiled(PARAMETER)}, "'speed'"),
        ("dtparam=speed=9", {BT: compiled(PARAMETER)}, "'speed'"),
        ("dtoverlay=x", {"overlays/x.dtbo": compiled(FRAGMENTS % ("__dormant__", ""))}, "x.dtbo"),
        (
            "dtoverlay=x",
            {"overlays/x.dtbo": compiled(FRAGMENTS % ("__overlay__", "__exports__ { a; };"))},
            "x.dtbo",
        ),
        (
            "dtoverlay=x",
            {"overlays/x.dtbo": compiled(FRAGMENTS % ("inner: __overlay__", INNER))},
            "x.dtbo",
        ),
        ("dtoverlay=disable-bt", {"overlays/overlay_map.dtb": compiled(MAP)}, "overlay_map"),
    ],
)
def test_what_libfdt_cannot_do_is_refused(order: str, files: dict[str, bytes], named: str) -> None:
    """Device Trees, "Device Tree parameters", "Overlay/fragment parameters", "Exporting labels"."""
    with pytest.raises(KsmhostError) as caught:
        boot(card(f"{CONFIG}{order}\n", **files))
    assert caught.value.code == ExitCode.BAD_IMAGE
    assert named in caught.value.what and "not act" in caught.value.means


def test_parameters_end_with_their_overlay() -> None:
    """Device Trees, "DT parameters": `dtoverlay=` ends the scope."""
    handover = boot(card(f"{CONFIG}dtoverlay=\ndtparam=speed=9\n", **{BT: compiled(PARAMETER)}))
    assert rules(handover) == {Rule.SKIPPED}


def test_a_tree_without_symbols_is_refused() -> None:
    bare = parse(tree_for("4b"))
    del bare.root.children["__symbols__"]
    with pytest.raises(KsmhostError, match="no symbols"):
        boot(card(**{TREE_FILE: pack(bare)}))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("dtoverlay=disable-bt\n", "", "Bluetooth"),
        ("enable_uart=1", "enable_uart=0", "enable_uart"),
        ("init_uart_clock=64000000", "init_uart_clock=48000000", "64000000"),
        ("init_uart_clock=64000000\n", "", "64000000"),
        ("init_uart_baud=115200", "init_uart_baud=4000001", "too slow"),
    ],
)
def test_the_line_is_set_up_as_config_txt_says(old: str, new: str, named: str) -> None:
    """config.txt, "enable_uart"; Configuring UARTs; Legacy: "init_uart_clock"."""
    handover = boot(card(changed(old, new)))
    assert handover.uart is None
    assert rules(handover) == {Rule.UART}
    assert named in handover.warnings[0].what


def test_a_tree_with_another_uart_first_is_told() -> None:
    other = parse(tree_for("4b"))
    other.root.make("/aliases").set_string("serial0", "/soc/rng@7e104000")
    handover = boot(card(**{TREE_FILE: pack(other)}))
    assert handover.uart is None and "mini UART" in handover.warnings[0].what


MUTATIONS = {
    "unknown key": f"{CONFIG}hdmi_drive=2\n",
    "unknown filter": f"{CONFIG}[pi9]\n",
    "line too long": f"{CONFIG}os_prefix={'a' * 120}\n",
    "missing include": f"{CONFIG}include gone.txt\n",
    "no number": changed("gpu_mem=32", "gpu_mem=much"),
    "parameter": f"{CONFIG}dtparam=audio=on\n",
    "cut-down": changed("gpu_mem=32", "gpu_mem=16"),
    "cut-down by size": f"{CONFIG}gpu_mem_1024=16\n",
    "kernel": changed("kernel=u-boot.bin\n", ""),
    "line": changed("dtoverlay=disable-bt\n", ""),
    "clock": changed("init_uart_clock=64000000\n", ""),
    "tree": f"{CONFIG}device_tree=board.dtb\n",
    "initramfs": f"{CONFIG}initramfs initramfs.gz followkernel\n",
}
STOPS = {"cut-down", "cut-down by size", "kernel"}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_build_refuses_every_mutation_and_a_pi_stops_at_some(name: str) -> None:
    spoilt = card(MUTATIONS[name])
    with pytest.raises(KsmhostError) as caught:
        check_card(spoilt, [find_model("4b")], 64)
    assert "Raspberry Pi 4 Model B with 1024 MiB" in caught.value.what
    if name in STOPS:
        with pytest.raises(KsmhostError):
            boot(spoilt)
    else:
        assert boot(spoilt).warnings


@pytest.mark.parametrize("name", ["bootcode.bin", "start.elf", "fixup.dat", "u-boot.bin", BT])
def test_the_build_refuses_a_card_without_a_file(name: str) -> None:
    with pytest.raises(KsmhostError) as caught:
        check_card(card(without=(name,)), MODELS.values(), 64)
    assert name in f"{caught.value}"


def test_the_build_refuses_the_wrong_mode() -> None:
    with pytest.raises(KsmhostError, match="32-bit mode"):
        check_card(card(changed("arm_64bit=1\n", "")), [find_model("zero2w")], 64)
    check_card(
        card(changed("arm_64bit=1\n", "")), [find_model("4b")], 64
    )  # there it is the default


def test_the_build_looks_at_every_size_of_memory() -> None:
    text = f"{CONFIG}gpu_mem_512=16\n"
    check_card(card(text), [find_model("4b"), find_model("3b")], 64)
    with pytest.raises(KsmhostError, match="Zero 2 W with 512 MiB"):
        check_card(card(text), [find_model("3b"), find_model("zero2w")], 64)


def test_a_good_card_is_taken() -> None:
    check_card(card(), MODELS.values(), 64)
    assert overlay()


def test_the_page_lists_every_rule() -> None:
    page = (Path(__file__).parents[2] / "docs/VIDEOCORE.md").read_text()
    for rule in Rule:
        known = rule.known
        kind = "inferred" if known.inferred else "documented"
        assert f"| {known.says} | {known.place} | {kind} |" in page, rule
