"""`--simulate`, from the options to the summary: a tiny model on a simulated SDK of each kind.

Whether the loop keeps the simulator's pace is not asked here, for this machine may be busy: only that it is said."""

import json
import re
from dataclasses import replace
from functools import partial

import pytest

from harness import matrix
from harness.chips import CHIPS
from harness.run import leases
from harness.vocabulary import STAGE_MARKERS
from tests.faults import tiny


@pytest.fixture
def simulated(conform, monkeypatch, tmp_path):
    """Run the conformance tests of the tiny detector on a simulated chip, which is no other test's."""
    monkeypatch.setattr(leases, "lease", partial(leases.lease, root=tmp_path))

    def run(chip, marks, *more, **switches):
        monkeypatch.setattr(matrix, "CHIPS", {chip: replace(CHIPS[chip], batches=(1, 4))})
        monkeypatch.setenv("CHIPPROOF_SIM", json.dumps(switches))
        return conform(f"{chip} and tiny_objects and fp16 and {marks}", more=("--simulate", *more))

    return run


@pytest.mark.parametrize("chip", ["ascend310", "mlu370_x4", "cuda"])
def test_a_simulated_chip_runs_every_stage_and_every_record_says_that_it_is_none(chip, simulated, capsys):
    watch = simulated(chip, "(bs1 or bs4)")

    case = f"tiny_objects-{chip}-fp16-bs4"
    assert watch.seen[f"{case} export"] == watch.seen[f"{case} numerics"] == "PASS", "\n".join(watch.texts)
    assert watch.seen[f"{case} accuracy"] in ("PASS", "INCONCLUSIVE"), "\n".join(watch.texts)
    assert watch.records
    for record in watch.records:
        assert "simulated" in record.marks, f"{record} does not say that it is simulated"
        if record.stage == "throughput":
            assert "SIMULATED, no verdict" in record.text, f"a verdict on a simulated speed: {record}"
            pace, own = (float(ms) for ms in re.findall(r"([\d.]+) ms", record.text))
            assert record.outcome == ("FAIL" if pace < 0.98 * own else "INCONCLUSIVE"), record.text
    assert {record.stage for record in watch.records} == set(STAGE_MARKERS)
    assert "marks: SIMULATED" in capsys.readouterr().out


def test_a_test_that_is_taken_over_ends_as_it_did(simulated, tmp_path):
    """A simulated throughput is undecided and passes."""
    first, second = (
        simulated("cuda", "bs1 and (throughput or numerics)", f"--results={tmp_path / 'results'}", *more)
        for more in ((), ("--resume=latest",))
    )

    assert all("taken_over" in record.facts for record in second.records)
    assert second.seen == first.seen


@pytest.mark.parametrize(
    ("chip", "switches", "stage", "said"),
    [
        ("ascend310p", {"drop_rows": True}, "numerics", "FAIL"),
        ("ascend310p", {"swap_outputs": True}, "numerics", "FAIL"),
        ("ascend310p", {"busy": 0.9}, "throughput", "INVALID"),
        ("ascend310p", {"fail": [["acl.mdl.execute_async", 0, 507011]]}, "throughput", "ERROR"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_the_simulated_chip_does_wrong_is_red_at_its_stage(simulated, chip, switches, stage, said):
    watch = simulated(chip, f"bs4 and {stage}", **switches)

    assert watch.seen[f"tiny_objects-{chip}-fp16-bs4 {stage}"] == said, "\n".join(watch.texts)


@pytest.mark.parametrize(
    ("every", "stage", "said", "text"),
    [
        (1, "throughput", "INVALID", "device 2 of the 4 devices measured computes wrong outputs"),
        (5, "throughput", "INVALID", "device 2 gives other outputs for .* than the other 3 devices"),
        (5, "accuracy", "FAIL", "device 2 gives other outputs for .* than the other 3 devices"),
    ],
)
def test_one_damaged_device_of_a_card_is_found_and_named(simulated, every, stage, said, text):
    watch = simulated("ascend310", f"bs1 and {stage}", bad_device=[2, every])

    assert watch.seen[f"tiny_objects-ascend310-fp16-bs1 {stage}"] == said, "\n".join(watch.texts)
    assert re.search(text, "\n".join(watch.texts))


def test_a_runtime_that_works_on_another_device_than_the_one_asked_for_is_named(simulated, tmp_path):
    switches = {"machine": str(tmp_path / "machine"), "npu_smi_layout": "new"}
    right = simulated("ascend310", "bs1 and throughput", **switches)
    wrong = simulated("ascend310", "bs1 and throughput", takes=0, **switches)

    assert right.seen["tiny_objects-ascend310-fp16-bs1 throughput"] in ("PASS", "INCONCLUSIVE", "FAIL")
    assert wrong.seen["tiny_objects-ascend310-fp16-bs1 throughput"] == "INVALID", "\n".join(wrong.texts)
    assert "310 1 shows no process of this run, and others" in "\n".join(wrong.texts)


@pytest.fixture
def anew(present):
    """Chips are looked for again, here and in the tests that follow."""
    present.clear()
    yield
    present.clear()


def test_a_card_that_stands_idle_while_the_first_one_works_for_it_is_named(anew, simulated, tmp_path):
    switches = {"machine": str(tmp_path / "machine"), "npu_smi_layout": "new", "devices": 2}
    right = simulated("ascend310p", "bs1 and throughput", "--device=1", **switches)
    wrong = simulated("ascend310p", "bs1 and throughput", "--device=1", takes=0, **switches)

    assert right.seen["tiny_objects-ascend310p-fp16-bs1 throughput"] in ("PASS", "INCONCLUSIVE", "FAIL")
    assert wrong.seen["tiny_objects-ascend310p-fp16-bs1 throughput"] == "INVALID", "\n".join(wrong.texts)
    assert "310P3 1 shows no process of this run, and another that is not measured does" in "\n".join(wrong.texts)


def test_what_only_one_device_of_a_card_gives_names_it(simulated):
    watch = simulated("ascend310", "bs1 and accuracy", nan=3)

    assert "output boxes of device 3 has 1 values of 256 that are NaN" in "\n".join(watch.texts)


def test_a_host_that_is_slower_than_its_simulated_chip_is_told_and_is_no_fault_of_the_chip(simulated):
    watch = simulated("cuda", "bs4 and throughput", slow_host=0.1)

    (record,) = [record for record in watch.records if record.stage == "throughput"]
    assert record.outcome == "INCONCLUSIVE"
    assert "host-bound" in record.marks


def test_an_emulated_chip_is_judged_but_not_timed_and_every_record_says_so(conform, monkeypatch, tmp_path, capsys):
    """The vendor's own simulator of a chip; here the chip of the planted faults stands for it."""
    monkeypatch.setattr(leases, "lease", partial(leases.lease, root=tmp_path))
    monkeypatch.setattr(matrix, "CHIPS", {"emulatedbed": replace(tiny.CHIP, name="emulatedbed", emulated=True)})

    watch = conform("emulatedbed and tiny_classes and fp32 and bs4")

    case = "tiny_classes-emulatedbed-fp32-bs4"
    assert watch.seen[f"{case} numerics"] == watch.seen[f"{case} accuracy"] == "PASS", "\n".join(watch.texts)
    assert watch.seen[f"{case} published"] == "PASS", "\n".join(watch.texts)
    assert watch.seen[f"{case} throughput"] == "SKIP"
    assert {record.stage for record in watch.records} == {*STAGE_MARKERS, "published"}
    for record in watch.records:
        assert "emulated" in record.marks, f"{record} does not say that it is emulated"
        assert "measured" not in record.values or record.stage in ("accuracy", "published"), f"a speed: {record}"
    (timed,) = (record for record in watch.records if record.stage == "throughput")
    assert timed.outcome == "SKIP"
    assert "EMULATED" in timed.text
    assert "marks: EMULATED" in capsys.readouterr().out
