# SPDX-License-Identifier: Apache-2.0
"""My services on this board: what merging has to save, and what it may cost. Copy and adapt.

pytest examples --ksm-board qemu-virt --emulate              in the emulator
pytest examples --ksm-board rpi4 --port /dev/ttyUSB0         on the real board
pytest examples --ksm-board qemu-virt --emulate --junit-xml report.xml
"""

import pytest

SERVICE = "micropython-gateway"
FAST = {"pages_to_scan": 1000, "sleep_millisecs": 20, "run": 1}


@pytest.mark.ksm_needs(workload=SERVICE)
def test_my_services_save_enough_for_what_it_costs(ksm, workload, sampling):
    workload.start(SERVICE)
    ksm.set(**FAST)
    with sampling(period_ms=200) as taken:
        taken.until_settled(within_s=600)
    assert taken.figures.saved_mib >= 5
    assert taken.figures.ksmd_cpu_percent <= 60  # while it merges; see the next test for later
    assert workload.status(SERVICE).running > 0, "merging must not hurt who is merged"


@pytest.mark.ksm_needs(workload=SERVICE)
def test_it_costs_little_once_it_has_settled(ksm, workload, sampling):
    workload.start(SERVICE)
    ksm.set(**FAST)
    with sampling(period_ms=200) as first:
        first.until_settled(within_s=600)
    ksm.set(pages_to_scan=100)
    with sampling(period_ms=200) as later:
        later.run_for(15)
    assert later.figures.ksmd_cpu_percent <= 10
    assert later.figures.saved_mib >= 0.8 * first.figures.saved_mib


@pytest.mark.ksm_needs(workload="synthetic-mixed", counters="pages_sharing")
def test_writes_stay_quick_after_merging(board, ksm, workload, sampling):
    """Pages that are written again have to be copied first: a fault for whoever writes.

    An emulator's clock is its host's: in it only what is grossly slow shows.
    """
    workload.start("synthetic-mixed")
    ksm.set(**FAST)
    with sampling(period_ms=200) as taken:
        taken.run_for(20)
    if taken.figures.write_p99_us is None:
        pytest.skip("this board's agent does not time writes")
    assert taken.figures.write_p99_us <= (20_000 if board.emulated else 1000)


def test_unmerging_gives_everything_back(ksm, workload, sampling):
    workload.start("synthetic-mixed")
    ksm.set(**FAST)
    with sampling(period_ms=200) as taken:
        taken.until_settled(within_s=600)
    ksm.set(run=2)
    assert ksm.counters["pages_sharing"] == 0
