# SPDX-License-Identifier: Apache-2.0
"""What an update has to say to people and programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from ksmhost.flash.image import SlotImage
from ksmhost.flash.outcome import SLOT_NAMES
from ksmhost.flash.plan import Plan, Tier
from ksmhost.flash.update import seconds
from ksmhost.link.session import SlotInfo, Slots

_OUTCOMES: Final = {
    1: "the last trial was confirmed",
    2: "the last trial used up its boots",
    3: "the last trial's slot could not be started",
    4: "the last trial was left by request",
}


def size(count: int) -> str:
    """A number of bytes for people.

    >>> size(999), size(25_300_000)
    ('999 B', '24.1 MiB')
    """
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"


def plan_words(image: SlotImage, slots: Slots, plan: Plan, baud: int) -> str:
    """What is going to be sent, and how long that takes."""
    head = f"{image.path}: {image.version} for {image.board}, {size(image.size_bytes)}"
    if plan.tier is Tier.NOTHING:
        runs = slots.running is not None and slots.slots[slots.running].hash == image.digest
        where = "the board runs it already" if runs else f"slot {SLOT_NAMES[slots.target]} has it"
        return f"{head}\nnothing to send: {where}"
    how = {
        Tier.PATCH: "as a patch of what the board runs",
        Tier.BLOCKS: "the blocks that no slot has",
    }
    sent = len(plan.stream)
    return (
        f"{head}\nto send: {size(sent)}, {plan.share:.2%} of it, {how[plan.tier]}: "
        f"{seconds(sent, baud):.0f} s at {baud} baud"
    )


def slots_words(slots: Slots) -> str:
    """Slots and boot state, a line each."""
    lines = [_slot_line(slots, number) for number in (0, 1)]
    state = slots.state
    if state.trial:
        lines.append(f"slot {SLOT_NAMES[state.first]} is on trial, {state.tries} boots left")
    else:
        lines.append(f"boots slot {SLOT_NAMES[state.first]}")
    if state.outcome in _OUTCOMES:
        lines.append(_OUTCOMES[state.outcome])
    if slots.update is not None:
        got, total = slots.update.off, slots.update.stream_size
        lines.append(f"an update was begun: {got} of {total} bytes are here")
    return "\n".join(lines)


def _slot_line(slots: Slots, number: int) -> str:
    slot = slots.slots[number]
    marks = ["runs"] * (slots.running == number) + ["next update"] * (slots.target == number)
    about = f"{slot.version} {slot.board} {slot.build_id[:12]}" if slot.version else slot.state
    state = f" ({slot.state})" if slot.version and slot.state != "whole" else ""
    return f"slot {SLOT_NAMES[number]}: {about}{state}{', ' * bool(marks)}{', '.join(marks)}"


def slots_as_json(slots: Slots) -> dict[str, Any]:
    """The same for programs: hashes in hex."""
    return {
        **{name: value for name, value in asdict(slots).items() if name not in ("slots", "update")},
        "key": slots.key.hex(),
        "public_key": slots.public_key.hex(),
        "slots": [_slot_as_json(slot) for slot in slots.slots],
        "update": slots.update
        and {**asdict(slots.update), "stream_sha": slots.update.stream_sha.hex(),
             "image_sha": slots.update.image_sha.hex()},
    }  # fmt: skip


def _slot_as_json(slot: SlotInfo) -> dict[str, Any]:
    return {**asdict(slot), "hash": slot.hash.hex(), "image_sha": slot.image_sha.hex()}
