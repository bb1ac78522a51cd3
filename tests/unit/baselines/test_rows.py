"""A figure as it was printed, and as the number that is judged."""

from harness.vocabulary import ACCURACIES


def test_accuracies_are_fractions_and_keep_the_printed_digits(registry):
    hard = registry.source("retinaface_mobilenet025", "ap_hard")
    top5 = registry.source("regnety_016", "top5")

    assert hard.value == 0.7382
    assert str(top5.printed) == "93.720"
    assert top5.lowest == 0.937195
    assert registry.best("gfocalv2_r50_fpn", "t4").lowest == 9.35
    assert all(0 < c.value <= 1 for c in registry.cells if c.metric in ACCURACIES)
