"""The arithmetic of the documents is computed again: what is known is known, and a changed digit is noticed."""

import re
from collections import Counter
from decimal import Decimal

import pytest
from baselines_copies import spoil

from harness.baselines import load
from harness.baselines.arithmetic import (
    accuracies,
    agreement,
    bests,
    card_figures,
    copies,
    evaluate,
    labels,
    latencies,
    lint,
    rates,
    ratios,
    slopes,
    sources,
)
from harness.baselines.registry import DIRECTORY, Baselines
from harness.baselines.rows import Best, Cell, Log, Ratio, Times
from harness.case import Precision


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


# ---------------------------------------------------------------- each rule, on rows written for it

ROW = {"model": "m", "chip": "ascend310", "precision": Precision.FP16, "document": "D", "section": "1",
       "file": "f.toml", "line": 5}  # fmt: skip
NONE = dict.fromkeys(("cells", "logs", "times", "ratios", "bests", "rows_of_targets", "deviations", "errata"), ())


def cell(printed, **fields):
    known = {**ROW, "batch": 4, "metric": "throughput", "value": float(printed), "unit": "images/s", "role": "cell",
             "protocol": "p", "chosen": True, "note": "", "printed": Decimal(printed)}  # fmt: skip
    return Cell(**{**known, **fields})


def accuracy(printed, metric, **fields):
    return cell(printed, **{"metric": metric, "unit": "fraction", "batch": None, **fields})


def mean(of, value, **others):
    printed = {name: Decimal(digits) for name, digits in others.items()}
    return Times(**ROW, batch=4, of=of, mean=Decimal(value), others=printed)


def log(batch=4, images=1000, e2e=("100", "1E4"), **stages):
    pairs = {**dict.fromkeys(("read", "preprocess", "infer", "post"), ("200", "5")), **stages, "e2e": e2e}
    numbers = {name: tuple(map(Decimal, pair)) for name, pair in pairs.items()}
    return Log(**ROW, batch=batch, images=images, **numbers)


def ratio(value=None, at_least=None, formula="", **fields):
    digits = {"value": value and Decimal(value), "at_least": at_least and Decimal(at_least), "formula": formula}
    return Ratio(**{**ROW, "other": "t4", "batch": 4, "other_batch": 4, **digits, **fields})


def said(rule, **rows):
    table = Baselines(**{**NONE, **{name: tuple(of) for name, of in rows.items()}}, digest="")
    return [(finding.rule, finding.says) for finding in rule(table)]


DEVICE, EXECUTION = {"per": "device", "chosen": False}, {"per": "execution", "chosen": False}
PAIR = [cell("400"), cell("200", chip="t4")]
PARTS = [mean("to device", "1.00"), mean("compute", "2.00"), mean("from device", "3.00")]


@pytest.mark.parametrize(
    ("rule", "rows", "findings"),
    [
        # a 310 has four devices, a T4 one; half a digit may be rounded away, and no more
        (card_figures, {"cells": [cell("400"), cell("100", **DEVICE)]}, []),
        (card_figures, {"cells": [cell("100", chip="t4"), cell("100", chip="t4", **DEVICE)]}, []),
        (card_figures, {"cells": [cell("400"), cell("100", **EXECUTION)]}, []),
        (card_figures, {"cells": [cell("400"), cell("99.875", **DEVICE)]}, []),
        (card_figures, {"cells": [cell("400"), cell("99.87", **DEVICE)]},
         [("card", "99.87 gives 399.48, printed 400")]),
        (card_figures, {"cells": [cell("400"), cell("99", **DEVICE), cell("99", **DEVICE, section="2")]},
         [("card", "99 gives 396, printed 400")]),
        (card_figures, {"cells": [cell("400")], "times": [mean("compute", "40", total_s="4")]}, []),
        (card_figures, {"cells": [cell("400")], "times": [mean("compute", "41", without_first="4")]},
         [("card", "41 gives 390.243902, printed 400")]),
        (card_figures, {"cells": [cell("400")], "times": [mean("compute", "41"), mean("latency", "41", total_s="4")]},
         []),
        (card_figures, {"cells": [cell("400", batch=None), cell("99", batch=None, **DEVICE)]}, []),
        (card_figures, {"cells": [cell("400.0", formula="100.0x4"), cell("100.0", **DEVICE)]}, []),
        (card_figures, {"cells": [cell("400.0", formula="100.02x4"), cell("100.02", **DEVICE)]},
         [("formula", "100.02x4 is 400.08, printed 400.0")]),
        (card_figures, {"cells": [cell("400", formula="4*1000/10")], "times": [mean("compute", "10", total_s="4")]},
         []),
        (card_figures, {"cells": [cell("400", formula="4*100")]},
         [("operand", "4*100 is not made of what was measured: nothing")]),
        (card_figures, {"cells": [cell("500", formula="100x5"), cell("100", **DEVICE)]},
         [("operand", "100x5 is not made of what was measured: 100")]),
        (card_figures, {"cells": [cell("4000", formula="4x1000"), cell("99", **DEVICE)]},
         [("operand", "4x1000 is not made of what was measured: 99")]),
        # the coarser print decides
        (agreement, {"cells": [cell("400"), cell("400.5", section="2", chosen=False)]}, []),
        (agreement, {"cells": [cell("400"), cell("400.6", section="2", chosen=False)]},
         [("agreement", "400.6 in 2, 400 in 1")]),
        (agreement, {"cells": [cell("400.6", section="2", chosen=False), cell("400")]},
         [("agreement", "400.6 in 2, 400 in 1")]),
        (agreement, {"cells": [cell("400"), cell("500", batch=8), cell("500", document="E"),
                               cell("500", role="source")]}, []),
        (agreement, {"cells": [accuracy("0.809", "ap_hard"), accuracy("80.95", "ap_hard", batch=1, chosen=False,
                                                                      scale=Decimal("0.01"))]}, []),
        (agreement, {"cells": [accuracy("0.809", "ap_hard"), accuracy("80.96", "ap_hard", batch=1, chosen=False,
                                                                      scale=Decimal("0.01"))]},
         [("agreement", "80.96 in 1, 0.809 in 1")]),
        (labels, {"cells": [cell("400"), cell("500", batch=16, labelled=32)]},
         [("label", "500 of batch 16 is labelled batch 32")]),
        (bests, {"cells": [cell("400"), cell("500", batch=8), cell("900", section="2"), cell("900", chip="t4")],
                 "bests": [Best(**ROW, value=Decimal("500")), Best(**ROW, value=Decimal("400"))]},
         [("best", "the highest figure is 500, printed 400")]),
        (bests, {"bests": [Best(**ROW, value=Decimal("5"))]}, [("best", "the highest figure is 0, printed 5")]),
        (ratios, {"cells": PAIR, "ratios": [ratio("2.0", formula="400/200"), ratio(at_least="2")]}, []),
        (ratios, {"cells": [cell("400"), cell("195", chip="t4")], "ratios": [ratio("2"), ratio("2.0", at_least="2.1")]},
         [("ratio", "batch 4: 400/195 is 2.051282051, printed 2.0"),
          ("claim", "batch 4: claimed to be at least 2.1 x t4, 400/195 is 2.051")]),
        (ratios, {"cells": PAIR, "ratios": [ratio(formula="401/200"), ratio(batch=8)]},
         [("ratio", "batch 4: 401/200 is not 400/200"),
          ("ratio", "batch 8 of ascend310 or t4 is not in the table of 1")]),
        (ratios, {"cells": [*PAIR, cell("300", batch=8)], "ratios": [ratio("3", batch=None, other_batch=None)]},
         [("ratio", "best batch: 400/200 is 2, printed 3")]),
        # images per second over the batch, twice logarithmic
        (slopes, {"cells": [cell("100", batch=1), cell("50", batch=4)]}, []),
        (slopes, {"cells": [cell("100", batch=1), cell("49", batch=4)]},
         [("slope", "100 at batch 1, 49 at batch 4: log-log slope -0.515")]),
        (slopes, {"cells": [cell("100", batch=4), cell("193", batch=8), cell("377", batch=16), cell("9", batch=None)]},
         [("slope", "193 at batch 8, 377 at batch 16: log-log slope 0.966")]),
        (slopes, {"cells": [cell("100", batch=1), cell("900", batch=2, section="2"),
                            cell("900", batch=2, chip="t4")]}, []),
        # rate times latency: a ten-thousandth of the images, one of a thousand milliseconds
        (rates, {"logs": [log(10000, 10000, ("100", "100010"))]}, []),
        (rates, {"logs": [log(4, 10000, ("100", "100020"))]},
         [("images", "100 images/s for 100020 ms are 10002 images, the data set has 10000")]),
        (rates, {"logs": [log(read=("200.2", "5"), post=("199.8", "5"))]}, []),
        (rates, {"logs": [log(read=("200.4", "5"), preprocess=("199.6", "5"), post=("100", "5"), infer=("9", "9"))]},
         [("rates", "rate x latency is 1000 ms: read 200.4 x 5 = 1002.0, preprocess 199.6 x 5 = 998.0,"
                    " post 100 x 5 = 500.0")]),
        # five digits in common
        (copies, {"logs": [log(infer=("123.45", "8")), log(8, infer=("123.45", "9"))]},
         [("copy", "123.45 stand in the log of batch 4 too")]),
        (copies, {"logs": [log(infer=("123.4", "8")), log(8, infer=("123.4", "9"))]}, []),
        (copies, {"logs": [log(8, infer=("123.45", "8")), log(4, infer=("8", "543.21")),
                          log(16, post=("123.45", "543.21"))]},
         [("copy", "123.45, 543.21 stand in the log of batch 4 and 8 too")]),
        # times in order, and of whole executes
        (latencies, {"times": [mean("latency", "2", min="2", median="2", p99="2", max="2")]}, []),
        (latencies, {"times": [mean("latency", "2", min="3", max="4")]}, [("order", "latency: min 3, max 4, mean 2")]),
        (latencies, {"times": [mean("latency", "5", min="3", max="4")]}, [("order", "latency: min 3, max 4, mean 5")]),
        (latencies, {"times": [mean("latency", "2", median="3", p99="2.5")]},
         [("order", "latency: median 3, p99 2.5, mean 2")]),
        (latencies, {"times": [mean("compute", "2", total_s="1.00006")]}, []),
        (latencies, {"times": [mean("compute", "2", total_s="1.00008")]},
         [("executes", "1.00008 s of 2 ms are 500.04 executes")]),
        (latencies, {"times": [mean("compute", "2", total_s="0.99992")]},
         [("executes", "0.99992 s of 2 ms are 499.96 executes")]),
        # each of three parts is rounded
        (latencies, {"times": [*PARTS, mean("latency", "6.02")]}, []),
        (latencies, {"times": [*PARTS, mean("latency", "5.97")]},
         [("parts", "the parts' means add up to 6.00, printed 5.97")]),
        (latencies, {"times": [*PARTS[:2], mean("latency", "6.03")]}, []),
        (latencies, {"times": [mean("compute", "2.00"), mean("enqueue", "1.80")]}, []),
        (latencies, {"times": [mean("compute", "2.00"), mean("enqueue", "1.81")]},
         [("launch", "enqueueing takes 1.81 of 2.00 ms: the host is measured")]),
        (accuracies, {"cells": [accuracy(v, f"instance_{n}") for v, n in (("0.5", "precision"), ("0.5", "recall"),
                                                                         ("0.5000000000000004", "f1"))]}, []),
        (accuracies, {"cells": [accuracy(v, f"instance_{n}") for v, n in (("0.75", "precision"), ("0.25", "recall"),
                                                                         ("0.3750000000000005", "f1"))]},
         [("f1", "0.75 and 0.25 give 0.3750000000000000, printed 0.3750000000000005")]),
        (accuracies, {"cells": [accuracy("0.75", "instance_precision"), accuracy("0.25", "instance_recall")]}, []),
        (accuracies, {"cells": [accuracy("77.9", "top1", complement=Decimal("22.1"))]}, []),
        (accuracies, {"cells": [accuracy("77.9", "top1", complement=Decimal("22.2"))]},
         [("complement", "77.9 and 22.2 are not 100")]),
        (accuracies, {"cells": [accuracy("77", "top1", then=(Decimal(80), Decimal(80))), accuracy("80", "top5")]}, []),
        (accuracies, {"cells": [accuracy("77", "top1", then=(Decimal(80), Decimal(82))), accuracy("81", "top5")]},
         [("order", "top-1 to top-5 fall: 77, 80, 82, 81")]),
        (accuracies, {"cells": [accuracy("77", "top1"), accuracy("70", "top5"), cell("1", then=(Decimal(0),))]}, []),
    ],
)  # fmt: skip
def test_a_rule_says_what_its_rows_contradict_and_nothing_else(rule, rows, findings):
    assert said(rule, **rows) == findings


@pytest.mark.parametrize("formula", ["4+5", "4*", "4*5-1"])
def test_what_is_no_product_or_quotient_is_refused(formula):
    with pytest.raises(ValueError, match=r"has a '[+-]'|zip"):
        evaluate(formula)


def test_an_accuracy_of_exactly_99_percent_needs_no_deviation():
    source = accuracy("80", "top1", role="source", chip=None, precision=None)

    assert said(sources, cells=[source, accuracy("79.2", "top1")]) == []
    assert said(sources, cells=[source, accuracy("79.1", "top1", scale=Decimal("1"))]) == [
        ("source", "8000 % -> 7910 % is a drop of 1.12 %")
    ]
    assert said(sources, cells=[source, accuracy("7", "top1", chosen=False), accuracy("7", "ap_hard")]) == []
