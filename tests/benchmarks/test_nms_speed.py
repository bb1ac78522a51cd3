"""Decoding and suppression against the authors' arithmetic, timed in turn on the same outputs.

RetinaFace: boxes and landmarks of every prior are decoded by PyTorch, then a loop in NumPy goes through what is kept.
GFocalV2: mmdetection's steps in PyTorch, with torchvision's compiled suppression. All on one thread, of which the
processor's time is taken, so that other programs count for less.
"""

import time

import numpy as np
import pytest
import torch
import torchvision
from drawn_work import heads, street

from harness.arrays import boxes
from harness.datasets import widerface
from harness.datasets.base import Absent
from harness.models import gfocalv2, retinaface
from harness.reference import weights

pytestmark = pytest.mark.benchmark


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def in_turn(slow, fast, times):
    """(median of the ratios of paired runs, results)."""
    ratios = []
    for _ in range(times):
        begun = time.thread_time()
        theirs = slow()
        between = time.thread_time()
        ours = fast()
        ratios.append((between - begun) / (time.thread_time() - between))
    return float(np.median(ratios)), theirs, ours


def scattered(seed):
    """Random outputs, 3 % of whose scores pass: hardly any box suppresses another."""
    random = np.random.RandomState(seed)
    n = len(boxes.priors(1000, 1000))
    face = (random.random_sample(n) ** 128).astype(np.float32)
    loc = (0.8 * random.standard_normal((n, 4))).astype(np.float32)
    return loc, np.stack((1 - face, face), axis=1), random.standard_normal((n, 10)).astype(np.float32)


def authors_faces(priors, loc, conf, landm, scale):
    priors, loc, landm = (torch.from_numpy(a) for a in (priors, loc, landm))
    centres, sizes = priors[:, :2] + loc[:, :2] * 0.1 * priors[:, 2:], priors[:, 2:] * torch.exp(loc[:, 2:] * 0.2)
    found = torch.cat((centres, sizes), 1)
    found[:, :2] -= found[:, 2:] / 2
    found[:, 2:] += found[:, :2]
    found = (found * torch.tensor([1000.0] * 4) / scale).numpy()
    marks = [priors[:, :2] + landm[:, i : i + 2] * 0.1 * priors[:, 2:] for i in range(0, 10, 2)]
    marks = (torch.cat(marks, 1) * torch.tensor([1000.0] * 10) / scale).numpy()
    scores = conf[:, 1]
    above = np.where(scores > 0.02)[0]
    found, marks, scores = found[above], marks[above], scores[above]
    order = scores.argsort(kind="stable")[::-1]
    found, marks, scores = found[order], marks[order], scores[order]
    kept = authors_nms(np.hstack((found, scores[:, None])).astype(np.float32, copy=False), 0.4)
    return found[kept], scores[kept], marks[kept]


def authors_nms(rows, threshold):
    x1, y1, x2, y2, scores = rows.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    left, kept = scores.argsort(kind="stable")[::-1], []
    while left.size:
        best, others = left[0], left[1:]
        kept.append(best)
        wide = np.maximum(0.0, np.minimum(x2[best], x2[others]) - np.maximum(x1[best], x1[others]) + 1)
        high = np.maximum(0.0, np.minimum(y2[best], y2[others]) - np.maximum(y1[best], y1[others]) + 1)
        inter = wide * high
        iou = inter / (areas[best] + areas[others] - inter)
        left = others[np.where(iou <= threshold)[0]]
    return kept


CROWDS = {
    "scattered, 1,200 candidates": scattered(1),
    "crowd, 1,100 candidates": street(2, 300, 1100),
    "crowd, 2,000 candidates": street(3, 500, 2000),
    "crowd, 3,000 candidates": street(4, 900, 3000),
}


@pytest.mark.parametrize("name", CROWDS)
def test_faces_are_found_ten_times_as_fast_as_by_the_authors(name):
    outputs, scale = CROWDS[name], 1000 / 1024
    priors = np.array(boxes.priors(1000, 1000))

    ratio, (found, scores, marks), ours = in_turn(
        lambda: authors_faces(priors, *outputs, scale),
        lambda: retinaface.faces(*outputs, retinaface.ASCEND, scale),
        times=41,
    )

    print(f"ratio {ratio:.3f} kept {len(scores)}")
    np.testing.assert_array_equal(ours["scores"], scores)
    np.testing.assert_allclose(ours["boxes"], found, rtol=0, atol=2e-4)
    np.testing.assert_allclose(ours["landmarks"].reshape(-1, 10), marks, rtol=0, atol=2e-4)
    assert ratio >= 10, f"{ratio:.1f}x"


@pytest.fixture(scope="module")
def photographs(pytestconfig):
    """[(loc, conf, landm), scale] of the published network for each photograph of WIDER FACE that is there."""
    data, model = pytestconfig.getoption("--data"), retinaface.MOBILENET025
    path = weights.find(model, data)
    if path is None:
        pytest.skip("no published weights: give --data DIR or set CHIPPROOF_DATA")
    try:
        samples = widerface.load(data).samples[:40]
    except Absent as absent:
        pytest.skip(str(absent))
    network = model.network().eval()
    network.load_state_dict(weights.load(model, path))
    found = []
    for sample in samples:
        prepared = retinaface.preprocess_ascend(sample.read(), False)
        with torch.inference_mode():
            outputs = network(torch.from_numpy(prepared.tensor)[None])
        found.append(([output[0].numpy() for output in outputs], prepared.frame.scale[0]))
    return found


def test_faces_of_photographs_are_found_ten_times_as_fast_as_by_the_authors(photographs):
    """Over all of them, and in the middle one of them: half have fewer than 500 candidates, one has 3,500."""
    priors = np.array(boxes.priors(1000, 1000))
    times = np.empty((2, 15, len(photographs)))
    for run in range(times.shape[1]):
        for i, (outputs, scale) in enumerate(photographs):
            begun = time.thread_time()
            found, scores, marks = authors_faces(priors, *outputs, scale)
            between = time.thread_time()
            ours = retinaface.faces(*outputs, retinaface.ASCEND, scale)
            times[:, run, i] = between - begun, time.thread_time() - between

            np.testing.assert_array_equal(ours["scores"], scores)
            np.testing.assert_allclose(ours["boxes"], found, rtol=1e-6, atol=2e-4)
            np.testing.assert_allclose(ours["landmarks"].reshape(-1, 10), marks, rtol=1e-6, atol=2e-4)
    each = np.median(times[0] / times[1], axis=0)
    total = float(np.median(times[0].sum(axis=1) / times[1].sum(axis=1)))

    print(f"ratio {total:.3f} median {np.median(each):.3f} from {each.min():.1f} to {each.max():.1f}")
    assert total >= 10, f"{total:.1f}x over all"
    assert np.median(each) >= 10, f"{np.median(each):.1f}x in the middle one: {np.round(each, 1)}"


@pytest.mark.parametrize("name", CROWDS)
def test_suppression_alone_keeps_the_same_list_several_times_as_fast(name):
    loc, conf, _ = CROWDS[name]
    above = np.flatnonzero(conf[:, 1] > 0.02)
    found, scores = boxes.decode(boxes.priors(1000, 1000)[above], loc[above]) * np.float32(1000), conf[above, 1]
    rows = np.hstack((found, scores[:, None]))

    ratio, theirs, ours = in_turn(lambda: authors_nms(rows, 0.4), lambda: boxes.nms(found, scores, 0.4), times=41)

    print(f"ratio {ratio:.3f} kept {len(ours)}")
    assert ours.tolist() == [int(i) for i in theirs]
    assert ratio >= 6, f"{ratio:.1f}x"


def authors_objects(scores, logits, size):
    """mmdetection 2.6 in PyTorch: every cell is decoded, then the best 1,000 of a level go on."""
    found, classes = [], []
    maps = map(torch.from_numpy, scores), map(torch.from_numpy, logits)
    for stride, score, logit in zip(gfocalv2.STRIDES, *maps, strict=True):
        height, width = score.shape[1:]
        score = score.permute(1, 2, 0).reshape(-1, 81)
        sides = torch.softmax(logit.permute(1, 2, 0).reshape(-1, 17), dim=1)
        sides = torch.nn.functional.linear(sides, torch.arange(17.0)[None]).reshape(-1, 4) * stride
        y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
        point = torch.stack((x.reshape(-1), y.reshape(-1)), dim=1).float()
        if len(score) > 1000:
            cells = score.max(dim=1).values.topk(1000).indices
            score, sides, point = score[cells], sides[cells], point[cells]
        box = torch.cat((point - sides[:, :2], point + sides[:, 2:]), dim=1)
        box[:, 0::2].clamp_(0, size[1])
        box[:, 1::2].clamp_(0, size[0])
        found.append(box)
        classes.append(score)
    found, classes = torch.cat(found), torch.cat(classes)
    valid = classes > 0.05
    candidates = found[:, None].expand(-1, 81, 4)[valid]
    chosen, labels = classes[valid], valid.nonzero()[:, 1]
    kept = torchvision.ops.nms(candidates + (labels * (candidates.max() + 1))[:, None], chosen, 0.6)[:100]
    return candidates[kept].numpy(), chosen[kept].numpy(), labels[kept].numpy()


@pytest.mark.parametrize("objects", [5, 40, 150])
def test_objects_are_found_no_slower_than_by_mmdetection_in_pytorch(objects):
    scores, logits = heads(objects, objects)

    def ours():
        found, classes = gfocalv2.candidates(scores, logits, gfocalv2.SIZE, gfocalv2.SCORE)
        return boxes.multiclass_nms(found, classes, gfocalv2.SCORE, gfocalv2.IOU, gfocalv2.LIMIT)

    ratio, theirs, mine = in_turn(lambda: authors_objects(scores, logits, gfocalv2.SIZE), ours, times=21)

    print(f"ratio {ratio:.3f} kept {len(mine[0])}")
    np.testing.assert_array_equal(mine[2], theirs[2])
    np.testing.assert_array_equal(mine[1], theirs[1])
    np.testing.assert_allclose(mine[0], theirs[0], rtol=0, atol=2e-4)
    assert ratio >= 1, f"{ratio:.2f}x"
