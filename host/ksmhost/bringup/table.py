# SPDX-License-Identifier: Apache-2.0
"""The steps of a bring-up, in their order: what leaves the board to itself comes last."""

from __future__ import annotations

from typing import Final

from ksmhost.bringup import (
    boot,
    clock,
    cost,
    disk,
    engine,
    identity,
    line,
    slots,
    watchdog,
)
from ksmhost.bringup.model import Step

STEPS: Final = (
    Step(
        "boot",
        "boot stages",
        lambda limits: limits.boot_s + limits.listen_s + limits.answer_s,
        boot.take,
        asks="boot: resets the board; what runs on it ends",
        needs_agent=False,
    ),
    Step("identity", "identity and memory", lambda limits: limits.answer_s, identity.take),
    Step("line", "the line at each rate", lambda limits: limits.line_s, line.take),
    Step("engine", "merging a pattern", lambda limits: limits.engine_s, engine.take),
    Step("cost", "what a page costs", lambda limits: limits.engine_s, cost.take),
    Step("disk", "the disk", lambda limits: limits.disk_s + limits.answer_s, disk.take),
    Step("clock", "clock and throttling", lambda limits: limits.clock_s, clock.take),
    Step(
        "watchdog",
        "watchdog",
        lambda limits: limits.watchdog_limit_s + limits.watchdog_slack_s + 2 * limits.boot_s,
        watchdog.take,
        asks="watchdog: starts it and does not pet it, so that it resets the board",
    ),
    Step(
        "slots",
        "both slots boot",
        lambda limits: limits.slots_s,
        slots.take,
        asks="slots: boots the other slot once, unconfirmed, and goes back: two resets",
    ),
)
NAMES: Final = tuple(step.name for step in STEPS)
