# SPDX-License-Identifier: Apache-2.0
"""Workload files: what is accepted, what is refused and how, and the table for the agent."""

from __future__ import annotations

from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.workloads import (
    Program,
    Synthetic,
    Workload,
    encode_workloads,
    load_workload,
    load_workloads,
    seed_of,
)

SHIPPED = Path(__file__).resolve().parents[2] / "workloads"

SYNTHETIC = """
name = "one"
about = "about it"
kind = "synthetic"
processes = 4
[synthetic]
size_kib = 1024
duplicate_permille = 300
zero_permille = 100
"""
PROGRAM = """
name = "one"
about = "about it"
kind = "program"
processes = 2
merge = false
seed = 7
[program]
packages = ["tool"]
argv = ["/usr/bin/tool", "-x"]
files = ["programs/a.sh"]
[program.env]
B = "2"
A = "1"
"""


def load(folder: Path, text: str) -> Workload:
    """Loads `text` as the file one.toml."""
    (folder / "programs").mkdir(exist_ok=True)
    (folder / "programs/a.sh").write_text("#!/bin/sh\n")
    (folder / "one.toml").write_text(text)
    return load_workload(folder / "one.toml")


def test_a_synthetic_workload_with_its_defaults(tmp_path: Path) -> None:
    workload = load(tmp_path, SYNTHETIC)
    assert (workload.kind, workload.seed, workload.merge) == ("synthetic", 1, True)
    assert workload.what == Synthetic(1024, 300, 100, 0, 1000)


def test_a_program(tmp_path: Path) -> None:
    workload = load(tmp_path, PROGRAM)
    assert workload.what == Program(
        packages=("tool",),
        argv=("/usr/bin/tool", "-x"),
        env=("A=1", "B=2"),
        files=(tmp_path / "programs/a.sh",),
        include=(),
    )


@pytest.mark.parametrize(
    ("text", "old", "new", "key"),
    [
        (SYNTHETIC, "processes = 4", "", "processes: is missing"),
        (SYNTHETIC, "processes = 4", "processes = 0", "processes: is to lie between 1 and"),
        (SYNTHETIC, "processes = 4", "processes = true", "processes: is to be a whole number"),
        (SYNTHETIC, "processes = 4", 'processes = "4"', "processes: is to be a whole number"),
        (SYNTHETIC, "processes = 4", "processes = 4\nspeed = 1", "speed: no such key"),
        (SYNTHETIC, '"one"', '"two"', "name: is to be the file's name"),
        (SYNTHETIC, '"synthetic"', '"other"', "kind: is to be one of synthetic, program"),
        (SYNTHETIC, "about it", "x" * 101, "about: is to be one line"),
        (SYNTHETIC, "zero_permille", "zeros", "synthetic.zero_permille: is missing"),
        (SYNTHETIC, "= 300", "= 950", "synthetic.zero_permille: and duplicate_permille are more"),
        (SYNTHETIC, "= 300", "= 1001", "synthetic.duplicate_permille: is to lie between"),
        (SYNTHETIC, "[synthetic]", "[program]", "synthetic.size_kib: is missing"),
        (SYNTHETIC, "size_kib", "depth = 1\nsize_kib", "synthetic.depth: no such key"),
        (PROGRAM, '"/usr/bin/tool"', '"tool"', "program.argv: is to be an absolute path"),
        (PROGRAM, '["tool"]', '"tool"', "program.packages: is to be a list"),
        (PROGRAM, '["tool"]', "[1]", "program.packages: is to be a list of strings"),
        (PROGRAM, "a.sh", "b.sh", "program.files:"),
        (PROGRAM, 'B = "2"', "B = 2", "program.env.B: is to be a string"),
        (PROGRAM, "merge = false", 'merge = "no"', "merge: is to be true or false"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(
    tmp_path: Path, text: str, old: str, new: str, key: str
) -> None:
    assert old in text
    with pytest.raises(KsmhostError) as caught:
        load(tmp_path, text.replace(old, new, 1))
    assert f"one.toml: {key}" in caught.value.what
    assert caught.value.code == ExitCode.USAGE


def test_what_is_not_toml_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(KsmhostError, match="is not TOML"):
        load(tmp_path, "name = ")
    with pytest.raises(KsmhostError, match="cannot be read"):
        load_workload(tmp_path / "absent.toml")


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    load(tmp_path, SYNTHETIC)
    with pytest.raises(KsmhostError, match="Known are: one"):
        load_workloads(tmp_path, ["one", "other"])


def test_the_table_has_the_keys_the_agent_expects_in_its_order(tmp_path: Path) -> None:
    table = cbor2.loads(encode_workloads([load(tmp_path, SYNTHETIC), load(tmp_path, PROGRAM)]))
    common = ["name", "about", "kind", "processes", "seed", "merge"]
    figures = ["size_kib", "duplicate_permille", "zero_permille"]
    assert list(table[0]) == [*common, *figures, "rewrite_permille", "rewrite_period_ms"]
    assert list(table[1]) == [*common, "argv", "env"]
    assert table[1]["env"] == ["A=1", "B=2"]


@given(st.integers(4, 1 << 20), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_any_valid_figures_reach_the_table(
    size_kib: int, duplicates: int, zeros: int, rewritten: int
) -> None:
    what = Synthetic(size_kib, duplicates, zeros, rewritten, 100)
    (entry,) = cbor2.loads(encode_workloads([Workload("a", "b", 1, 1, True, what)]))
    assert (entry["size_kib"], entry["duplicate_permille"]) == (size_kib, duplicates)
    assert (entry["zero_permille"], entry["rewrite_permille"]) == (zeros, rewritten)


def test_a_table_the_agent_cannot_hold_is_refused() -> None:
    what = Program((), ("/bin/" + "x" * 2000,), (), (), ())
    with pytest.raises(KsmhostError, match="the agent takes"):
        encode_workloads([Workload("a", "b", 1, 1, True, what)] * 9)


def test_the_shipped_workloads_are_valid() -> None:
    workloads = load_workloads(SHIPPED)
    kinds = [workload.kind for workload in workloads]
    assert kinds.count("program") >= 3
    assert kinds.count("synthetic") >= 3
    assert len(encode_workloads(workloads)) < 4096


def test_shipped_workloads_that_run_side_by_side_have_seeds_of_their_own() -> None:
    names = [workload.name for workload in load_workloads(SHIPPED)]
    assert len({seed_of(name) for name in names}) == len(names)


def test_the_seed_of_a_name_stays() -> None:
    assert (seed_of("lua-rules"), seed_of("synthetic-mixed")) == (54_194, 95_356)
