"""How much of the machine others use, against readings worked out by hand."""

import os
import time

import pytest
from made_loads import loads

from harness.run import other_load
from harness.run.other_load import Load, others_rest, others_share


def test_the_share_of_others_is_all_work_less_our_own():
    one, two = loads(0.25)

    assert others_share(one, two) == pytest.approx(0.25)
    assert others_share(Load(1, 0, 0, 2), Load(2, 1.5, 1, 2)) == 0.0
    assert others_share(None, two) == others_share(one, None) == 0.0


def test_waiting_for_others_ends():
    assert others_rest(lambda: None, end=0.0) is False


def stat(name, ticks, parent):
    return f"7 ({name}) S {parent} 1 1 0 -1 4194304 1 0 0 0 {ticks} {ticks} 5 5 20 0 1 0 1 1 1"


def test_load_is_read_as_linux_tells_it(tmp_path):
    """proc(5): user, nice, system, idle, iowait, irq, softirq, steal, in ticks; of a process utime and stime are fields
    14 and 15, behind a name that may hold blanks and brackets."""
    tick, cores = os.sysconf("SC_CLK_TCK"), sorted(os.sched_getaffinity(0))
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\n"
        + "".join(f"cpu{core} 10 20 30 9999 9999 40 50 60 70 80\n" for core in cores)
        + "cpu4095 1000 0 0 0 0 0 0 0 0 0\nintr 5\n"
    )
    rows = {os.getpid(): ("a b) c", 3, 1), 700001: ("child", 5, os.getpid()), 700002: ("grandchild", 7, 700001),
            700003: ("another", 1000, 1)}  # fmt: skip
    for number, row in rows.items():
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(stat(*row))
    (tmp_path / "700004").mkdir()  # it has just ended

    found = Load.now(tmp_path)

    assert found.busy == pytest.approx(len(cores) * 210 / tick)
    assert found.own == pytest.approx(2 * (3 + 5 + 7) / tick)
    assert found.cores == len(cores)
    assert Load.now(tmp_path / "nowhere") is None


def test_our_own_work_is_no_load():
    before, end = Load.now(), time.process_time() + 0.1  # of this process: however little of a core it gets
    while time.process_time() < end:
        sum(range(1000))
    after = Load.now()

    assert after.own - before.own >= 0.05, "this process is counted"
    assert after.busy >= before.busy


def test_throttling_for_heat_is_counted_where_the_kernel_counts_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2})
    assert other_load.throttles(tmp_path) is None
    for core, counts in ((0, ("3", "5")), (1, ("100", "100")), (2, ("4", None))):
        folder = tmp_path / f"cpu{core}" / "thermal_throttle"
        folder.mkdir(parents=True)
        for what, count in zip(("core", "package"), counts, strict=True):
            if count is not None:
                (folder / f"{what}_throttle_count").write_text(f"{count}\n")

    assert other_load.throttles(tmp_path) == 12
