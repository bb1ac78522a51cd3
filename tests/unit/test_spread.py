"""With pytest -n a model at one precision is one process's; a chip that shares the processor is whole in one."""

from types import SimpleNamespace

import pytest

pytest.importorskip("xdist")

from tests.spread import ByLineup, scope_of

NUMERICS = "tests/conformance/test_numerics.py::test_outputs_are_those_of_the_reference"


@pytest.mark.parametrize(("name", "scope"), [
    (f"{NUMERICS}[regnety_016-ascend310-fp16-bs4]", "regnety_016-ascend310-fp16"),
    (f"{NUMERICS}[regnety_016-ascend310-fp16-bs64]@ascend310", "regnety_016-ascend310-fp16"),
    ("tests/conformance/test_targets.py::test_latency_depends_on_the_batch[regnety_016-ascend310-fp16]",
     "regnety_016-ascend310-fp16"),
    (f"{NUMERICS}[regnety_016-cpu-fp32-bs1]", "cpu"),
    (f"{NUMERICS}[gfocalv2_r50_fpn-cpu-int8-bs1]", "cpu"),
    (f"{NUMERICS}[own_model-t4-fp16-bs1]", "own_model-t4-fp16"),
    (f"{NUMERICS}[tiny_classes-elsewhere-fp16-bs1]", "elsewhere"),
    ("tests/unit/test_case.py::test_names", ""),
])  # fmt: skip
def test_what_decides_the_process(name, scope):
    assert scope_of(name) == scope


CHIPS = ("t4", "ascend310p", "ascend310")  # one more than processes: what is left to do is given as they go


class Process:
    """Of xdist's controller of a process what the scheduler needs."""

    def __init__(self, name):
        self.name, self.given, self.shutting_down = name, [], False
        self.gateway = SimpleNamespace(id=name)

    def send_runtest_some(self, indices):
        self.given += indices

    def shutdown(self):
        self.shutting_down = True


def started(tests):
    """The scheduler with those tests, and its two processes."""
    sched = ByLineup(
        SimpleNamespace(option=SimpleNamespace(loadscopereorder=True), getvalue=lambda name: ["popen"] * 2)
    )
    both = Process("gw0"), Process("gw1")
    for process in both:
        sched.add_node(process)
        sched.add_node_collection(process, tests)
    sched.schedule()
    return sched, *both


def test_a_test_in_which_a_process_died_is_not_given_to_another_and_the_rest_of_its_lineup_is():
    tests = [f"{NUMERICS}[regnety_016-{chip}-fp16-bs{batch}]" for chip in CHIPS for batch in (1, 2, 4)]
    sched, dies, stays = started(tests)
    first, *rest = list(dies.given)
    sched.mark_test_complete(dies, first)

    assert sched.remove_node(dies) == tests[rest[0]]
    for index in stays.given:
        sched.mark_test_complete(stays, index)

    assert sorted(stays.given) == sorted({*range(len(tests))} - {first, rest[0]})
    assert sched.tests_finished


def test_of_a_lineup_of_one_test_in_which_a_process_died_nothing_is_left_to_do():
    tests = [f"{NUMERICS}[regnety_016-{chip}-fp16-bs1]" for chip in CHIPS]
    sched, dies, stays = started(tests)
    given = list(stays.given)

    lost = sched.remove_node(dies)

    assert lost == tests[dies.given[0]]
    assert scope_of(lost) not in {*sched.workqueue, *sched.assigned_work[stays]}
    assert dies.given[0] not in stays.given[len(given) :]
