"""The arithmetic of the documents is computed again: what is known is known, and a changed digit is noticed."""

import re
from collections import Counter
from decimal import Decimal

import pytest
from baselines_copies import spoil

from harness.baselines import load
from harness.baselines.arithmetic import evaluate, lint
from harness.baselines.registry import DIRECTORY


def test_all_disagreements_of_the_documents_are_known(registry):
    new = [str(finding) for finding in lint(registry) if not finding.why]

    assert not new, "\n".join(new)


def test_the_known_contradictions_are_found(registry):
    says = {(finding.rule, finding.says) for finding in lint(registry)}

    assert {
        ("formula", "106.197x4 is 424.788, printed 424.778"),
        ("formula", "491.668x4 is 1966.672, printed 2032.532"),
        ("card", "22.174 gives 721.565798, printed 717.328"),
        ("label", "717.328 of batch 16 is labelled batch 32"),
        ("agreement", "1055.488 in 7.1 310性能数据, 1132.564 in 7.4 性能对比"),
        ("agreement", "231.086 in 7.3 T4性能数据, 280.845 in 7.4 性能对比"),
        ("agreement", "717.328 in 7.2 T4性能数据, 721.566 in 7.3 性能对比"),
        ("claim", "batch 16: claimed to be at least 1.2 x t4, 544.828/721.566 is 0.755"),
        ("source", "73.82 % -> 72.43 % is a drop of 1.88 %"),
        ("source", "84.43 % -> 80.93 % is a drop of 4.15 %"),
        ("images", "461.7 images/s for 382555 ms are 176626 images, the data set has 7600"),
    } <= says


def test_text_and_table_of_regnety_disagree_eleven_times(registry):
    found = [f for f in lint(registry) if f.rule == "agreement" and f.about.startswith("regnety")]

    assert Counter(f.about.split("-")[1] for f in found) == {"ascend310": 5, "ascend310p": 1, "t4": 5}


def new_findings(directory):
    return [finding for finding in lint(load(directory)) if not finding.why]


def test_an_erratum_that_no_longer_occurs_is_a_finding(copied):
    spoil(copied, "errata.toml", "106.197x4 is 424.788, printed 424.778", "106.197x4 is 424.789, printed 424.778")

    rules = Counter(finding.rule for finding in new_findings(copied))

    assert rules == {"erratum": 1, "formula": 1}


def test_a_deviation_that_is_not_needed_is_a_finding(copied):
    spoil(copied, "retinaface_mobilenet025.toml", "value = 72.43", "value = 73.43")

    line, case = load(copied).deviations[0].line, "retinaface_mobilenet025-ascend310-fp16-bs"
    assert [str(finding) for finding in new_findings(copied)] == [
        f"baselines/deviations.toml:{line}: deviation: {case}*: "
        f"not needed: {case}{batch} keeps 99 % of the authors' ap_hard"
        for batch in (1, 16)
    ]


def test_a_deviation_that_covers_too_much_is_a_finding(copied):
    spoil(copied, "deviations.toml", "retinaface_resnet50-mlu370_*-int8-bs*", "retinaface_resnet50-mlu370_*-*-bs*")

    found = new_findings(copied)

    assert {finding.rule for finding in found} == {"deviation"}
    assert len(found) == 4  # two boards at two other precisions


def test_an_accuracy_below_99_percent_without_a_deviation_is_a_finding(copied):
    spoil(copied, "gfocalv2_r50_fpn.toml", "value = 0.406", "value = 0.405")

    assert {finding.rule for finding in new_findings(copied)} == {"source"}


@pytest.mark.parametrize(
    ("figures", "suspect"),
    [
        ((1642.5, 869.4, 497.7, 252.4), True),  # falls like one over the batch: the batch was ignored
        ((1378.7, 5539, 10986, 22119), True),  # grows like the batch: it was multiplied twice
        ((634.528, 2228.9, 3495.03, 3907.39), False),
    ],
)
def test_a_batch_that_was_ignored_or_counted_twice_is_a_finding(copied, figures, suspect):
    rows = "".join(
        f'    {{ chip = "cuda", batch = {b}, value = {v} }},\n' for b, v in zip((1, 4, 8, 16), figures, strict=True)
    )
    spoil(copied, "regnety_016.toml", '    { chip = "t4", batch = 64', rows + '    { chip = "t4", batch = 64')

    assert ({f.rule for f in new_findings(copied)} == {"slope"}) is suspect


def test_four_times_a_310p_is_a_finding(copied):
    """The 310P is one device a card; the documents' own script once multiplied by four."""
    spoil(
        copied,
        "gfocalv2_r50_fpn.toml",
        'value = 34.49, formula = "1000/28.99"',
        'value = 137.98, formula = "4*1000/28.99"',
    )

    assert "operand" in {finding.rule for finding in new_findings(copied)}


def test_a_card_of_four_devices_is_four_times_as_fast_where_no_formula_is_printed(copied):
    spoil(copied, "retinaface_mobilenet025.toml", ', formula = "136.207x4"', "")

    assert new_findings(copied) == []


def figures_in_arithmetic():
    """(file, line, column, digits) of every throughput, ratio and best that a computation takes part in. Those of the
    MLU document stand alone."""
    for path in sorted(DIRECTORY.glob("*_*.toml")):
        if path.stem == "retinaface_resnet50":
            continue
        for n, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
            found = re.search(r"(?<=value = )[\d.]+", line)
            if line.lstrip().startswith("{") and found and "metric = " not in line:
                yield path.name, n, found.start(), found.group()


@pytest.mark.slow
def test_the_lint_goes_red_when_a_digit_of_any_throughput_or_ratio_is_changed(copied):
    """The last digit, which is the hardest to notice, and the first."""
    places = list(figures_in_arithmetic())
    silent = []
    for name, n, column, number in places:
        path = copied / name
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for at in (len(number) - 1, 0):
            digit = str(int(number[at]) + 1) if number[at] != "9" else "8"
            changed = lines[n][: column + at] + digit + lines[n][column + at + 1 :]
            path.write_text("\n".join([*lines[:n], changed, *lines[n + 1 :]]), encoding="utf-8")
            if not new_findings(copied):
                silent.append(f"{name}:{n + 1}: {changed.strip()}")
        path.write_text(text, encoding="utf-8")

    table = load()
    alone = "baselines/retinaface_resnet50.toml"
    printed = [c for c in table.cells if c.metric == "throughput" and c.file != alone]
    quotients = [row for row in table.ratios if row.value is not None]
    assert len(places) == len(printed) + len(quotients) + len(table.bests), "a figure is not tried any more"
    assert not silent, "\n".join(silent)


def test_text_and_table_of_an_accuracy_agree_to_the_digits_of_the_table(copied):
    for old, new in (("0.9485227574365432", "0.9486227574365432"), ("0.8070893019687196", "0.8070393019687196")):
        spoil(copied, "retinaface_resnet50.toml", old, new)
        found = new_findings(copied)
        spoil(copied, "retinaface_resnet50.toml", new, old)

        assert {finding.rule for finding in found} == {"agreement"}, f"{new} was not noticed"


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("mean = 1.8435", "mean = 2.8435", "order"),
        ("total_s = 2.50163", "total_s = 2.50263", "executes"),
        ("e2e = [20.3771, 158315]", "e2e = [20.3771, 158915]", "images"),
        ("read = [20.524, 48.7234]", "read = [20.524, 49.7234]", "rates"),
    ],
)
def test_a_log_that_contradicts_itself_is_a_finding(copied, old, new, rule):
    spoil(copied, "retinaface_mobilenet025.toml", old, new)

    assert rule in {finding.rule for finding in new_findings(copied)}


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("complement = 22.138", "complement = 22.139", "complement"),
        ("then = [87.5, 90.77, 92.58]", "then = [90.5, 90.47, 92.58]", "order"),
        ("mean = 0.1091", "mean = 0.1191", "parts"),
    ],
)
def test_an_accuracy_or_latency_that_does_not_add_up_is_a_finding(copied, old, new, rule):
    spoil(copied, "regnety_016.toml", old, new)

    assert rule in {finding.rule for finding in new_findings(copied)}


@pytest.mark.parametrize("old", ["0.8823281028182345", "0.8496866930584036", "0.8656998192635741"])
def test_f1_is_computed_from_precision_and_recall(copied, old):
    spoil(copied, "deepmar_resnet50.toml", old, f"{float(old) + 4e-15:.16f}")

    assert {finding.rule for finding in new_findings(copied)} == {"f1"}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("106.197x4", "424.788"),
        ("4*1000/223.21", "17.92034406"),
        ("59.0443 * 32", "1889.4176"),
        ("34.49/17.92", "1.924665"),
    ],
)
def test_printed_computations_are_evaluated_from_left_to_right(formula, value):
    assert float(evaluate(formula)) == pytest.approx(float(value), rel=1e-6)
    assert isinstance(evaluate(formula), Decimal)


def test_a_quotient_without_its_figures_is_a_finding_and_hides_no_other(copied):
    spoil(copied, "regnety_016.toml", "batch = 1, value = 0.56025796", "batch = 2, value = 0.56025796")
    spoil(copied, "regnety_016.toml", "value = 0.92681146", "value = 0.92681147")

    said = [(finding.rule, finding.says) for finding in new_findings(copied)]

    assert [rule for rule, _ in said] == ["ratio", "ratio"]
    assert said[0][1].startswith("batch 2 of ascend310p or ascend310 is not in the table of 7.4")
    assert said[1][1] == "batch 4: 2228.9/2404.912 is 0.926811459, printed 0.92681147"


@pytest.mark.parametrize("gone", ["latency", "to device", "compute", "from device", "enqueue"])
def test_a_latency_that_is_not_printed_is_not_added_up(copied, gone):
    path = copied / "regnety_016.toml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if f'of = "{gone}"' not in line), encoding="utf-8")

    known = Counter(finding.rule for finding in lint(load(copied)))

    assert known["parts"] == 0
    assert known["launch"] == (gone not in ("compute", "enqueue"))
