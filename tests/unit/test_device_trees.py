# SPDX-License-Identifier: Apache-2.0
"""The boards' device trees: no worse than the kernel's own, and one with what stands beside them.

dtc and dt-schema find faults in the kernel's trees, too. What ours may not have is one more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from device_trees import (
    PROJECT,
    Nodes,
    board_trees,
    cells,
    compiled,
    enabled,
    named,
    nodes,
    strings,
    upstream_of,
)
from tree_schema import refusals

from ksmhost.board import list_boards, load_board

TREES = tuple(board_trees())
BOARDS = [load_board(name, PROJECT) for name in list_boards(PROJECT)]
PIS = {board.name: board.boot for board in BOARDS if board.boot and board.boot.config_txt}
UART = "/soc/serial@7e201000"
MINI_UART = "/soc/serial@7e215040"
FOR = pytest.mark.parametrize("for_u_boot", [False, True], ids=["Linux", "U-Boot"])
EACH = pytest.mark.parametrize("dts", TREES, ids=named)


def tree_of(dts: Path, for_u_boot: bool) -> Nodes:
    return nodes(compiled(dts, for_u_boot).dtb)


def setting(config_txt: Path, key: str) -> str:
    """The last value that a line of config.txt gives `key`."""
    lines = (line.partition("=") for line in config_txt.read_text().splitlines())
    return [value.strip() for name, _, value in lines if name.strip() == key][-1]


def config_txt_of(board: str) -> Path:
    config_txt = PIS[board].config_txt
    assert config_txt
    return config_txt


# -- complaints -----------------------------------------------------------------------------------


@FOR
@EACH
def test_the_compiler_has_no_more_to_say_than_of_the_kernels_own(
    dts: Path, for_u_boot: bool
) -> None:
    own, upstream = compiled(dts, for_u_boot).complaints, compiled(upstream_of(dts)).complaints
    assert upstream, "the compiler's warnings are off"
    assert sorted(own - upstream) == []


@pytest.fixture(scope="module")
def refused() -> Mapping[Path, frozenset[str]]:
    """What the schema refuses in each tree, and in the one of the kernel's that it is made of."""
    return refusals(compiled(dts).dtb for tree in TREES for dts in (tree, upstream_of(tree)))


@pytest.mark.long
@pytest.mark.timeout(3600)
@EACH
def test_the_schema_refuses_no_more_than_of_the_kernels_own(
    dts: Path, refused: Mapping[Path, frozenset[str]]
) -> None:
    own, upstream = refused[compiled(dts).dtb], refused[compiled(upstream_of(dts)).dtb]
    assert upstream, "the schema was not looked at"
    assert sorted(own - upstream) == []


@EACH
def test_u_boots_tree_is_linuxs_with_a_clock(dts: Path) -> None:
    """No binding knows that property, and the schema would refuse it: Linux gets a tree without."""
    linux, u_boot = tree_of(dts, False), tree_of(dts, True)
    assert linux.keys() == u_boot.keys()
    more = {(path, name) for path in u_boot for name in u_boot[path].keys() - linux[path].keys()}
    assert more == {(UART, "clock")}
    assert all(u_boot[path][name] == linux[path][name] for path in linux for name in linux[path])


# -- the one line ---------------------------------------------------------------------------------


@FOR
@EACH
def test_the_line_is_the_pl011_on_the_header(dts: Path, for_u_boot: bool) -> None:
    """Boot loader, kernel and agent share GPIO 14 and 15; nothing else drives the pins."""
    tree = tree_of(dts, for_u_boot)
    assert strings(tree["/chosen"]["stdout-path"])[0].partition(":")[0] == "serial0"
    assert strings(tree["/aliases"]["serial0"]) == [UART]
    assert enabled(tree[UART]) and not enabled(tree[MINI_UART])
    groups = {cells(tree[path]["phandle"])[0]: path for path in tree if "phandle" in tree[path]}
    (pins,) = (groups[number] for number in cells(tree[UART]["pinctrl-0"]))
    assert cells(tree[pins]["brcm,pins"]) == [14, 15]
    assert not enabled(tree.get(f"{UART}/bluetooth", {"status": b"disabled\0"}))


@EACH
def test_only_u_boots_tree_says_the_clock_and_it_is_the_one_that_the_firmware_sets(
    dts: Path,
) -> None:
    """Where U-Boot has no driver for clocks, its PL011 takes its clock from this property.

    drivers/serial/serial_pl01x.c of 2025.01, pl01x_serial_of_to_plat(); without one
    pl01x_generic_setbrg() leaves the divisors as they are.
    """
    wanted = int(setting(config_txt_of(dts.parent.name), "init_uart_clock"))
    assert cells(tree_of(dts, True)[UART]["clock"]) == [wanted]
    assert "clock" not in tree_of(dts, False)[UART]


@FOR
@EACH
def test_what_the_firmware_and_u_boot_write_into_has_its_name(dts: Path, for_u_boot: bool) -> None:
    """Where a BCM2711's card is mapped depends on its stepping, which the firmware knows.

    It finds the bus by an alias (the kernel's bcm2711-rpi.dtsi says so), and U-Boot takes what it
    wrote into the slot's tree by the same one (board/raspberrypi/rpi/rpi.c, update_fdt_from_fw()).
    """
    tree = tree_of(dts, for_u_boot)
    if b"brcm,bcm2711" in tree["/"]["compatible"]:
        assert strings(tree["/aliases"]["emmc2bus"]) == ["/emmc2bus"]
        assert "dma-ranges" in tree["/emmc2bus"]


@pytest.mark.parametrize("board", PIS)
def test_a_sixteenth_of_the_clock_is_no_less_than_the_highest_rate(board: str) -> None:
    described = load_board(board, PROJECT)
    clock_hz = int(setting(config_txt_of(board), "init_uart_clock"))
    assert clock_hz >= 16 * described.uart.max_baud


@pytest.mark.parametrize("board", PIS)
def test_the_firmware_is_told_which_uart_is_the_consoles(board: str) -> None:
    """It sets up the one that the aliases of an overlay name, whatever the tree says.

    Raspberry Pi's own disable-bt-overlay.dts has these aliases; raspberrypi/firmware issue 553 (the
    firmware reads them) and 752 (a tree with the PL011 on the header, but no overlay: the firmware
    took the mini UART for the console).
    """
    config_txt = config_txt_of(board)
    assert setting(config_txt, "enable_uart") == "1"
    assert int(setting(config_txt, "init_uart_baud")) == load_board(board, PROJECT).uart.baud
    names = {path.stem: path for path in PIS[board].overlays}
    overlay = nodes(compiled(names[setting(config_txt, "dtoverlay")]).dtb)
    aliases = [
        overlay[f"{path}/__overlay__"]
        for path, properties in overlay.items()
        if properties.get("target-path") == b"/aliases\0"
    ]
    assert [strings(alias["serial0"]) for alias in aliases] == [[UART]]
    assert [strings(alias["serial1"]) for alias in aliases] == [[MINI_UART]]
