# SPDX-License-Identifier: Apache-2.0
"""The board says what it is, and it is what was built."""

from __future__ import annotations

import json

import pytest

from ksmhost.board import Board
from ksmhost.link import BoardSession, Where


async def test_the_kernel_is_the_one_that_was_built(
    board: BoardSession, described: Board, where: Where
) -> None:
    if not where.emulate:
        pytest.skip("the image on a real board may be another one than the last built")
    manifest = json.loads((described.build_dir() / "manifest.json").read_text())
    who = await board.identity()
    assert who.build_id == manifest["build_id"]
    assert who.kernel == manifest["kernel_release"]
    assert who.engine == manifest["engine"]
    assert who.image == manifest["git_revision"]


async def test_it_names_itself(board: BoardSession, described: Board) -> None:
    who = await board.identity()
    assert who.board == described.name
    assert who.cpus >= 1
    assert who.page_size_bytes == 4096
    assert 0 < who.mem_bytes <= described.memory_bytes
    assert who.boot_id


async def test_every_group_of_counters_answers(board: BoardSession) -> None:
    groups = await board.groups()
    assert {"ksm", "ksmd", "vm", "board", "link", "workload"} <= set(groups)
    for group in groups:
        assert await board.counters(group), group
