# SPDX-License-Identifier: Apache-2.0
"""What the figures of a bring-up are taken to mean, and the page they make."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ksmhost.board import find_project, load_board
from ksmhost.bringup import clock, cost, disk, engine, identity, line, page, slots, watchdog
from ksmhost.bringup.bench import Bench
from ksmhost.bringup.model import Grade, Report, Taken, failed, impossible, ok, skipped
from ksmhost.bringup.order import unwanted
from ksmhost.bringup.table import NAMES, STEPS
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BootState, DiskBench, Identity, SlotInfo, Slots
from ksmhost.videocore.models import MODELS, memory_of
from ksmhost.workloads import Synthetic, Workload

MIB = 1 << 20
GIB = 1 << 30


def bench(*, emulated: bool = False) -> Bench:
    """A bench whose board is described, and is not there."""
    nothing = cast(Any, None)
    board = load_board("rpi4", find_project())
    return Bench(nothing, None, board, emulated, nothing)


# -- identity --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "memory"),
    [
        (0xA02082, GIB),
        (0x9020E0, 512 * MIB),
        (0x902120, 512 * MIB),
        (0xB03115, 2 * GIB),
        (0xD03114, 8 * GIB),
        (0xC03130, 4 * GIB),
        (0x1A02082, GIB),
        (0x0015, None),
        (0, None),
    ],
)
def test_memory_in_revision_codes(code: int, memory: int | None) -> None:
    """The codes are those of the documentation's table of boards."""
    assert memory_of(code) == memory


WHO = Identity(board="rpi4", model="Raspberry Pi 4 Model B Rev 1.5", mem_bytes=1_900 * MIB)


class Telling:
    """An identity with the facts that a newer agent tells."""

    def __init__(self, who: Identity, **facts: object) -> None:
        self._who = who
        self.__dict__.update(facts)

    def __getattr__(self, name: str) -> object:
        return getattr(self._who, name)


def telling(who: Identity, **facts: object) -> Identity:
    return cast(Identity, Telling(who, **facts))


@pytest.mark.parametrize(
    ("revision", "mem_mib", "grade"),
    [
        (0xB03115, 1_900, Grade.OK),
        (0xB03115, 948, Grade.FAILED),
        (0xC03115, 3_900, Grade.OK),
        (0xC03115, 3_000, Grade.FAILED),
        (0x902120, 430, Grade.OK),
        (0x902120, 400, Grade.FAILED),
        (0, 948, Grade.OK),
    ],
)
def test_memory_against_what_the_code_says(revision: int, mem_mib: int, grade: Grade) -> None:
    who = telling(replace(WHO, mem_bytes=mem_mib * MIB), revision=revision)
    result = identity.judge(bench(), who, 48.3)
    assert result.grade is grade
    assert result.figures["temperature_c"] == 48.3


def test_an_emulator_is_measured_by_what_it_was_given() -> None:
    short = replace(WHO, mem_bytes=1_000 * MIB)
    assert identity.judge(bench(emulated=True), short, None).grade is Grade.FAILED
    assert identity.judge(bench(emulated=True), WHO, None).grade is Grade.OK


def test_another_boards_image_is_told() -> None:
    result = identity.judge(bench(), replace(WHO, board="rpi3"), None)
    assert result.grade is Grade.FAILED and "for rpi3, not for rpi4" in result.what


def test_facts_that_an_agent_does_not_tell_are_unknown() -> None:
    lines = "\n".join(identity.judge(bench(), WHO, None).lines)
    assert "governor unknown, kpti unknown, kaslr unknown" in lines
    assert "temperature unknown" in lines
    told = telling(
        WHO, governor="performance", kpti="on", kaslr="off", revision=0xB03115, firmware_s=1e9
    )
    lines = "\n".join(identity.judge(bench(), told, 61.0).lines)
    assert "governor performance, kpti on, kaslr off, firmware 2001-09-09" in lines
    assert "revision b03115 (Raspberry Pi 4 Model B)" in lines and "61.0 C" in lines


def test_every_model_that_is_sold_has_the_memory_its_code_says() -> None:
    for model in MODELS.values():
        for size_mib, code in model.revisions.items():
            assert memory_of(code) == size_mib * MIB, model.name


# -- clock -----------------------------------------------------------------------------------------

CALM = dict.fromkeys(clock.FLAGS, 0)


@pytest.mark.parametrize(
    ("looks", "emulated", "grade", "says"),
    [
        ([{}], False, Grade.IMPOSSIBLE, "neither its clock"),
        ([{"cpu_khz": 1_500_000}], False, Grade.OK, "1500 MHz"),
        ([{"cpu_khz": 1_500_000, **CALM}], False, Grade.OK, "never throttled"),
        ([{**CALM}, {**CALM, "under_voltage": 1}], False, Grade.FAILED, "too little voltage"),
        ([{**CALM, "throttled": 1}], False, Grade.FAILED, "was throttled"),
        ([{**CALM, "frequency_capped": 3}], False, Grade.FAILED, "capped"),
        ([{**CALM, "soft_temp_limit": 1}], False, Grade.FAILED, "soft limit"),
        ([{"cpu_khz": 1_500_000, "cpu_measured_khz": 1_499_000}], False, Grade.OK, "1500 MHz"),
        ([{"cpu_khz": 1_500_000, "cpu_measured_khz": 600_000}], False, Grade.FAILED, "600 MHz"),
        ([{"cpu_khz": 1_500_000, "cpu_measured_khz": 600_000}], True, Grade.OK, "1500 MHz"),
    ],
)
def test_clock_and_throttling(
    looks: list[dict[str, int]], emulated: bool, grade: Grade, says: str
) -> None:
    result = clock.judge(looks, emulated)
    assert result.grade is grade and says in result.what


def test_no_answer_is_unknown_not_fine() -> None:
    result = clock.judge([{"cpu_khz": 600_000, "throttled": 0}], False)
    assert result.figures["under_voltage"] is None and result.figures["throttled"] == 0
    assert "not known" in result.means and "never" not in result.what


# -- the line --------------------------------------------------------------------------------------

CLEAN = line.Rate(115_200, True, 34, 0, 0, 0, 9_000)


def fast(baud: int, **change: Any) -> line.Rate:
    return replace(replace(CLEAN, baud=baud), **change)


@pytest.mark.parametrize(
    ("done", "emulated", "grade", "says", "best"),
    [
        ([CLEAN], False, Grade.OK, "115,200", 115_200),
        ([CLEAN, fast(921_600)], False, Grade.OK, "921,600", 921_600),
        ([CLEAN, fast(921_600), fast(3_000_000, lost=2)], False, Grade.OK, "921,600", 921_600),
        ([CLEAN, fast(921_600, reached=False)], False, Grade.FAILED, "no rate above", 115_200),
        ([CLEAN, fast(921_600, board_errors=1)], False, Grade.FAILED, "no rate above", 115_200),
        ([replace(CLEAN, lost=1)], False, Grade.FAILED, "loses bytes at its own rate", None),
        ([replace(CLEAN, lost=1)], True, Grade.OK, "every rate", None),
        ([replace(CLEAN, lost=3, never=1)], True, Grade.FAILED, "never came back", None),
        ([CLEAN, fast(921_600, reached=False)], True, Grade.FAILED, "rates failed", 115_200),
        ([CLEAN, fast(921_600)], True, Grade.OK, "every rate", 921_600),
    ],
)
def test_rates(
    done: list[line.Rate], emulated: bool, grade: Grade, says: str, best: int | None
) -> None:
    result = line.judge(done, emulated)
    assert result.grade is grade and says in result.what
    assert result.figures["best_clean_baud"] == best
    assert len(result.lines) == len(done)


def test_rates_to_try_include_a_boards_own_highest() -> None:
    assert line.rates(115_200, 115_200) == [115_200]
    assert line.rates(115_200, 500_000) == [115_200, 230_400, 460_800, 500_000]


@pytest.mark.parametrize(
    ("answers", "agreed"), [((False, False, True), True), ((False,) * 9, False)]
)
async def test_a_rate_is_agreed_on_anew_after_a_late_answer(
    answers: tuple[bool, ...], agreed: bool
) -> None:
    left = list(answers)

    class Late:
        async def raise_baud(self, baud: int, *, quiet: bool) -> bool:
            return left.pop(0)

    limits = bench().limits
    asked = cast(Any, SimpleNamespace(agent=Late(), limits=limits))
    assert await line._raised(asked, 921_600) is agreed
    assert len(answers) - len(left) == limits.line_tries == 3


def test_messages_have_the_stated_size_and_differ() -> None:
    limits = bench().limits
    texts = list(line.messages(limits))
    assert len(texts) == len(set(texts)) == limits.line_messages
    assert {len(text) for text in texts} == {limits.line_message_bytes}
    assert texts == list(line.messages(limits))


# -- disk, watchdog, slots -------------------------------------------------------------------------

FAST = DiskBench(False, 1, 0, 232 * MIB, 4 * MIB, 200_000, 4 * MIB, 400_000, 32, 96_000, 9_000)


def test_a_disk_in_figures() -> None:
    result = disk.judge(FAST, False)
    assert result.grade is Grade.OK and not result.means
    assert result.what == "reads 20.0 MiB/s, writes 10.0 MiB/s, a flush takes 3.0 ms"
    assert result.figures["flush_max_ms"] == 9.0


@pytest.mark.parametrize(
    ("change", "grade", "says"),
    [
        ({"write_us": 4_000_000}, Grade.OK, "slow"),
        ({"flush_max_us": 700_000}, Grade.OK, "slow"),
        ({"fault": errno.EIO}, Grade.FAILED, "sector"),
        ({"write_bytes": 0, "write_us": 0, "flushes": 0}, Grade.OK, ""),
    ],
)
def test_a_disk_that_is_not_well(change: dict[str, int], grade: Grade, says: str) -> None:
    result = disk.judge(replace(FAST, **change), False)
    assert result.grade is grade and says in result.means


def test_an_emulators_disk_is_not_taken_for_a_card() -> None:
    assert "not a card's" in disk.judge(FAST, True).means


def test_a_watchdog_that_bites_too_early_is_told() -> None:
    assert watchdog.judge("dog", 10, 9.0, 25.0).grade is Grade.OK
    assert watchdog.judge("dog", 10, 1.0, 15.0).grade is Grade.FAILED


WHOLE = SlotInfo("whole", True, 0, 1000, b"h", b"s", "0.1.0", "", "rpi4")
BOTH = Slots(
    running=0,
    target=1,
    state=BootState(0, False, 0, 1, 7),
    slots=(WHOLE, WHOLE),
    slot_bytes=MIB,
    block_bytes=4096,
    key=b"",
    public_key=b"",
    on_trial=False,
    watchdog=False,
    baud_max=115_200,
    board="rpi4",
    update=None,
)


@pytest.mark.parametrize(
    ("change", "grade", "says"),
    [
        ({"running": None}, Grade.SKIPPED, "rescue"),
        ({"state": BootState(1, True, 1, 0, 8)}, Grade.SKIPPED, "trial"),
        ({"on_trial": True}, Grade.SKIPPED, "trial"),
        ({"state": BootState(1, False, 0, 0, 8)}, Grade.FAILED, "runs slot A, but is to boot B"),
        ({"slots": (WHOLE, replace(WHOLE, state="empty"))}, Grade.SKIPPED, "slot B is empty"),
        ({"slots": (WHOLE, replace(WHOLE, state="partial"))}, Grade.SKIPPED, "slot B is partial"),
    ],
)
def test_when_the_other_slot_is_not_tried(change: dict[str, Any], grade: Grade, says: str) -> None:
    assert slots.why_not(BOTH) is None
    result = slots.why_not(replace(BOTH, **change))
    assert result is not None and result.grade is grade and says in result.what


# -- the engine ------------------------------------------------------------------------------------

PATTERN = Workload("pattern", "for tests", 8, 1, True, Synthetic(12_288, 950, 0, 0, 1000))
TRUTH = engine.truth(PATTERN, 4096, 8)
MERGED = {"pages_shared": TRUTH.shared, "pages_sharing": TRUTH.sharing}


def test_the_truth_of_a_pattern_is_counted_as_the_agent_counts() -> None:
    """firmware/agent/synthetic.c: whole pages, a share of them rounded down."""
    assert engine.Truth(2918, 2918 * 7) == TRUTH
    assert engine.truth(PATTERN, 16384, 2) == engine.Truth(729, 729)


@pytest.mark.parametrize(
    ("merged", "after", "status", "grade", "says"),
    [
        (MERGED, {}, 0, Grade.OK, "merged and unmerged"),
        ({**MERGED, "pages_sharing": TRUTH.sharing - 1}, {}, 0, Grade.FAILED, "not 20,426"),
        (
            {"pages_shared": TRUTH.shared + 1, "pages_sharing": TRUTH.sharing + 7},
            *({}, 0, Grade.OK, "merged and unmerged"),
        ),
        ({**MERGED, "pages_shared": TRUTH.shared + 9}, {}, 0, Grade.FAILED, "not 20,426"),
        ({**MERGED, "pages_sharing": TRUTH.sharing + 57}, {}, 0, Grade.FAILED, "not 20,426"),
        (MERGED, {"pages_shared": 1}, 0, Grade.FAILED, "1 pages stay merged"),
        (MERGED, {}, engine.CORRUPT, Grade.FAILED, "did not find in its memory"),
    ],
)
def test_counts_against_the_truth(
    merged: dict[str, int], after: dict[str, int], status: int, grade: Grade, says: str
) -> None:
    result = engine.judge(TRUTH, merged, after, status)
    assert result.grade is grade and says in result.what


def test_what_a_page_costs() -> None:
    begin = cost.Look(1_000, 3, 100, 0)
    assert cost.page_ns(begin, cost.Look(25_000, 3, 148, 0)) == 2000.0
    assert cost.page_ns(begin, cost.Look(1_000, 3, 148, 0)) is None
    assert cost.page_ns(begin, cost.Look(25_000, 3, 104, 0)) is None, "4 ms are no figure"
    assert cost.merge_ns(begin, cost.Look(60_000, 6, 300, 20_000), 20_000) == 10_000.0
    assert cost.judge(None, None, None).grade is Grade.SKIPPED
    assert "2.00 us at first sight" in cost.judge(2000.0, None, 10_000.0).what


# -- the page --------------------------------------------------------------------------------------


def report(*results: Any, left: tuple[str, ...] = ()) -> Report:
    taken = tuple(
        Taken(step, result, 1.5, left if at == 0 else ())
        for at, (step, result) in enumerate(zip(STEPS, results, strict=False))
    )
    return Report("/dev/ttyUSB0", "rpi4", 0.0, taken, ("    0.100 U-Boot 2025.01",))


ALL = report(
    ok("up", figures={"a_s": 1.0}, lines=["  0.10 s  U-Boot"], means="good", todo="nothing"),
    failed("too little memory", means="it is hidden", todo="look"),
    impossible("no such thing"),
    skipped("not asked for"),
)


def test_the_page_says_it_all() -> None:
    text = page.as_text(ALL)
    assert text.splitlines()[0].startswith("Bring-up of rpi4, /dev/ttyUSB0, ")
    for words in ("ok          boot stages: up", "FAILED      identity and memory: too little"):
        assert words in text
    for words in ("means: it is hidden", "do: look", "1 ok, 1 failed, 1 not possible here"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110
    assert "\x1b" not in text and "\x1b[31mFAILED" in page.as_text(ALL, color=True)


def test_the_page_as_json_is_whole() -> None:
    told = json.loads(json.dumps(page.as_json(ALL)))
    assert [step["grade"] for step in told["steps"]] == [
        "ok",
        "failed",
        "not possible here",
        "skipped",
    ]
    assert told["passed"] is False and told["boot_log"] == ["    0.100 U-Boot 2025.01"]
    assert told["steps"][0]["figures"] == {"a_s": 1.0}


def test_exit_codes() -> None:
    assert ALL.code is ExitCode.STEP_FAILED
    assert report(ok("up"), skipped("no"), impossible("no")).code is ExitCode.OK
    assert report(ok("up"), left=("the knobs: no answer",)).code is ExitCode.STEP_FAILED
    assert replace(ALL, answered=False).code is ExitCode.NO_ANSWER


def test_what_is_left_behind_is_a_failure_and_said() -> None:
    text = page.as_text(report(ok("up"), left=("the knobs: no answer",)))
    assert "FAILED      boot stages: up" in text
    assert "not put back: the knobs: no answer" in text and "not as it was before" in text


def test_only_some_steps() -> None:
    assert unwanted(None) == ()
    assert unwanted(" line , disk ") == tuple(n for n in NAMES if n not in ("line", "disk"))
    with pytest.raises(KsmhostError) as wrong:
        unwanted("line,dsik")
    assert wrong.value.code is ExitCode.USAGE and "dsik" in str(wrong.value)
