"""The words of the suite: each is there once, and says what it means."""

from harness.vocabulary import METRICS


def test_every_metric_row_is_whole():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.unit in ("fraction", "images/s")
