"""A figure as it was printed, and as the number that is judged."""

from decimal import Decimal

import pytest

from harness.baselines.rows import Cell, ulp
from harness.case import Case, Precision
from harness.errors import InvalidMeasurement
from harness.vocabulary import ACCURACIES


def test_accuracies_are_fractions_and_keep_the_printed_digits(registry):
    hard = registry.source("retinaface_mobilenet025", "ap_hard")
    top5 = registry.source("regnety_016", "top5")

    assert hard.value == 0.7382
    assert str(top5.printed) == "93.720"
    assert top5.lowest == 0.937195
    assert registry.best("gfocalv2_r50_fpn", "t4").lowest == 9.35
    assert all(0 < c.value <= 1 for c in registry.cells if c.metric in ACCURACIES)


def cell(**fields):
    known = {
        "model": "regnety_016", "chip": "t4", "precision": Precision.FP16, "batch": 4, "metric": "throughput",
        "value": 736.1, "unit": "images/s", "role": "cell", "document": "A", "section": "7.1", "protocol": "ascend",
        "chosen": True, "note": "", "file": "baselines/x.toml", "line": 12, "printed": Decimal("736.1"),
    }  # fmt: skip
    return Cell(**{**known, **fields})


@pytest.mark.parametrize(
    ("printed", "unit"), [("736.1", "0.1"), ("9", "1"), ("0.410", "0.001"), ("1E+2", "100"), ("0.0000001", "1E-7")]
)
def test_one_unit_of_the_last_digit(printed, unit):
    assert ulp(Decimal(printed)) == Decimal(unit)


@pytest.mark.parametrize(
    ("printed", "scale", "lowest"), [("736.1", "1", 736.05), ("77.85", "0.01", 0.77845), ("9", "1", 8.5)]
)
def test_the_lowest_number_that_prints_so_is_half_a_digit_below(printed, scale, lowest):
    assert cell(printed=Decimal(printed), scale=Decimal(scale)).lowest == lowest


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({}, "regnety_016-t4-fp16-bs4"),
        ({"batch": None}, "regnety_016-t4-fp16"),
        ({"chip": None, "precision": None, "batch": None}, "regnety_016"),
    ],
)
def test_a_figure_is_of_a_case_as_far_as_it_was_published(fields, subject):
    assert cell(**fields).subject == subject


def test_a_figure_says_its_digits_its_document_and_its_place():
    assert str(cell()) == "736.1 images/s (A, 7.1)"
    assert str(cell(unit="fraction", printed=Decimal("0.410"))) == "0.410 (A, 7.1)"
    assert cell().place == "baselines/x.toml:12"


def test_the_lowest_number_that_prints_as_a_figure_is_half_a_digit_below_it():
    assert cell().lowest == pytest.approx(736.05)
    assert cell(printed=Decimal("77.85"), scale=Decimal("0.01")).lowest == pytest.approx(0.77845)


@pytest.mark.parametrize(("unit", "shown"), [("images/s", "736.1 images/s"), ("%", "736.1 %"), ("fraction", "736.1")])
def test_a_figure_is_shown_with_its_unit_and_source(unit, shown):
    assert str(cell(unit=unit)) == f"{shown} (A, 7.1)"


@pytest.mark.parametrize(
    ("text", "metric", "fits"),
    [
        ("regnety_016-t4-fp16-bs4", "throughput", True),
        ("regnety_016-t4-fp16-bs8", "throughput", False),
        ("regnety_016-t4-int8-bs4", "throughput", False),
        ("regnety_016-cuda-fp16-bs4", "throughput", False),
        ("deepmar_resnet50-t4-fp16-bs4", "throughput", False),
        ("regnety_016-t4-fp16-bs4", "top1", False),
    ],
)
def test_a_case_is_judged_by_its_own_figure_alone(text, metric, fits):
    if fits:
        assert cell().check_of(Case.parse(text), metric) == cell()
        return
    with pytest.raises(
        InvalidMeasurement, match=r"would be judged by baselines/x\.toml:12, the throughput of regnety_016"
    ):
        cell().check_of(Case.parse(text), metric)


def test_an_accuracy_holds_for_every_batch_and_that_of_the_authors_for_every_chip():
    top1, hard = cell(metric="top1"), cell(metric="ap_hard", batch=None)
    authors = cell(metric="top1", chip=None, precision=None, batch=None, role="source")

    assert top1.check_of(Case.parse("regnety_016-t4-fp16-bs8"), "top1") == top1
    assert hard.check_of(Case.parse("regnety_016-t4-fp16-bs8"), "ap_hard") == hard
    assert authors.check_of(Case.parse("regnety_016-cpu-fp32-bs1"), "top1") == authors
    with pytest.raises(InvalidMeasurement):
        top1.check_of(Case.parse("regnety_016-cuda-fp16-bs8"), "top1")
    with pytest.raises(InvalidMeasurement):
        authors.check_of(Case.parse("regnety_016-cpu-fp32-bs1"), "top5")
