"""The cases are the product of the tables, and hold every published one."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from harness import baselines, matrix
from harness.backends import registry
from harness.case import Case, Precision
from harness.chips import CHIPS, Chip
from harness.errors import UsageError
from harness.models import MODELS
from harness.vocabulary import METRICS


def test_every_published_cell_has_its_case_in_the_matrix():
    published, cases = baselines.load().cases(), set(matrix.cases())

    timed = [c for c in baselines.load().cells if c.metric == "throughput" and c.chosen and c.batch is not None]
    assert timed
    assert published >= {Case(c.model, c.chip, c.precision, c.batch) for c in timed}
    assert published <= cases, f"not collected: {sorted(map(str, published - cases))}"


def test_models_of_the_baselines_are_the_models_of_the_suite():
    assert {cell.model for cell in baselines.load().cells} == set(MODELS)


def test_every_metric_of_a_model_and_of_the_baselines_is_in_the_table():
    used = {name for model in MODELS.values() for name in model.metrics}
    published = {cell.metric for cell in baselines.load().cells}

    assert used | published == set(METRICS)


def test_cases_are_unique_and_batches_of_a_lineup_stand_together():
    cases = matrix.cases()
    lineups = [(c.chip, c.model, c.precision) for c in cases]

    assert len(set(cases)) == len(cases)
    assert len(matrix.lineups()) == len(set(lineups))
    changes = sum(a != b for a, b in pairwise(lineups))
    assert changes == len(set(lineups)) - 1


def test_batches_are_those_of_the_chip_fewer_below_fp32_and_of_heavy_models():
    chip = replace(CHIPS["cpu"], batches=(1, 4, 8), reduced_batches=(2, 4), heavy_batches=(1, 2))
    light = replace(MODELS["regnety_016"], heavy=False, batches=None)

    assert matrix.batches(light, chip, Precision.FP32) == (1, 4, 8)
    assert matrix.batches(light, chip, Precision.INT8) == (2, 4)
    assert matrix.batches(light, replace(chip, reduced_batches=None), Precision.INT8) == (1, 4, 8)
    assert matrix.batches(replace(light, heavy=True), chip, Precision.FP32) == (1, 2)
    assert matrix.batches(replace(light, batches=(8, 1, 16)), chip, Precision.FP32) == (1, 8)


def test_a_model_without_batches_runs_at_batch_one_only():
    assert {case.batch for case in matrix.cases() if case.model == "gfocalv2_r50_fpn"} == {1}


class Point:
    value = "somewhere:row"

    def __init__(self, row):
        self.row = row

    def load(self):
        return self.row


def with_plugin(monkeypatch, row):
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point(row)] if group == "chipproof.chips" else [])
    matrix.chips.cache_clear()
    monkeypatch.setattr(matrix.chips, "cache_clear", matrix.chips.cache_clear)


@pytest.fixture(autouse=True)
def fresh_tables():
    yield
    matrix.chips.cache_clear()


def test_an_installed_package_adds_a_chip(monkeypatch):
    with_plugin(monkeypatch, Chip("tpu9", "TPU 9", ("their.backend",), "TPU", "tpu", (Precision.FP16,), (1,)))

    assert Case("regnety_016", "tpu9", Precision.FP16, 1) in matrix.cases()


def test_a_chip_whose_backend_there_is_not_is_refused_before_anything_runs(monkeypatch):
    with_plugin(monkeypatch, Chip("tpu9", "TPU 9", ("aclx",), "TPU", "tpu", (Precision.FP16,), (1,)))

    with pytest.raises(UsageError, match="chip 'tpu9': there is no backend aclx"):
        matrix.chips()


@pytest.mark.parametrize("row", ["baselines", Path("/no/such/folder")])
def test_published_figures_that_are_no_folder_are_refused(monkeypatch, row):
    monkeypatch.setattr(matrix, "entry_points", lambda group: [Point(row)])

    with pytest.raises(UsageError, match=r"entry point somewhere:row of chipproof\.baselines is"):
        matrix.figures.__wrapped__()


@pytest.mark.parametrize("row", [CHIPS["cpu"], "cpu"], ids=["a name that exists", "not a chip"])
def test_a_wrong_row_of_a_package_is_refused(monkeypatch, row):
    with_plugin(monkeypatch, row)

    with pytest.raises(UsageError, match="entry point somewhere:row"):
        matrix.chips()


def test_of_heavy_models_a_cpu_is_asked_what_tells_a_broken_runtime_from_a_sound_one():
    """There ONNX Runtime and eager PyTorch are alike: a floor where two sound programs meet decides nothing."""
    asked = {(case.chip, case.model): matrix.least_of_eager(case) for case in matrix.cases()}
    heavy = {name for name, model in MODELS.items() if model.heavy}

    assert heavy == {"retinaface_resnet50", "gfocalv2_r50_fpn"}
    for name in MODELS:
        assert asked["cpu", name] == (0.7 if name in heavy else 1.0)
        assert asked["intel_cpu", name] == 1.0
        assert asked["t4", name] is None
    assert matrix.least_of_eager(Case("my_net", "cpu", Precision.FP32, 1)) == 1.0
