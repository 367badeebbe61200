# SPDX-License-Identifier: Apache-2.0
"""`get info`: what a board tells of itself, and what it does not tell as unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memory_session import MemorySession

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import Identity
from ksmhost.sample.read import read_figures, render_figures


class Pi(MemorySession):
    """A board that tells some of it."""

    async def identity(self) -> Identity:
        who = replace(await super().identity(), governor="schedutil", kpti="off")
        return replace(who, revision=0xC03112, firmware_s=1_713_358_714, mem_bytes=0)


async def test_all_of_it() -> None:
    found = {figure.name: figure.as_dict() for figure in await read_figures(Pi(), ["info"])}
    assert found["info.governor"] == {"value": "schedutil", "unit": ""}
    assert found["info.kpti"]["value"] == "off" and found["info.kaslr"]["value"] == "unknown"
    assert found["info.revision"]["value"] == "c03112"
    assert found["info.firmware"]["value"] == "2024-04-17"
    assert found["info.page_size_bytes"] == {"value": 4096, "unit": "bytes"}
    assert found["info.mem_bytes"] == {"value": "unknown", "unit": ""}
    assert found["info.model"]["value"] == "linux,dummy-virt"
    assert "info.uptime_ms" not in found


async def test_one_of_it() -> None:
    (figure,) = await read_figures(Pi(), ["info.governor"])
    assert render_figures([figure]).split() == ["info.governor", "schedutil"]
    with pytest.raises(KsmhostError, match="info has no counter 'nothing'") as caught:
        await read_figures(Pi(), ["info.nothing"])
    assert caught.value.code is ExitCode.USAGE and "governor" in caught.value.means
    with pytest.raises(KsmhostError) as caught:
        await read_figures(Pi(), ["nothing"])
    assert "workload" not in caught.value.means and "info" in caught.value.means


async def test_nothing_asked_for_is_what_it_was() -> None:
    names = [figure.name for figure in await read_figures(Pi(), [])]
    assert "run" in names and not any(name.startswith("info.") for name in names)
