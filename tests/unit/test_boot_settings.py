# SPDX-License-Identifier: Apache-2.0
"""Settings applied at boot: what the build takes, and what the agent makes of any file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from agent_peer import AgentPeer, AgentSetup, make_ksm_dir, running_agent, wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksmhost.board.settings import (
    DEFAULTS,
    FILE_LIMIT_BYTES,
    ordered,
    parse_settings_file,
    render_settings,
)
from ksmhost.errors import ExitCode, KsmhostError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "site_scons"))

GOOD = """\
# SPDX-License-Identifier: Apache-2.0
# why: see the study

  pages_to_scan = 1200\t
smart_scan=0
run=1
"""


def knob(peer: AgentPeer, name: str) -> str:
    return (peer.ksm_dir / name).read_text().strip()


def test_what_is_written_is_read_back() -> None:
    chosen = {"run": "1", "sleep_millisecs": "40", "pages_to_scan": "1200"}
    text = render_settings(chosen.items(), ["made by hand"])
    assert "# made by hand\n" in text and text.endswith("run=1\n")
    assert dict(parse_settings_file(text, "ksm.conf")) == chosen


@given(
    st.dictionaries(
        st.sampled_from([name for name in DEFAULTS if name != "advisor_mode"]),
        st.integers(0, 10**9).map(str),
    )
)
def test_any_settings_come_back_with_run_last(chosen: dict[str, str]) -> None:
    found = parse_settings_file(render_settings(chosen.items()), "ksm.conf")
    assert dict(found) == chosen and found == ordered(chosen.items())
    assert "run" not in chosen or found[-1] == ("run", chosen["run"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pages_to_scan=100\nrun 1\n", "ksm.conf:2: 'run 1' is not of the form"),
        ("page_to_scan=100", "ksm.conf:1: there is no knob 'page_to_scan'"),
        ("run=1\n\nsmart_scan=1", "ksm.conf:3: smart_scan comes after run"),
        ("smart_scan=1\nsmart_scan=0", "ksm.conf:2: smart_scan is set twice"),
        ("smart_scan=", "ksm.conf:1"),
        ("smart_scan=\u00e4", "ksm.conf:1"),
        ("../run=1", "ksm.conf:1"),
        ("#" * (FILE_LIMIT_BYTES + 1), "more than 4096 bytes"),
    ],
)
def test_what_the_build_refuses_names_file_and_line(text: str, says: str) -> None:
    with pytest.raises(KsmhostError) as refused:
        parse_settings_file(text, "ksm.conf")
    assert says in refused.value.what and refused.value.code is ExitCode.USAGE


def started(folder: Path, content: bytes) -> AgentSetup:
    file = folder / "ksm.conf"
    file.write_bytes(content)
    return AgentSetup(options=("--settings", str(file)))


def test_the_agent_applies_them_before_it_serves(tmp_path: Path) -> None:
    with running_agent(tmp_path, started(tmp_path, GOOD.encode())) as peer:
        wait_until(lambda: "3 settings applied" in peer.error_text())
        assert (knob(peer, "pages_to_scan"), knob(peer, "smart_scan")) == ("1200", "0")
        assert knob(peer, "run") == "1" and knob(peer, "sleep_millisecs") == "20"


def test_a_bad_line_is_told_and_costs_no_other(tmp_path: Path) -> None:
    bad = (b"nosuch=1", b"../../x=1", b"full_scans=9", b"=1", b"run", b"smart_scan=", b"\xff\x02=1")
    content = b"\n".join((*bad, b"run=1"))
    with running_agent(tmp_path, started(tmp_path, content)) as peer:
        wait_until(lambda: "1 settings applied" in peer.error_text())
        told = peer.error_text()
        assert knob(peer, "run") == "1" and "not applied: Permission denied" in told
        assert all(f"ksm.conf:{line}: " in told for line in range(1, 8))
        assert "'nosuch=1' not applied: No such file" in told and "\x02" not in told


@pytest.mark.parametrize("content", [b"run=1\n" + b"#" * FILE_LIMIT_BYTES, None])
def test_a_file_that_is_too_long_or_absent_changes_nothing(
    tmp_path: Path, content: bytes | None
) -> None:
    setup = started(tmp_path, content or b"")
    if content is None:
        (tmp_path / "ksm.conf").unlink()
    with running_agent(tmp_path, setup) as peer:
        if content is not None:
            wait_until(lambda: "File too large; no settings applied" in peer.error_text())
        assert knob(peer, "run") == "0"


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=600))
def test_the_agent_starts_whatever_is_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Its sanitizers have nothing to say, which `running_agent` asserts."""
    folder = tmp_path_factory.mktemp("any")
    ksm_dir = make_ksm_dir(folder / "any-ksm")
    setup = started(folder, content)
    with running_agent(folder, AgentSetup(options=setup.options, ksm_dir=ksm_dir)) as peer:
        wait_until(lambda: "settings applied" in peer.error_text())


def test_the_image_carries_them(tmp_path: Path) -> None:
    from test_elf_initramfs import FILLER, IMAGE, base_packages

    from rootfs import Base, assemble

    for content in (GOOD.encode(), None):
        folder = tmp_path / ("with" if content else "without")
        base = Base(b"AGENT", IMAGE, None, content)
        data, _ = assemble(base_packages(folder), "arm64", base, [FILLER])  # type: ignore[arg-type]
        assert (b"etc/ksmhost/ksm.conf" in data) is (content is not None)
