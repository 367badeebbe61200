# SPDX-License-Identifier: Apache-2.0
"""Step "identity": which board that is, and whether it has the memory it should have."""

from __future__ import annotations

from typing import Any, Final

from ksmhost.bringup.bench import Bench
from ksmhost.bringup.model import Result, failed, ok
from ksmhost.bringup.revision import Revision, decode
from ksmhost.errors import KsmhostError
from ksmhost.link.session import Identity

_MIB: Final = 1 << 20
KEPT_BYTES: Final = 64 * _MIB
"""What the firmware keeps (gpu_mem, 32 MiB or more),"""
KEPT_SHARE: Final = 1 / 16
"""and the kernel: its code, and what it needs for each page."""
_OPTIONAL: Final = ("governor", "kpti", "kaslr", "firmware")
"""Facts that an older agent does not tell."""


async def take(bench: Bench) -> Result:
    """Ask who is there."""
    who = await bench.agent.identity()
    return judge(bench, who, await _temperature_c(bench))


async def _temperature_c(bench: Bench) -> float | None:
    try:
        counters = await bench.agent.counters("board")
    except KsmhostError:
        return None
    return temperature_c(counters)


def temperature_c(counters: dict[str, int]) -> float | None:
    """The hottest sensor there is."""
    found = [value for name, value in counters.items() if name.endswith("_mc") or "temp_m" in name]
    return max(found) / 1000 if found else None


def judge(bench: Bench, who: Identity, temperature: float | None) -> Result:
    """Compare with what the board's folder, or the board's own code, says."""
    revision = _revision(who)
    expected = _expected_bytes(bench, revision)
    figures = _figures(who, revision, expected, temperature)
    lines = _lines(who, revision, figures)
    more: dict[str, Any] = {"figures": figures, "lines": lines}
    name = who.model or who.board or "a board that does not say its name"
    if bench.board is not None and who.board and who.board != bench.board.name:
        return failed(
            f"the image is for {who.board}, not for {bench.board.name}",
            means="Another board's kernel and device tree run here.",
            todo="Write the right card.",
            **more,
        )
    if expected and who.mem_bytes < least_bytes(expected):
        return failed(
            f"{name} has {who.mem_bytes // _MIB} MiB of {expected // _MIB}",
            means="Memory is hidden by the firmware or the device tree, or it is another model.",
            todo="See total_mem and gpu_mem in config.txt, and the memory nodes of the tree.",
            **more,
        )
    return ok(f"{name}, {who.mem_bytes // _MIB} MiB, engine {who.engine}", **more)


def least_bytes(expected: int) -> int:
    """What Linux should at least have of so much memory."""
    return expected - KEPT_BYTES - int(expected * KEPT_SHARE)


def _revision(who: Identity) -> Revision | None:
    code = getattr(who, "revision", None)
    try:
        return decode(int(code, 16) if isinstance(code, str) else int(code or 0))
    except ValueError:
        return None


def _expected_bytes(bench: Bench, revision: Revision | None) -> int:
    """A real board's own code knows best; an emulator has what it was given."""
    if revision is not None and not bench.emulated:
        return revision.memory_bytes
    return bench.board.memory_bytes if bench.board is not None and bench.emulated else 0


def _figures(
    who: Identity, revision: Revision | None, expected: int, temperature: float | None
) -> dict[str, Any]:
    return {
        "board": who.board,
        "model": who.model,
        "serial": who.serial,
        "revision": f"{revision.code:x}" if revision else None,
        "memory_bytes": who.mem_bytes,
        "memory_expected_bytes": expected or None,
        "page_size_bytes": who.page_size_bytes,
        "cpus": who.cpus,
        "kernel": who.kernel,
        "engine": who.engine,
        "image": who.image,
        "variant": who.variant,
        "temperature_c": temperature,
        **{name: _told(getattr(who, name, None)) for name in _OPTIONAL},
    }


def _told(value: object) -> object:
    """What an agent leaves empty it does not know."""
    return None if value in ("", None) else value


def _lines(who: Identity, revision: Revision | None, figures: dict[str, Any]) -> list[str]:
    expected = figures["memory_expected_bytes"]
    memory = f"{who.mem_bytes // _MIB} MiB"
    memory += f" of {expected // _MIB}" if expected else ", expected: unknown"
    hot = figures["temperature_c"]
    optional = ", ".join(f"{name} {_word(figures[name])}" for name in _OPTIONAL)
    return [
        f"model {who.model or 'unknown'}, revision {revision or 'unknown'}",
        f"memory {memory}, pages of {who.page_size_bytes} bytes, {who.cpus} cores",
        f"Linux {who.kernel}, engine {who.engine}, image {who.image[:12]} {who.variant}",
        f"{optional}, temperature {'unknown' if hot is None else f'{hot:.1f} C'}",
    ]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "unknown" if value is None else str(value)
