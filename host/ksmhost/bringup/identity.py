# SPDX-License-Identifier: Apache-2.0
"""Step "identity": which board that is, and whether it has the memory it should have."""

from __future__ import annotations

import time
from typing import Any, Final

from ksmhost.bringup.bench import Bench
from ksmhost.bringup.model import Result, failed, ok
from ksmhost.errors import KsmhostError
from ksmhost.link.session import Identity
from ksmhost.videocore.models import memory_of, model_of

_MIB: Final = 1 << 20
KEPT_BYTES: Final = 64 * _MIB
"""What the firmware keeps (gpu_mem, 32 MiB or more),"""
KEPT_SHARE: Final = 1 / 16
"""and the kernel: its code, and what it needs for each page."""
_OPTIONAL: Final = ("governor", "kpti", "kaslr")
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
    """Of the processor, in degrees; None where it does not tell."""
    return counters["temperature_mc"] / 1000 if "temperature_mc" in counters else None


def judge(bench: Bench, who: Identity, temperature: float | None) -> Result:
    """Compare with what the board's folder, or the board's own code, says."""
    revision = getattr(who, "revision", 0)
    expected = _expected_bytes(bench, revision)
    figures = _figures(who, expected, temperature)
    more: dict[str, Any] = {"figures": figures, "lines": _lines(figures)}
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


def _expected_bytes(bench: Bench, revision: int) -> int:
    """A real board's own code knows best; an emulator has what it was given."""
    if not bench.emulated:
        return memory_of(revision) or 0
    return bench.board.memory_bytes if bench.board is not None else 0


def _figures(who: Identity, expected: int, temperature: float | None) -> dict[str, Any]:
    revision = getattr(who, "revision", 0)
    model = model_of(revision)
    return {
        "board": who.board,
        "model": who.model,
        "serial": who.serial,
        "revision": f"{revision:x}" if revision else None,
        "revision_of": model.title if model else None,
        "memory_bytes": who.mem_bytes,
        "memory_expected_bytes": expected or None,
        "page_size_bytes": who.page_size_bytes,
        "cpus": who.cpus,
        "kernel": who.kernel,
        "engine": who.engine,
        "image": who.image,
        "variant": who.variant,
        "temperature_c": temperature,
        "firmware": _date(getattr(who, "firmware_s", 0)),
        **{name: getattr(who, name, "") or None for name in _OPTIONAL},
    }


def _date(unix_s: int) -> str | None:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s)) if unix_s else None


def _lines(told: dict[str, Any]) -> list[str]:
    def word(name: str) -> str:
        return "unknown" if told[name] in (None, "") else str(told[name])

    expected, hot = told["memory_expected_bytes"], told["temperature_c"]
    revision = f"{word('revision')} ({word('revision_of')})" if told["revision"] else "unknown"
    optional = ", ".join(f"{name} {word(name)}" for name in (*_OPTIONAL, "firmware"))
    return [
        f"model {word('model')}, revision {revision}",
        f"memory {told['memory_bytes'] // _MIB} MiB, expected "
        f"{f'{expected // _MIB} MiB' if expected else 'unknown'}, "
        f"pages of {told['page_size_bytes']} bytes, {told['cpus']} cores",
        f"Linux {word('kernel')}, engine {word('engine')}, image {word('image')[:12]}",
        f"{optional}, temperature {'unknown' if hot is None else f'{hot:.1f} C'}",
    ]
