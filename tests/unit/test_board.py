# SPDX-License-Identifier: Apache-2.0
"""boards/*.toml: the ones there are, and every way to get one wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmhost.board import find_project, list_boards, load_board
from ksmhost.errors import ExitCode, KsmhostError

PROJECT = find_project()

GOOD = """
description = "a board"
arch = "um"
model = "m"
memory_mib = 64
[uart]
device = "ttyS0"
baud = 115200
[kernel]
target = "linux"
fragments = []
"""


def _project(folder: Path, **boards: str) -> Path:
    for name, text in boards.items():
        (folder / "boards" / name).mkdir(parents=True)
        (folder / "boards" / name / "board.toml").write_text(text)
    return folder


def _error(project: Path, name: str = "b") -> KsmhostError:
    with pytest.raises(KsmhostError) as error:
        load_board(name, project)
    return error.value


@pytest.mark.parametrize("name", list_boards(PROJECT))
def test_every_board_of_the_project_loads(name: str) -> None:
    board = load_board(name, PROJECT)
    assert board.name == name
    assert (board.folder / "README.md").is_file()


def test_a_missing_build_is_told_with_the_command_that_makes_it() -> None:
    board = load_board("uml", PROJECT)
    for engine, variant in (("ksmhost", "release"), ("mainline", "release"), ("ksmhost", "debug")):
        words = board.build_command(board.build_dir(engine, variant))
        assert words == f"scons board=uml engine={engine} variant={variant}"
    assert board.build_command(PROJECT / "elsewhere") == "scons board=uml"


def test_unknown_board_lists_the_known() -> None:
    error = _error(PROJECT, "rpi9")
    assert error.code is ExitCode.NO_BOARD
    assert "qemu-virt" in str(error)


def test_a_board_extends_another_and_tells_where_values_are_from(tmp_path: Path) -> None:
    child = 'extends = "a"\nmemory_mib = 128\n'
    project = _project(tmp_path, a=GOOD, b=child)
    board = load_board("b", project)
    assert board.memory_bytes == 128 << 20
    assert board.uart.device == "ttyS0"
    assert board.origin["memory_mib"].parent.name == "b"
    assert board.origin["uart.device"].parent.name == "a"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("speed = 3\n", "unknown key 'speed'"),
        ("[kernel]\nspeed = 3\n", "cannot be read"),
        ('arch = "mips"\n', "'arch' must be"),
    ],
)
def test_mistakes_name_file_and_key(tmp_path: Path, change: str, said: str) -> None:
    text = change + GOOD.replace('arch = "um"\n', "" if "arch" in change else 'arch = "um"\n')
    error = _error(_project(tmp_path, b=text))
    assert error.code is ExitCode.USAGE
    assert said in error.what
    assert "board.toml" in error.what


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("memory_mib = 64", "memory_mib = '64'", "must be int"),
        ("memory_mib = 64", "memory_mib = true", "must be int"),
        ("memory_mib = 64", "memory_mib = -1", "more than 0"),
        ("memory_mib = 64\n", "", "'memory_mib' is missing"),
        ("fragments = []", "fragments = [1]", "list of strings"),
        ("fragments = []", 'fragments = ["no.config"]', "no such fragment"),
        (
            "fragments = []",
            'fragments = []\n[boot]\nmodels = ["4b", "pi9"]',
            "'boot.models' must name some of 4b, 400",
        ),
        (
            "fragments = []",
            'fragments = []\n[boot]\nmodels = ["4b"]',
            "'boot.models' has 4b, but there is no",
        ),
        (
            "fragments = []",
            'fragments = []\n[boot]\nuboot_defconfig = "x"\ndisk = "mmc"\nwatchdog = "dog"',
            "'boot.watchdog' must be one of i6300esb, bcm2835",
        ),
    ],
)
def test_wrong_values_are_told(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in _error(_project(tmp_path, b=GOOD.replace(old, new))).what


def test_a_family_has_a_tree_for_each_model() -> None:
    board = load_board("rpi3", PROJECT)
    assert board.boot is not None
    assert board.boot.models == ("3b", "3b+", "3a+", "zero2w")
    assert list(board.kernel.device_trees) == list(board.boot.models)
    assert all(tree.parent == board.folder for tree in board.kernel.device_trees.values())


def test_extends_in_a_circle(tmp_path: Path) -> None:
    project = _project(tmp_path, a='extends = "b"\n', b='extends = "a"\n')
    assert "circle" in _error(project).what


def test_slots_must_fit_the_image(tmp_path: Path) -> None:
    image = "[image]\nsize_mib = 64\nboot_mib = 32\nslot_mib = 64\n"
    assert "behind the image's end" in _error(_project(tmp_path, b=GOOD + image)).what
