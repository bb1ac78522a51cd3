"""A checkpoint is the model's, whole and harmless, or it is refused; seeded weights give informative outputs."""

import dataclasses
import hashlib
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import golden_rules
import pytest
import torch

from harness.errors import WeightsError
from harness.models import MODELS
from harness.reference import weights

MODEL = MODELS["retinaface_mobilenet025"]
ANY = dataclasses.replace(MODEL, weights=dataclasses.replace(MODEL.weights, sha256=None, md5=None))  # no digest


@pytest.fixture(scope="module")
def state():
    return golden_rules.state(MODEL.network())


def saved(path, checkpoint, **how):
    torch.save(checkpoint, path, **how)
    return path


def same(got, want):
    return list(got) == list(want) and all(torch.equal(got[key], want[key]) for key in want)


WRAPPED = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "best": 0.5},
    "state_dicts": lambda state: {"state_dicts": [state, {"param_groups": []}], "ep": 3},
    "all with module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "half with module.": lambda state: {
        ("module." if i % 2 else "") + key: value for i, (key, value) in enumerate(state.items())
    },
    "without num_batches_tracked": lambda state: {
        key: value for key, value in state.items() if not key.endswith("num_batches_tracked")
    },
    "in another order": lambda state: dict(reversed(state.items())),
    "float64": lambda state: {key: value.double() if value.ndim else value for key, value in state.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_checkpoint_loads_in_whatever_it_is_wrapped(wrap, state, tmp_path):
    path = saved(tmp_path / "any.pth", WRAPPED[wrap](state))

    loaded = weights.load(ANY, path)

    assert same(loaded, state)
    MODEL.network().load_state_dict(loaded, strict=True)


def test_a_legacy_checkpoint_with_metadata_but_old_batch_norms_loads(state, tmp_path):
    plain = OrderedDict((key, value) for key, value in state.items() if not key.endswith("num_batches_tracked"))
    plain._metadata = OrderedDict(version=2)
    path = saved(tmp_path / "legacy.pth", plain, _use_new_zipfile_serialization=False)

    assert same(weights.load(ANY, path), state)


def test_a_missing_checkpoint_says_where_to_get_it(tmp_path):
    with pytest.raises(WeightsError, match="there is no checkpoint") as caught:
        weights.load(MODEL, tmp_path / "absent.pth")

    assert MODEL.weights.url in caught.value.hint


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(share, legacy, state, tmp_path):
    whole = saved(tmp_path / "whole.pth", state, _use_new_zipfile_serialization=not legacy).read_bytes()
    path = tmp_path / "short.pth"
    path.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(WeightsError, match=r"it is empty|cannot be read as a checkpoint"):
        weights.load(ANY, path)


@pytest.mark.parametrize("content", [b"<html>quota exceeded</html>", b"\x80\x02]q\x00.", b"\0" * 4096], ids=repr)
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    path = tmp_path / "page.pth"
    path.write_bytes(content)

    with pytest.raises(WeightsError, match=r"cannot be read|not a state dict"):
        weights.load(ANY, path)


class Bomb:
    """What an attacker pickles: unpickling it makes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle 2", "pickle 4", "beside the weights"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(how, state, tmp_path):
    target = tmp_path / "proof"
    path = tmp_path / "bomb.pth"
    if how.startswith("pickle"):
        path.write_bytes(pickle.dumps(Bomb(target), protocol=int(how[-1])))
    else:
        content = {"state_dict": state, "note": Bomb(target)} if how == "beside the weights" else Bomb(target)
        saved(path, content, _use_new_zipfile_serialization=how != "legacy")

    with pytest.raises(WeightsError, match=r"would run code when unpickled.*no code was run") as caught:
        weights.load(ANY, path)

    assert not target.exists()
    assert "do not open it with plain torch.load" in caught.value.hint
    assert how == "pickle 4" or ".system" in caught.value.fact
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists(), "the bomb is a dud, so this test proves nothing"


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_named(tmp_path):
    other = MODELS["deepmar_resnet50"]
    path = saved(tmp_path / "other.pth", golden_rules.state(other.network()))

    with pytest.raises(WeightsError) as caught:
        weights.load(ANY, path)

    assert "not a checkpoint of retinaface_mobilenet025: 253 keys are missing, body.stage1.0.0.w" in caught.value.fact
    assert "320 keys are unknown, base.conv1.weight first" in caught.value.fact
    assert "looks like one of deepmar_resnet50" in caught.value.hint


@pytest.mark.slow
def test_a_checkpoint_of_no_model_names_the_first_keys(state, tmp_path):
    path = saved(tmp_path / "none.pth", {"fc.weight": torch.zeros(3), **dict(list(state.items())[5:9])})

    with pytest.raises(WeightsError, match=r"body.stage1.0.0.weight first.*fc.weight first") as caught:
        weights.load(ANY, path)

    assert "looks like" not in caught.value.hint


def spoiled(state, key, value):
    return {**state, key: value}


HEAD = "LandmarkHead.0.conv1x1.bias"
SPOILED = {
    "other anchors": (torch.zeros(40), r"1 shapes differ: LandmarkHead.0.conv1x1.bias is \(40,\), not \(20,\)"),
    "NaN": (torch.full((20,), torch.nan), "LandmarkHead.0.conv1x1.bias holds NaN or infinity"),
    "one NaN": (torch.tensor([torch.nan, *[0.0] * 19]), "LandmarkHead.0.conv1x1.bias holds NaN or infinity"),
    "infinity": (torch.full((20,), torch.inf), "holds NaN or infinity"),
    "integers": (torch.zeros(20, dtype=torch.int64), "is torch.int64, not torch.float32"),
    "a number": (3.5, "is a float, not a tensor"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_tensor_is_named(how, state, tmp_path):
    value, message = SPOILED[how]
    path = saved(tmp_path / "spoiled.pth", spoiled(state, HEAD, value))

    with pytest.raises(WeightsError, match=message):
        weights.load(ANY, path)


def test_a_key_too_few_and_a_key_too_many_are_refused(state, tmp_path):
    fewer = saved(tmp_path / "fewer.pth", {key: value for key, value in state.items() if key != HEAD})
    more = saved(tmp_path / "more.pth", spoiled(state, "head.bias", torch.zeros(3)))

    with pytest.raises(WeightsError, match=f"1 keys are missing, {HEAD} first"):
        weights.load(ANY, fewer)
    with pytest.raises(WeightsError, match=r"1 keys are unknown, head\.bias first"):
        weights.load(ANY, more)


def test_a_key_with_and_without_module_is_refused(state, tmp_path):
    path = saved(tmp_path / "twice.pth", {**state, f"module.{HEAD}": state[HEAD] + 1})

    with pytest.raises(WeightsError, match="twice, with and without"):
        weights.load(ANY, path)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_only_the_published_bytes_pass_a_published_digest(kind, state, tmp_path):
    path = saved(tmp_path / "published.pth", state)
    digest = hashlib.new(kind, path.read_bytes()).hexdigest()

    def published(value):
        return dataclasses.replace(ANY, weights=dataclasses.replace(ANY.weights, **{kind: value}))

    assert same(weights.load(published(digest), path), state)
    with pytest.raises(WeightsError, match=f"not the published file: its {kind} is {digest}, not 00"):
        weights.load(published("00" + digest[2:]), path)
    assert weights.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_checkpoint_is_found_under_any_of_its_names(tmp_path):
    model = dataclasses.replace(ANY, weights=dataclasses.replace(ANY.weights, files=("one.pth", "two.pth")))
    (tmp_path / "weights").mkdir()

    assert weights.find(model, None) is None
    assert weights.find(model, tmp_path) is None
    (tmp_path / "weights" / "two.pth").write_bytes(b"2")
    assert weights.find(model, tmp_path) == tmp_path / "weights" / "two.pth"
    (tmp_path / "weights" / "one.pth").write_bytes(b"1")
    assert weights.find(model, tmp_path) == tmp_path / "weights" / "one.pth"


def test_the_published_retinaface_loads(request):
    data = request.config.getoption("--data", default=None)
    path = weights.find(MODEL, Path(data) if data else None)
    if path is None:
        pytest.skip(f"no {MODEL.weights.files[0]} in --data DIR/weights; get it from {MODEL.weights.url}")

    state = weights.load(MODEL, path)

    assert len(state) == 300
    assert int(state["body.stage1.0.1.num_batches_tracked"]) > 100_000, "not a trained network"
