# SPDX-License-Identifier: Apache-2.0
"""The engine compiles, without a warning, in every kind of kernel it may meet."""

from __future__ import annotations

import pytest
from kernel_make import Configuration, compile_engine, problem_of_tree

pytestmark = [pytest.mark.long, pytest.mark.timeout(2000)]

FEATURES: dict[str, dict[str, str]] = {
    "sysfs": {"SYSFS": "y"},
    "numa": {"NUMA": "y"},
    "swap": {"SWAP": "y"},
    "migration": {"COMPACTION": "y", "MIGRATION": "y"},
    "hotremove": {"MEMORY_HOTPLUG": "y", "MEMORY_HOTREMOVE": "y"},
    "thp": {"TRANSPARENT_HUGEPAGE": "y"},
    "memory-failure": {"MEMORY_FAILURE": "y"},
    "memcg": {"CGROUPS": "y", "MEMCG": "y"},
    "uffd": {"USERFAULTFD": "y"},
    "procfs": {"PROC_FS": "y"},
}
"""What a kernel may have or lack, and the options that say so."""

NEEDS = {"hotremove": ("migration", "sysfs"), "thp": ("migration",)}
"""Features that cannot be had without others."""

EXPERT = {"EXPERT": "y", "DEBUG_KERNEL": "y"}

ARM32: dict[str, str] = {
    "64BIT": "n", "MMU": "y", "ARCH_MULTIPLATFORM": "y", "ARCH_MULTI_V7": "y", "ARCH_VIRT": "y",
    "HIGHMEM": "y", "SMP": "y", "SWAP": "y", "COMPACTION": "y", "MIGRATION": "y",
}  # fmt: skip


def with_features(names: set[str]) -> dict[str, str]:
    """Options for exactly these features, and what they need."""
    names = names | {need for name in names for need in NEEDS.get(name, ())}
    options = dict(EXPERT)
    for name, its_options in FEATURES.items():
        options |= {key: value if name in names else "n" for key, value in its_options.items()}
    return options


def without(name: str) -> set[str]:
    """All features but this one and those that need it."""
    return {other for other in FEATURES if other != name and name not in NEEDS.get(other, ())}


CONFIGURATIONS = [
    Configuration("none", "arm64", with_features(set())),
    Configuration("all", "arm64", with_features(set(FEATURES))),
    *(Configuration(f"only-{name}", "arm64", with_features({name})) for name in FEATURES),
    *(Configuration(f"without-{name}", "arm64", with_features(without(name))) for name in FEATURES),
    Configuration("up", "arm64", {**EXPERT, "PREEMPT": "y"}),
    Configuration("arm-highmem", "arm", {**EXPERT, **ARM32}),
    Configuration("arm-lpae-thp", "arm", {**EXPERT, **ARM32, "ARM_LPAE": "y",
                                          "TRANSPARENT_HUGEPAGE": "y"}),
]  # fmt: skip


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
def test_compiles(engine: str, configuration: Configuration) -> None:
    """No warning, no error."""
    assert not problem_of_tree(), problem_of_tree()
    assert compile_engine(configuration, engine, "KCFLAGS=-Werror") == ""
