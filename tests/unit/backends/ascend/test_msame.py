"""msame: how many executes it runs at once, and what is read of its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ascend_tiny import DEVICE, cann, compiled, images
from ascend_told import told

from harness.backends.ascend import msame
from harness.errors import DataError


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        yield sdk
        assert sdk.wrongs() == []


def test_msame_runs_no_more_than_its_limit_at_once(sdk, folder, tmp_path):
    known = told()
    _, engine = compiled(folder, "cli", known)
    sdk.switch(slow=0.01, trace=True)

    with msame.load(engine, DEVICE, known) as session:
        session.write({"image": images()})
        session.execute(150)

    calls = [json.loads(line) for line in Path(sdk._ledger).read_text().splitlines()]
    executes = [line["occurrence"] for line in calls if line.get("call") == "acl.mdl.execute"]
    assert len(executes) == 100 + 50 + 2, "and one of the simulator's own in each process"
    assert max(executes) == 100 + 1


MSAME = """[INFO] acl init success
Inference time: 4.1ms
Inference time: 4.0ms
Inference time: 4.2ms
Inference average time: 4.100000 ms
Inference average time without first time: 4.100000 ms
[INFO] pid: 7 Execute sample success
"""


def test_a_report_that_does_not_hang_together_is_refused():
    assert msame.times_ms(MSAME, Path(), 4) == [4.0, 4.2], "the first is cold"
    with pytest.raises(DataError):
        msame.times_ms(MSAME.replace("4.0ms", "9.0ms"), Path(), 4)
    with pytest.raises(DataError):
        msame.times_ms(MSAME.split("Inference average")[0], Path(), 4)


def test_a_slow_first_run_is_left_out_of_the_times():
    slow = MSAME.replace("4.1ms", "90.0ms").replace("average time: 4.100000", "average time: 32.733333")
    assert slow.count("4.100000") == 1

    assert msame.times_ms(slow, Path(), 4) == [4.0, 4.2]


def test_success_is_a_word_and_not_a_status():
    assert msame.failure(MSAME) is None
    assert "did not print" in msame.failure(MSAME.rsplit("[INFO]", 1)[0])
    assert "[ERROR] x" in msame.failure("[ERROR] x\n" + MSAME)
