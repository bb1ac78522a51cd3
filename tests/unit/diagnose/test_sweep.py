"""A model is cut into its layers and into blocks of what follows one another."""

import pytest

from harness.diagnose.layers import Layer
from harness.diagnose.sweep import FEW, Part, fewest, groups, most_tries, parts, worst_first


def layer(tensor, *inputs):
    return Layer(tensor, f"node_{tensor}", "Conv", inputs, (1, 4))


CHAIN = [layer("a", "x"), layer("b", "a"), layer("c", "b"), layer("d", "c")]
FORK = [layer("a", "x"), layer("b", "a"), layer("c", "a"), layer("d", "b", "c")]


def names(found):
    return ["".join(layer.tensor for layer in part.layers) for part in found]


def test_every_layer_stands_alone_and_with_those_before_it():
    assert names(parts(CHAIN)) == ["a", "b", "c", "d", "ab", "abc", "bcd"]


def test_a_block_ends_where_a_tensor_is_read_twice_or_a_layer_reads_two():
    assert names(parts(FORK)) == ["a", "b", "c", "d"]


def test_a_block_reads_what_its_first_layer_reads():
    block = parts(CHAIN)[-1]

    assert (block.inputs, block.tensor) == (("a",), "d")


def test_groups_stay_within_the_room_and_lose_no_part():
    alone = [Part((one,)) for one in CHAIN]

    found = list(groups(alone, CHAIN, room=32))  # two tensors of 16 bytes; the network's input is not counted

    assert [names(group) for group in found] == [["a", "b", "c"], ["d"]]


def test_what_differs_most_comes_first_and_what_did_not_run_last():
    rows = [
        {"tensor": "sound", "fine": True, "rms": 1e-6, "ms": 1.0},
        {"tensor": "slow", "fine": True, "rms": 1e-6, "ms": 2.0},
        {"tensor": "refused", "error": "no such operator"},
        {"tensor": "bad", "fine": False, "rms": 0.1, "ms": 1.0},
        {"tensor": "not finite", "fine": False, "rms": None, "ms": 1.0},
    ]

    assert [row["tensor"] for row in worst_first(rows)] == ["not finite", "bad", "slow", "sound", "refused"]


NODES = [f"n{i}" for i in range(20)]


@pytest.mark.parametrize("needed", [{"n0"}, {"n3"}, {"n0", "n5"}, {"n1", "n2", "n3"}, set(NODES[:13]), set(NODES)])
def test_the_nodes_that_must_stay_in_fp32_are_found(needed):
    asked = []

    def passes(nodes):
        asked.append(tuple(nodes))
        return needed <= set(nodes)

    found = fewest(NODES, passes)

    few = len(NODES[: 1 + max(map(NODES.index, needed))]) <= FEW
    assert set(found) == needed if few else needed <= set(found)
    assert passes(found)
    assert len(asked) - 1 <= most_tries(len(NODES)), "an engine is built for each"


def test_no_nodes_are_named_where_fp32_is_not_enough():
    asked = []
    assert fewest(NODES, lambda nodes: asked.append(len(nodes)) or False) is None
    assert asked == [1, 2, 4, 8, 16, 20]


def test_no_search_takes_more_engines_than_are_announced():
    def tries(count, needed):
        asked = []
        fewest(NODES[:count], lambda nodes: asked.append(nodes) or needed <= set(nodes))
        return len(asked)

    for count in range(1, len(NODES) + 1):
        ways = [{NODES[last], *NODES[:first]} for last in range(count) for first in range(last + 1)]
        worst = max([tries(count, needed) for needed in ways] + [tries(count, {"none of them"})])
        assert most_tries(count) == worst, count
