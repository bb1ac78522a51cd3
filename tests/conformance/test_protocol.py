"""The suite prepares pictures, reads outputs and scores answers as the programs of the models' authors do. The answers
of those programs ship with the suite, so that this needs no data set; chip and reference share what is tested here."""

import pytest

from harness import matrix
from harness.judge.golden import judge_golden
from harness.judge.worked import judge_examples
from harness.reference import golden

pytestmark = pytest.mark.protocol


def test_the_suite_prepares_and_reads_as_the_authors_do(lineup, suite, present, accept):
    protocol = matrix.model(lineup.model).protocol(lineup.chip)
    compared = golden.compared(lineup.model, protocol)
    if not compared:
        pytest.skip(f"no golden answers of {lineup.model} are known")

    accept(judge_examples(judge_golden(compared)), protocol=protocol.name)
