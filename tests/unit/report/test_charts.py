"""Charts put every figure where its axis says."""

import re

import pytest
from made_runs import timed

from harness.case import Case
from harness.report import charts
from harness.report.messages import translation
from harness.report.records import Record

CASE = Case.parse("regnety_016-ascend310p-fp16-bs16")


def test_a_target_line_stands_where_its_value_is():
    """Of a chart from 0 to 1000 images a second, a target of 500 is in the middle."""
    target = Record(CASE, "targets", "PASS", "x", "t4", {"other": 250.0, "bound": 2.0, "measured": 1000.0})
    ((_, ((_, chart),)),) = charts.throughput([timed(CASE, 1000.0, half=0.0), target], translation("en"))
    grid = [float(y) for y in re.findall(r'class="g" d="M\S+ ([\d.]+)H', chart)]
    (line,) = (float(y) for y in re.findall(r'class="target" d="M\S+ ([\d.]+)H', chart))

    assert line == pytest.approx((grid[0] + grid[-1]) / 2, abs=0.2)
