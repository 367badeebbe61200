# SPDX-License-Identifier: Apache-2.0
"""Change points are found where they are, and seldom where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from ksmhost.compare.history import Search, change_points


def test_a_step_and_two_steps() -> None:
    random = np.random.default_rng(1)
    step = np.concatenate([random.normal(100, 1, 20), random.normal(104, 1, 15)])
    assert [point.index for point in change_points(step.tolist())] == [20]
    there_and_back = np.concatenate([step, random.normal(100, 1, 20)])
    found = [point.index for point in change_points(there_and_back.tolist())]
    assert len(found) == 2
    assert found == pytest.approx([20, 35], abs=2)


def test_one_wild_run_is_no_change() -> None:
    values = [100.0 + i % 3 for i in range(20)]
    values[9] = 5000.0
    assert not change_points(values)
    assert not change_points([7.0] * 30) and not change_points([1.0, 9.0, 1.0])


def test_noise_has_no_changes() -> None:
    random = np.random.default_rng(2)
    search = Search(shuffles=199)
    found = sum(bool(change_points(random.normal(size=30).tolist(), search)) for _ in range(100))
    assert found <= 4
