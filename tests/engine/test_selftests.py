# SPDX-License-Identifier: Apache-2.0
"""The kernel's own selftests of KSM, as its source has them, on every engine."""

from __future__ import annotations

import pytest
from engine_board import HANG_S, Hardware, Kernel, Outcome, run_on

KSM_TESTS = [
    "-M -p 1",
    "-M -p 10",
    "-M -p 1000",
    "-M -p 10 -t 1",
    "-M -p 10 -a r",
    "-U",
    "-U -t 1",
    "-Z -p 10 -z 0",
    "-Z -p 10 -z 1",
    "-Z -p 1000 -z 1",
    "-C",
    "-C -t 1",
    "-P -s 1",
    "-P -s 100",
    "-P -s 32 -t 1",
    "-D -s 1",
    "-D -s 100",
]
KSM_TESTS_THP = ["-H -s 2", "-H -s 100"]

ROOMY = Hardware(memory_mib=1024)
"""The kernel switches huge pages off on machines with less than 512 MiB."""

NO_UFFD_ON_UML = "userfaultfd failed"


def tap_results(outcome: Outcome) -> tuple[list[str], list[str], list[str]]:
    """The lines of tests that passed, failed and were skipped, in the Test Anything Protocol."""
    results = [line for line in outcome.lines if line.startswith(("ok ", "not ok "))]
    skipped = [line for line in results if "# SKIP" in line]
    failed = [line for line in results if line.startswith("not ok ")]
    passed = [line for line in results if line not in skipped and line not in failed]
    return passed, failed, skipped


def planned(outcome: Outcome) -> int:
    """How many tests the program said it has."""
    (plan,) = outcome.matches(r"^1\.\.(\d+)$")
    return int(plan[1])


async def test_functional(kernel: Kernel) -> None:
    """ksm_functional_tests, whole. Only what the architecture lacks may be skipped."""
    outcome = await run_on(kernel, ["ksm_functional_tests"], deadline_s=HANG_S)
    assert not outcome.problem, outcome.text
    passed, failed, skipped = tap_results(outcome)
    assert not failed
    assert len(passed) + len(skipped) == planned(outcome)
    allowed = [NO_UFFD_ON_UML] if kernel.board == "uml" else []
    assert [line for line in skipped if not any(word in line for word in allowed)] == []


@pytest.mark.parametrize("options", [*KSM_TESTS, *KSM_TESTS_THP])
async def test_ksm_tests(kernel: Kernel, options: str) -> None:
    """ksm_tests with one set of options."""
    if options in KSM_TESTS_THP and kernel.board == "uml":
        pytest.skip("User-Mode Linux has no huge pages")
    command = ["ksm_tests", *options.split()]
    outcome = await run_on(kernel, command, deadline_s=HANG_S, hardware=ROOMY)
    assert not outcome.problem, outcome.text
    passed, failed, skipped = tap_results(outcome)
    assert (len(passed), failed, skipped) == (1, [], [])
