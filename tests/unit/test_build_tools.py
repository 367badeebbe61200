# SPDX-License-Identifier: Apache-2.0
"""What the build does in Python: fragments that must stick, the boot script, its variables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ksmhost.board import find_project, load_board

PROJECT = find_project()
sys.path[:0] = [str(PROJECT / "site_scons"), str(PROJECT / "site_scons/site_tools")]

import kconfig  # noqa: E402


def _wishes(folder: Path, **fragments: str) -> list[kconfig.Wish]:
    files = []
    for name, text in fragments.items():
        files.append(folder / f"{name}.config")
        files[-1].write_text(text)
    return kconfig.read_wishes(files)


def test_a_wish_that_did_not_stick_names_file_and_line(tmp_path: Path) -> None:
    wishes = _wishes(tmp_path, one="# why\nCONFIG_A=y\nCONFIG_B=y\n")
    problems = kconfig.unmet(wishes, "CONFIG_A=y\n# CONFIG_B is not set\n")
    assert len(problems) == 1
    assert problems[0].startswith(f"{tmp_path}/one.config:3: CONFIG_B=y")


@pytest.mark.parametrize("off", ["# CONFIG_A is not set", "CONFIG_A=n"])
def test_both_ways_to_say_no(tmp_path: Path, off: str) -> None:
    wishes = _wishes(tmp_path, one=off + "\n")
    assert kconfig.unmet(wishes, "") == []
    assert kconfig.unmet(wishes, "# CONFIG_A is not set\n") == []
    assert kconfig.unmet(wishes, "CONFIG_A=y\n") != []


def test_the_later_fragment_counts(tmp_path: Path) -> None:
    wishes = _wishes(tmp_path, one="CONFIG_A=1\n", two="CONFIG_A=2\n")
    assert kconfig.merged(wishes) == "CONFIG_A=2\n"


@pytest.fixture
def uboot():  # type: ignore[no-untyped-def]
    import uboot

    return uboot


def test_every_variable_the_boot_script_uses_has_a_value(uboot) -> None:  # type: ignore[no-untyped-def]
    script = uboot.join_functions((PROJECT / "firmware/boot/boot.env").read_text())
    for name in ("qemu-virt", "rpi4", "rpi3"):
        text = uboot.board_variables(load_board(name, PROJECT)) + script
        set_by_lines = {line.split("=", 1)[0] for line in text.splitlines()}
        set_by_script = set(re.findall(r"setenv (\w+)", text))
        set_by_script |= set(re.findall(r"setexpr(?:\.\w)? (\w+)", text))
        set_by_script |= set(re.findall(r"fdt get value (\w+)", text))
        set_by_script |= set(re.findall(r"for (\w+) in", text)) | {"fdtcontroladdr"}
        used = set(re.findall(r"\$\{(\w+)\}", text))
        assert used <= set_by_lines | set_by_script


def test_functions_are_one_line_each(uboot) -> None:  # type: ignore[no-untyped-def]
    text = "# why\na=one &&\n  two\n\nb=three\n"
    assert uboot.join_functions(text) == "a=one && two\nb=three\n"


def test_the_loader_knows_each_model_by_its_type_and_falls_back_on_the_first(uboot) -> None:  # type: ignore[no-untyped-def]
    lines = uboot.board_variables(load_board("rpi3", PROJECT)).splitlines()
    assert [line for line in lines if line.startswith("type_")] == [
        "type_8=setenv conf conf",
        "type_d=setenv conf conf-3b+",
        "type_e=setenv conf conf-3a+",
        "type_12=setenv conf conf-zero2w",
    ]


@pytest.fixture
def fit_of(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A FIT made by dtc alone, for a board and the trees of some models."""
    from fit import Trees, fit_source

    def make(board: str, *models: str, overlay: bool = False) -> Path:
        for name in ("kernel", "initramfs", "tree", "overlay"):
            (tmp_path / name).write_bytes(name.encode())
        trees = Trees(dict.fromkeys(models, tmp_path / "tree"))
        if overlay:
            trees = Trees(trees.by_model, tmp_path / "overlay")
        source = fit_source(
            "words", load_board(board, PROJECT), tmp_path / "kernel", tmp_path / "initramfs", trees
        )
        fit = tmp_path / "fit"
        subprocess.run(
            ["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", str(fit)],
            input=source,
            text=True,
            check=True,
            timeout=60,
        )
        return fit

    return make


def _fit_get(fit: Path, *words: str) -> list[str]:
    command = ["fdtget", *words[:-2], str(fit), *words[-2:]]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()


def test_a_slot_has_a_configuration_for_each_model_and_its_emulator(fit_of) -> None:  # type: ignore[no-untyped-def]
    fit = fit_of("rpi4", "4b", "cm4", overlay=True)
    listed = subprocess.run(
        ["fdtget", "-l", str(fit), "/configurations"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert listed == ["conf", "conf-emulated", "conf-cm4", "conf-cm4-emulated"]
    assert _fit_get(fit, "/configurations/conf", "fdt") == ["fdt"]
    assert _fit_get(fit, "/configurations/conf-cm4-emulated", "fdt") == ["fdt-cm4", "fdt-emulated"]
    assert {
        *_fit_get(fit, "/configurations/conf", "bootargs"),
        *_fit_get(fit, "/configurations/conf-cm4-emulated", "bootargs"),
    } == {"words"}


def test_a_board_whose_tree_is_the_emulators_has_one_configuration(fit_of) -> None:  # type: ignore[no-untyped-def]
    fit = fit_of("qemu-virt")
    with pytest.raises(subprocess.CalledProcessError):
        _fit_get(fit, "/configurations/conf", "fdt")
    assert _fit_get(fit, "/configurations/conf", "bootargs") == ["words"]


def _scons(*words: str) -> subprocess.CompletedProcess[str]:
    scons = Path(sys.executable).parent / "scons"
    return subprocess.run(
        [str(scons), "-Q", "-n", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("word", "listed"),
    [
        ("board=rpi9", "qemu-virt"),
        ("bord=rpi4", "board"),
        ("engine=uksm", "mainline"),
        ("kernel=/nosuch", "no kernel tree"),
    ],
)
def test_scons_tells_a_wrong_word_and_what_it_knows(word: str, listed: str) -> None:
    result = _scons(word)
    assert result.returncode == 2
    assert listed in result.stderr
    assert "Traceback" not in result.stderr
