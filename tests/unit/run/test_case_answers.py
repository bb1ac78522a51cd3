"""What a case answers: which devices of a card are asked."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import matrix
from harness.backends.base import BuildSpec, Device
from harness.run.case_answers import CaseAnswers
from harness.run.case_run import CaseRun
from harness.run.engine import Built


@pytest.mark.parametrize(("processes", "devices"), [(1, 4), (2, 1)])
def test_accuracy_is_asked_of_a_card_unless_each_process_has_a_device(monkeypatch, processes, devices):
    @contextmanager
    def shared(chip, device, holder, exclusive):
        assert not exclusive
        yield

    @contextmanager
    def entered(*given):
        yield SimpleNamespace(load=lambda *given: entered())

    context = SimpleNamespace(
        settings=SimpleNamespace(process=0, processes=processes, tune=False),
        lease=shared,
        worker=entered,
        prepared=SimpleNamespace(prepare=lambda name, protocol, raw: None),
        dataset=lambda model: SimpleNamespace(name="set"),
    )
    bench = CaseRun(context, next(case for case in matrix.cases() if case.chip == "ascend310"))
    vars(bench.engine)["present"] = SimpleNamespace(backend="acl", devices=[Device(n, "310") for n in range(4)])
    monkeypatch.setattr(
        CaseRun, "built", lambda self, variant=None: Built(Path("engine"), BuildSpec("fp16", 1, (), ()))
    )
    vars(bench)["session"] = "session"

    with CaseAnswers(bench)._card(bench.variant) as card:
        assert list(card.sessions) == [f"device {n}" for n in range(devices)]
