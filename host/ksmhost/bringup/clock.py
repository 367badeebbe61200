# SPDX-License-Identifier: Apache-2.0
"""Step "clock": the processor's clock, and whether the board had to hold it back.

It comes behind the steps that make the board work, and what the firmware notes stays noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ksmhost.bringup.bench import Bench
from ksmhost.bringup.identity import temperature_c
from ksmhost.bringup.model import Result, failed, impossible, ok

SET, MEASURED = "cpu_khz", "cpu_measured_khz"
FLAGS: Final = ("under_voltage", "frequency_capped", "throttled", "soft_temp_limit")
"""Counters of the agent's group board; one that is not there is not known."""
_WRONG: Final = {
    "under_voltage": (
        "the board had too little voltage",
        "Figures taken now are not to be trusted, and the card may lose writes.",
        "A better supply (5.1 V, 3 A for a Pi 4), a shorter and thicker cable.",
    ),
    "throttled": (
        "the board was throttled",
        "It runs slower than its clock says, so figures taken now are not to be trusted.",
        "Cool it: a heat sink, moving air.",
    ),
    "frequency_capped": (
        "the board's clock was capped",
        "It runs slower than it could, so figures taken now are not to be trusted.",
        "Cool it, or give it a better supply.",
    ),
    "soft_temp_limit": (
        "the board reached its soft limit of temperature",
        "It lowers its clock from there, so figures taken now are not to be trusted.",
        "Cool it: a heat sink, moving air.",
    ),
}
_TOLERATED: Final = 0.02
"""A measured clock may differ so much from the one that is set."""


async def take(bench: Bench) -> Result:
    """Look for a while."""
    looks = []
    for _ in range(bench.limits.clock_looks):
        looks.append(await bench.agent.counters("board"))
        await asyncio.sleep(bench.limits.poll_s)
    return judge(looks, bench.emulated)


def judge(looks: Sequence[Mapping[str, int]], emulated: bool) -> Result:
    """What the counters say; absent ones say nothing."""
    clocks = {
        name: [look[name] for look in looks if look.get(name, 0) > 0] for name in (SET, MEASURED)
    }
    flags: dict[str, int | None] = {name: _flag(looks, name) for name in FLAGS}
    hottest = max(
        (t for look in looks if (t := temperature_c(dict(look))) is not None), default=None
    )
    figures: dict[str, Any] = {
        "cpu_min_khz": min(clocks[SET], default=None),
        "cpu_max_khz": max(clocks[SET], default=None),
        "cpu_measured_khz": max(clocks[MEASURED], default=None),
        "temperature_c": hottest,
        **flags,
    }
    more: dict[str, Any] = {"figures": figures, "lines": _lines(figures, flags)}
    for name in FLAGS:
        if flags[name]:
            what, means, todo = _WRONG[name]
            return failed(what, means=means, todo=todo, **more)
    if not clocks[SET] and not clocks[MEASURED] and all(v is None for v in flags.values()):
        return impossible("the board tells neither its clock nor whether it was throttled", **more)
    return _judge_clock(figures, flags, emulated, more)


def _judge_clock(
    figures: dict[str, Any], flags: dict[str, int | None], emulated: bool, more: dict[str, Any]
) -> Result:
    highest, measured = figures["cpu_max_khz"], figures["cpu_measured_khz"]
    slow = highest and measured and measured < highest * (1 - _TOLERATED)
    if slow and not emulated:
        return failed(
            f"the clock is {measured // 1000} MHz, not {highest // 1000} as was set",
            means="Something holds it back that the firmware does not tell.",
            todo="Look at arm_freq and force_turbo in config.txt, and at the supply.",
            **more,
        )
    unknown = [name for name, value in flags.items() if value is None]
    clock = f"{highest // 1000} MHz" if highest else "a clock that it does not tell"
    return ok(
        f"{clock}" + ("" if unknown else ", never throttled, never short of voltage"),
        means="Whether it was throttled or short of voltage is not known here." if unknown else "",
        **more,
    )


def _flag(looks: Sequence[Mapping[str, int]], name: str) -> int | None:
    values = [look[name] for look in looks if name in look]
    return max(values) if values else None


def _lines(figures: dict[str, Any], flags: dict[str, int | None]) -> list[str]:
    def mhz(name: str) -> str:
        value = figures[name]
        return "unknown" if value is None else f"{value / 1000:.0f} MHz"

    hot = figures["temperature_c"]
    noted = ", ".join(
        f"{name.replace('_', ' ')}: {'unknown' if value is None else value}"
        for name, value in flags.items()
    )
    return [
        f"clock {mhz('cpu_min_khz')} to {mhz('cpu_max_khz')}, measured {mhz('cpu_measured_khz')}, "
        f"temperature {'unknown' if hot is None else f'{hot:.1f} C'}",
        noted,
    ]
