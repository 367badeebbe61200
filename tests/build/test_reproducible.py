# SPDX-License-Identifier: Apache-2.0
"""Two clean builds of one revision give the same bytes, wherever they are made."""

from __future__ import annotations

from build_clones import CloneInto


def test_place_and_cache_leave_no_trace(clone: CloneInto) -> None:
    """One build from nothing, and one in a longer path with what ccache holds from other places."""
    here, there = clone("one"), clone("another/with-a-longer-name")
    here.scons(ccache=False)
    there.scons()
    assert here.manifest() == there.manifest()
