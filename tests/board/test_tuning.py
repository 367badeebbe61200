# SPDX-License-Identifier: Apache-2.0
"""Tuning on a live board, and the settings that a board applies at boot."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ksmhost.board import Board
from ksmhost.compare.boards import Emulated
from ksmhost.compare.sides import LiveSide
from ksmhost.link import BoardSession, Where
from ksmhost.store import RunFilter, Store
from ksmhost.store.record import Progress
from ksmhost.tune.front import Limits, Trial, conclude
from ksmhost.tune.rivals import rivals_of
from ksmhost.tune.search import Search, search
from ksmhost.tune.space import make_space, parse_knob
from ksmhost.tune.study import Asked, Study, Terms
from ksmhost.tune.trial import Job

MIB = 1 << 20


class Quiet:
    """Follows a search and says nothing."""

    def begins(self, asked: Asked, left: int) -> None: ...

    def goes_on(self, now: Progress) -> None: ...

    def ended(self, trials: list[Trial]) -> None: ...

    def say(self, words: str) -> None: ...


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_study_of_a_synthetic_workload(board: BoardSession, tmp_path: Path) -> None:
    """Quick settings merge what slow ones do not get to; every trial is kept with its evidence."""
    before = await board.knobs()
    knobs = ("pages_to_scan=1000,8000", "sleep_millisecs=10,20")
    space = make_space(before, [parse_knob(word) for word in knobs])
    job = Job("synthetic-duplicates", seed=5, settle_s=25.0, tag="tuned")
    terms = Terms("any", "any", "", job.workload, None, 5, 25.0, space.words())
    study = Study.open(str(tmp_path / "studies.db"), "tuned", terms, space, rivals_of(before))
    with Store.open(tmp_path / "runs.db") as store:
        await search(board, store, study, Search(job, space, Limits(), 4), Quiet())
        runs = store.runs(RunFilter(tags=("tuned",)))
    found = conclude(study.trials(), Limits())
    assert len(found.searched) == 4 and len(found.rivals) == 3 and len(runs) == 7
    assert found.best is not None and found.best.point is not None
    assert found.best.point.saved_bytes > 40 * MIB
    assert await board.knobs() == before


@pytest.mark.timeout(300)
async def test_settings_are_applied_at_boot(where: Where, described: Board, tmp_path: Path) -> None:
    if not where.emulate or not described.emulator or not described.emulator.direct_args:
        pytest.skip("its image would have to be flashed")
    folder = with_settings(described, tmp_path, b"sleep_millisecs=33\nnosuch=1\nrun=1\n")
    async with Emulated(described).booted(LiveSide("settings", image=folder)) as session:
        knobs = await session.knobs()
    assert (knobs["run"], knobs["sleep_millisecs"], knobs["pages_to_scan"]) == ("1", "33", "100")


def with_settings(board: Board, folder: Path, content: bytes) -> Path:
    """A build folder like the board's own, whose initramfs has these settings as well."""
    sys.path.insert(0, str(board.project / "site_scons"))
    import cpio

    build = folder / "build"
    build.mkdir()
    for file in board.build_dir().iterdir():
        (build / file.name).symlink_to(file)
    own, manifest = build / "initramfs.cpio", build / "manifest.json"
    data = own.read_bytes() + cpio.archive([cpio.file("etc/ksmhost/ksm.conf", content)])
    told = json.loads(manifest.read_text())
    told["files"][own.name]["size_bytes"] = len(data)
    for file, changed in ((own, data), (manifest, json.dumps(told).encode())):
        file.unlink()
        file.write_bytes(changed)
    return build
