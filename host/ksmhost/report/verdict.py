# SPDX-License-Identifier: Apache-2.0
"""What runs say, in a sentence: what was saved at least, for what, and whether that was all.

A sentence claims no more than the figures do. Where there is no value it says so and why; what
makes a figure doubtful (a run that was cut, samples that were lost, knobs that changed) follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ksmhost.monitor import text
from ksmhost.report.evidence import Evidence
from ksmhost.store import Ending, EventKind
from ksmhost.store.steadiness import State, remedy, unsteady_words

MIB: Final = 1 << 20
_NOTHING_BYTES: Final = MIB // 20
"""Less is called nothing: it would be 0.0 MiB."""
_ALIKE: Final = 0.02
"""Of runs that are no further apart none is said to have saved more."""


class Tone(StrEnum):
    """How a verdict is marked, besides its words."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict, and what is to be known with it."""

    sentence: str
    tone: Tone
    cautions: tuple[str, ...] = ()


def verdict(run: Evidence) -> Verdict:
    """What one run says."""
    words, tone = _said(run)
    told = filter(None, (unsteady_words(run.steadiness), words, _ended(run)))
    return Verdict(" ".join(told), _at_most(tone, [run]), tuple(_cautions(run)))


def _at_most(tone: Tone, runs: Sequence[Evidence]) -> Tone:
    """What a board that was not steady says is never simply good."""
    unsteady = any(run.steadiness.marks for run in runs)
    return Tone.OPEN if unsteady and tone is Tone.GOOD else tone


def verdict_of_all(runs: Sequence[Evidence]) -> Verdict:
    """What several runs say together."""
    said = _said_of_all(runs)
    unsteady = [run for run in runs if run.steadiness.marks]
    if not unsteady:
        return said
    named = "; ".join(f"{run.letter}: {', '.join(run.steadiness.marks)}" for run in unsteady)
    words = f"The board was not steady in {len(unsteady)} of these {len(runs)} runs ({named})."
    return Verdict(f"{words} {said.sentence}", _at_most(said.tone, runs), said.cautions)


def _said_of_all(runs: Sequence[Evidence]) -> Verdict:
    certain = [(value, run) for run in runs if (value := run.value("saved_bytes")) is not None]
    cautions = tuple(_unlike(runs))
    if not certain:
        words = f"None of these {len(runs)} runs tells for certain what merging saved."
        return Verdict(words, Tone.OPEN, cautions)
    most, best = max(certain, key=lambda pair: pair[0])
    if most < _NOTHING_BYTES:
        words = f"None of these {len(runs)} runs saved anything for certain."
        return Verdict(words, Tone.BAD, cautions)
    words = f"Of these {len(runs)} runs, "
    alike = [(value, run.letter) for value, run in certain if value >= (1 - _ALIKE) * most]
    if len(alike) > 1:
        letters = [letter for _, letter in alike]
        named = f"{', '.join(letters[:-1])} and {letters[-1]}"
        words += f"runs {named} saved the most for certain, all but the same: "
        words += f"at least {mib(min(alike)[0])}."
    else:
        words += f"run {_called(best)} saved the most for certain: at least {mib(most)} "
        words += f"on {best.place}{_cost(best)}."
    costs = [(value, run) for run in runs if (value := run.value("cpu_ms_per_mib")) is not None]
    if len(costs) > 1:
        least, cheapest = min(costs, key=lambda pair: pair[0])
        words += f" Run {_called(cheapest)} took the least CPU time for each MiB: {least:,.1f} ms."
    return Verdict(words, Tone.GOOD, cautions)


def mib(value_bytes: float) -> str:
    """Bytes in MiB, with a second decimal where there is less than one.

    >>> mib(11.24 * MIB), mib(-0.25 * MIB)
    ('11.2 MiB', '-0.25 MiB')
    """
    return f"{text.mib(value_bytes, 1 if abs(value_bytes) >= MIB else 2)} MiB"


def _called(run: Evidence) -> str:
    engine = f"{run.info.engine}, " if run.info.engine else ""
    return f"{run.letter} ({engine}{run.info.short})"


def _said(run: Evidence) -> tuple[str, Tone]:
    if not run.info.samples:
        return f"This run on {run.place} holds no samples and says nothing.", Tone.OPEN
    if _was_off(run):
        return _off(run), Tone.OPEN
    words, tone = _gain(run)
    return f"{words}{_cost(run)}; {_settled(run)}.", tone


def _was_off(run: Evidence) -> bool:
    """True if KSM did not run, from the start to the end."""
    changed = any(e.text.startswith("run:") for e in run.events_of(EventKind.KNOB))
    return run.settings.get("run", "1") != "1" and not changed and not run.value("full_scans")


def _off(run: Evidence) -> str:
    words = f"KSM was off on {run.place} (run = {run.settings['run']}): nothing was scanned"
    profit = run.value("profit_bytes")
    if profit is not None and profit >= _NOTHING_BYTES:
        return f"{words}; {mib(profit)} were merged before and stayed so."
    return f"{words}, and nothing was saved. Such a run is what others are measured against."


def _gain(run: Evidence) -> tuple[str, Tone]:
    """What was saved: its least, or why that cannot be told."""
    least, most = run.value("saved_bytes"), run.value("profit_bytes")
    if most is None:
        why = run.reason("profit_bytes")
        return f"What merging saved on {run.place} is not known ({why})", Tone.OPEN
    if most <= -_NOTHING_BYTES:
        words = f"Merging saved nothing on {run.place}: its records took {mib(-most)} more than it"
        return f"{words} set free", Tone.BAD
    if most < _NOTHING_BYTES:
        return f"Merging saved nothing on {run.place} ({mib(most)})", Tone.BAD
    if least is None:
        words = f"Merging saved at most {mib(most)} on {run.place} (how much is not certain)"
        return words, Tone.OPEN
    if least < _NOTHING_BYTES:
        words = f"Merging saved nothing on {run.place} for certain, and at most {mib(most)}"
        return words, Tone.OPEN
    return f"Merging saved at least {mib(least)} on {run.place}", Tone.GOOD


def _cost(run: Evidence) -> str:
    percent = run.value("ksmd_cpu_percent")
    if percent is None:
        return f", at a cost that is not known ({run.reason('ksmd_cpu_percent')})"
    return f" for {text.percent(percent)} % of one core"


def _settled(run: Evidence) -> str:
    scans, seconds = run.value("settle_scans"), run.value("settle_s")
    if scans is not None and seconds is not None:
        s = "" if scans == 1 else "s"
        return f"settled after {scans:.0f} full scan{s} ({text.duration(seconds)})"
    reason = run.reason("settle_scans")
    if reason.startswith("not settled"):
        return f"{reason} ({text.duration(run.info.duration_s)}), so this may not be its last word"
    return f"whether it had settled is not known ({reason})"


def _ended(run: Evidence) -> str:
    info = run.info
    why = f" ({info.why.rstrip('.')})" if info.why else ""
    after = text.duration(info.duration_s)
    match info.ending:
        case Ending.WHOLE:
            return ""
        case Ending.RUNNING:
            return "It is still being recorded."
        case Ending.STOPPED:
            return f"It was stopped by hand after {after}."
        case Ending.WORKLOAD_DIED:
            return f"Processes of its workload ended within {after}{why}."
    return f"The run was cut short after {after}: {info.ending}{why}."


def _cautions(run: Evidence) -> list[str]:
    """What makes the figures doubtful."""
    found: list[str] = []
    if run.value("saved_bytes") is None and run.value("profit_bytes") is not None:
        found.append(f"What was saved for certain has no value: {run.reason('saved_bytes')}.")
    knobs = list(dict.fromkeys(e.text for e in run.events_of(EventKind.KNOB)))
    if knobs:
        more = f" and {len(knobs) - 3} more" if len(knobs) > 3 else ""
        found.append(
            f"Knobs changed in mid-run ({'; '.join(knobs[:3])}{more}): "
            "the figures are of no one setting."
        )
    if run.traces.gaps:
        lost = run.traces.lost_samples
        found.append(
            f"The samples have {_times(len(run.traces.gaps), 'gap')}"
            f"{f', {lost:,} are missing' if lost else ''}: counters went on there, levels were "
            "not seen."
        )
    warnings = len(run.events_of(EventKind.CONSOLE)) + len(run.events_of(EventKind.PANIC))
    if warnings:
        found.append(f"The kernel gave {_times(warnings, 'warning')}: see events.")
    if run.steadiness.marks:
        helps = remedy(run.steadiness.marks)
        found.append(f"Times of a board that is not steady are of no one board. {helps}")
    if run.info.samples and run.steadiness.state is State.UNKNOWN:
        untold = ", ".join(run.steadiness.unknown)
        found.append(f"Whether the board was steady is not known: nobody on it tells of {untold}.")
    if run.emulated:
        found.append("The board was emulated: its CPU time is as good as its host's.")
    return found


def _times(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _unlike(runs: Sequence[Evidence]) -> list[str]:
    """What speaks against holding these runs side by side."""
    found: list[str] = []
    for what, values in (
        ("boards", {run.place for run in runs}),
        ("workloads", {run.workload for run in runs}),
        ("seeds", {str([w.seed for w in run.workloads]) for run in runs}),
    ):
        if len(values) > 1:
            found.append(f"They are of different {what}.")
    lengths = [run.info.duration_s for run in runs]
    if max(lengths) > 1.1 * min(lengths):
        shortest, longest = text.duration(min(lengths)), text.duration(max(lengths))
        found.append(
            f"They took {shortest} to {longest}: their shares of a core are over different times; "
            "the CPU time for each MiB is until settled."
        )
    found.append("One run of each is no proof of a difference: repeat them.")
    return found
