# SPDX-License-Identifier: Apache-2.0
"""What to tell the user when nothing answers: silence, garbage, a shell and a loop differ."""

from __future__ import annotations

from dataclasses import dataclass

from ksmhost.link.console_watch import Prompt
from ksmhost.link.session import NoAnswerError

_GARBAGE_BYTES = 8
_GARBAGE_SHARE = 0.25
_NOISY_SHARE = 0.2


@dataclass(slots=True)
class Health:
    """What was seen on a line since it was opened."""

    bytes_in: int = 0
    odd_bytes: int = 0
    frames_in: int = 0
    frames_bad: int = 0
    frames_echoed: int = 0
    """Requests that came back as they were sent: the line is a loop."""


def explain(where: str, health: Health, prompt: Prompt) -> NoAnswerError:
    """Return the error that says what is at the other end, if not an agent."""
    what, means, todo = _words(health, prompt)
    return NoAnswerError(f"{where}: {what}", means=means, todo=todo)


def _words(health: Health, prompt: Prompt) -> tuple[str, str, str]:
    if health.frames_in and prompt is not Prompt.LOADER:
        return _NOISY if _is_noisy(health) else _AGENT_SILENT
    if health.frames_echoed:
        return _LOOP
    if not health.bytes_in:
        return _DEAD
    if _is_garbage(health):
        return _GARBAGE
    if health.frames_bad and not health.frames_in:
        return _DAMAGED
    return _PROMPTS[prompt]


def _is_noisy(health: Health) -> bool:
    return health.frames_bad >= (health.frames_in + health.frames_bad) * _NOISY_SHARE


def _is_garbage(health: Health) -> bool:
    enough = health.bytes_in >= _GARBAGE_BYTES
    return enough and health.odd_bytes >= health.bytes_in * _GARBAGE_SHARE


_AGENT_SILENT = (
    "the agent has stopped answering.",
    "The board hangs, or its agent died.",
    "Look at its console; reset the board.",
)
_NOISY = (
    "the line damages too much: many answers arrive broken, and others not at all.",
    "It loses or changes bytes, most likely on the way to the board, too.",
    "Use a lower baud rate, a shorter cable, a better ground.",
)
_LOOP = (
    "what is sent comes straight back.",
    "The line is a loop: transmit and receive are connected, or a terminal only echoes.",
    "Check the wiring: the board's TX goes to the adapter's RX and the other way round.",
)
_DEAD = (
    "nothing answers, not one byte arrives.",
    "The board is off or hangs, its UART is wired wrong, or this is another port.",
    "Check power, the three wires (TX and RX crossed, GND) and the port's name.",
)
_GARBAGE = (
    "bytes arrive but none make sense: wrong baud rate?",
    "The board may talk at another speed than this port is set to.",
    "Give the board's speed with --baud, or check the wires.",
)
_DAMAGED = (
    "answers arrive, but every one is damaged.",
    "The line loses or changes bytes.",
    "Check cable and ground, or use a lower baud rate.",
)
_PROMPTS = {
    Prompt.LOGIN: (
        "a login prompt answers but no agent: try --agentless.",
        "This board runs without the ksmhost agent.",
        "Give --agentless with --user and --password, or install the agent.",
    ),
    Prompt.SHELL: (
        "a shell prompt answers but no agent: try --agentless.",
        "This board runs without the ksmhost agent.",
        "Give --agentless, or install the agent.",
    ),
    Prompt.LOADER: (
        "the board stands at its boot loader's prompt.",
        "No system runs there.",
        "If no slot boots: ksmhost flash IMAGE --rescue. Else reset it.",
    ),
    Prompt.NONE: (
        "there is console text, but no agent answers.",
        "The board is still booting, runs no agent, or cannot hear us (check the TX wire).",
        "Wait for it to boot, try --agentless, or look at its console.",
    ),
}
