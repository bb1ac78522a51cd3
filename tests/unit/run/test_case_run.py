"""One case from engine to outputs: what is asked of the engine, and of the compiler."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness import matrix
from harness.backends.base import BuildSpec, Device, Health
from harness.backends.registry import BackendOptions
from harness.errors import DeviceError
from harness.judge.verdict import Verdict
from harness.run.case_run import CaseRun
from harness.run.engine import Built, Variant
from harness.vocabulary import Outcome
from tests.conformance import test_numerics as numerics

FP32 = next(case for case in matrix.cases() if str(case).endswith("cpu-fp32-bs1"))
LOST = DeviceError("npu-smi did not answer", hint="see its tools")
COUNTED = SimpleNamespace(witnesses=lambda model, protocol, count: {"y": np.arange(count)})
CASE_310P = next(case for case in matrix.cases() if case.chip == "ascend310p")


@pytest.mark.parametrize("batch", sorted({case.batch for case in matrix.cases()} - {1}))
def test_a_part_of_a_batch_is_no_copy_of_another(batch):
    """Else a chip that computes a half and copies it would equal the reference."""
    case_run = CaseRun(SimpleNamespace(references=COUNTED, dataset=lambda model: range(99)), replace(FP32, batch=batch))
    vars(case_run).update(first={"y": np.zeros(batch)}, worker=None)

    rows = case_run.outputs()[1]["y"]

    assert len(rows) == batch
    for shift in (2**n for n in range(batch.bit_length()) if 2**n < batch):
        assert (rows[shift:] != rows[:-shift]).all()


@pytest.mark.parametrize(
    ("test", "metric", "raw", "compiled"),
    [
        (
            numerics.test_normalising_on_the_chip_changes_nothing,
            "normalised by host",
            False,
            "one for batches 1, 4, from",
        ),
        (numerics.test_a_static_engine_from_onnx_computes_the_same, "static", True, "static, from ONNX"),
        (numerics.test_one_engine_serves_every_batch, "dynamic", True, "one for batches 1, 4, 8, from TorchScript"),
    ],
)
def test_a_record_of_another_engine_than_the_published_one_says_which(monkeypatch, test, metric, raw, compiled):
    monkeypatch.setattr(numerics, "judged", lambda *_: Verdict(Outcome.PASS, "right"))
    published = Variant(raw=True, tiers=(1, 4), traced=True)
    case_run = SimpleNamespace(
        variant=published, dynamic=replace(published, tiers=(1, 4, 8)), loss=None, served=lambda: {1: (), 4: (), 8: ()},
        outputs=lambda variant: (), chip=SimpleNamespace(normalizes=True), protocol=SimpleNamespace(normalize=True),
        engine=SimpleNamespace(tiers=(1, 4, 8)), case=SimpleNamespace(batch=8 if metric == "dynamic" else 1),
    )  # fmt: skip
    taken = []

    test(case_run, lambda measure: taken.append(measure(case_run)))

    (made,) = taken
    assert list(made.verdicts) == [metric]
    assert made.facts["normalized_by_chip"] is raw
    assert made.facts["compiled"].startswith(compiled)


def test_one_engine_is_loaded_at_every_batch_with_the_first_rows(monkeypatch):
    case = next(case for case in matrix.cases() if case.chip == "mlu370_s4" and case.batch == 8)
    loaded = []

    @contextmanager
    def load(path, device, spec):
        loaded.append((path, spec.batch))
        yield SimpleNamespace(run=lambda given, finite: {"y": given["x"] * 2})

    built = Built(Path("engine"), BuildSpec("fp16", 8, (), ()))
    rows = np.arange(8)
    monkeypatch.setattr(CaseRun, "built", lambda self, variant: asked.append(variant.tiers) or built)
    monkeypatch.setattr(CaseRun, "inputs", lambda self, raw=False: {"x": rows})
    asked = []
    settings = SimpleNamespace(runner=None, backend_options=BackendOptions())
    case_run = CaseRun(SimpleNamespace(references=COUNTED, dataset=lambda model: range(99), settings=settings), case)
    vars(case_run)["worker"] = SimpleNamespace(load=load)
    case_run.context.settings = SimpleNamespace(process=0)
    vars(case_run.engine)["present"] = SimpleNamespace(backend="magicmind", devices=[Device(0, "MLU370-S4")])

    found = case_run.served()

    assert asked == [(1, 4, 8)] == [case_run.dynamic.tiers]
    assert loaded == [(Path("engine"), batch) for batch in (1, 4, 8)]
    for batch, (chip, reference) in found.items():
        assert chip["y"].tolist() == (2 * rows[:batch]).tolist()
        assert reference["y"].tolist() == [row % 5 for row in range(batch)]


@pytest.mark.parametrize(("made_of", "seconds"), [({}, 2.0), ({"quantised": "/cache/quantised"}, 3.0)])
@pytest.mark.parametrize(("held", "told"), [(511.96, {"device_peak_mb": 512.0}), (None, {}), (LOST, {})])
def test_memory_of_the_device_is_a_cost_and_a_tool_that_fails_costs_no_verdict(
    monkeypatch, held, told, made_of, seconds
):
    def health(device):
        if held is LOST:
            raise LOST
        return Health(own_mb=held)

    took = {"engine": 2.0, "quantised": 1.0}
    store = SimpleNamespace(told=lambda path: {"bytes": 2_000_000, "seconds": took[path.name]})
    case_run = CaseRun(SimpleNamespace(settings=SimpleNamespace(store=store, process=0)), FP32)
    monkeypatch.setattr(
        CaseRun, "built", lambda self: Built(Path("engine"), BuildSpec("int8", 1, (), (), options=made_of))
    )
    vars(case_run.engine)["present"] = SimpleNamespace(devices=[Device(0, "CPU")])
    vars(case_run).update(worker=SimpleNamespace(health=health, peak_mb=100.0), session=SimpleNamespace(on_chip=None))

    assert case_run.costs == {"build_s": seconds, "engine_mb": 2.0, "worker_peak_mb": 100.0, **told}


@pytest.mark.parametrize(
    ("backend", "asked", "told"),
    [
        ("acl", True, {"tuned": "aoe, subgraphs, then operators"}),
        ("ort_cann", True, {"tuned": "no: ort_cann has no tuning for this device"}),
        ("acl", False, {}),
    ],
)
def test_a_record_says_how_its_engine_was_tuned_when_it_was_asked(backend, asked, told):
    case_run = CaseRun(SimpleNamespace(settings=SimpleNamespace(process=0, tune=asked)), CASE_310P)
    vars(case_run.engine)["present"] = SimpleNamespace(backend=backend, devices=[Device(0, "310P3")])

    assert case_run._tuned == told
