"""What holds for all boxes: decoding undoes encoding, and suppression keeps what it should and no more."""

import numpy as np
import plain_vision as plain
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.arrays import boxes
from harness.models import gfocalv2, retinaface

some = settings(deadline=None, max_examples=60)
few = settings(deadline=None, max_examples=20)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def crowds(draw, largest=120):
    """(boxes, scores): clusters of boxes, some of them twice, scores some of them equal, corners whole or not."""
    random = np.random.RandomState(draw(seeds))
    n = draw(st.integers(1, largest))
    centres = random.uniform(0, draw(st.sampled_from([20, 200, 2000])), (draw(st.integers(1, n)), 2))
    near = centres[random.randint(0, len(centres), n)] + random.uniform(-6, 6, (n, 2))
    found = np.hstack((near, near + random.uniform(0, draw(st.sampled_from([3, 30, 300])), (n, 2))))
    if draw(st.booleans()):
        found = np.round(found)
    found = found[random.randint(0, n, n)] if draw(st.booleans()) else found
    scores = random.permutation(n) / n
    if draw(st.booleans()):
        scores = np.floor(scores * 8) / 8
    return found.astype(np.float32), scores.astype(np.float32)


def distinct(scores):
    return np.argsort(np.argsort(scores, kind="stable")).astype(np.float32) / len(scores)


@some
@given(crowds(), st.sampled_from([0.1, 0.3, 0.4, 0.5, 0.7]))
def test_the_keep_list_is_that_of_the_plain_loops(crowd, threshold):
    found, scores = crowd
    kept = boxes.nms(found, scores, threshold)

    assert kept.tolist() == plain.nms(found, scores, threshold)


@some
@given(crowds(60), seeds)
def test_a_box_whose_far_corner_lies_before_its_near_one_overlaps_nothing(crowd, seed):
    found, scores = crowd
    turned = np.random.RandomState(seed).random_sample((len(found), 2)) < 0.3
    found[:, :2], found[:, 2:] = np.where(turned, (found[:, 2:], found[:, :2]), (found[:, :2], found[:, 2:]))
    kept = boxes.nms(found, scores, 0.4)

    assert kept.tolist() == plain.nms(found, scores, 0.4)


@few
@given(seeds, st.sampled_from([0.05, 0.4, 0.8]), st.sampled_from([3.0, 15.0, 60.0]), st.integers(1, 200))
def test_the_first_few_are_those_of_the_whole_keep_list(seed, threshold, spread, limit):
    """Boxes of like size, moved mostly up and down: they overlap by about the threshold."""
    random = np.random.RandomState(seed)
    near = random.uniform(0, (60, 120), (200, 2))
    found = np.hstack((near, near + 20 + random.uniform(0, spread, (200, 2)))).astype(np.float32)
    expected = plain.survivors(found, threshold, 1)

    assert boxes.survivors(found, threshold, 1).tolist() == expected
    assert boxes.survivors(found, threshold, 1, limit).tolist() == expected[:limit]


@some
@given(st.integers(1, 60), seeds)
def test_overlaps_that_equal_the_threshold_are_decided_alike(n, seed):
    """Boxes on a small grid, and as threshold one of their own overlaps."""
    random = np.random.RandomState(seed)
    near = random.randint(0, 6, (n, 2))
    found = np.hstack((near, near + random.randint(1, 6, (n, 2)))).astype(np.float32)
    scores = distinct(random.uniform(size=n))
    own = [plain.iou(found[0], box, 1) for box in found]
    threshold = float(max([value for value in own if value < 1], default=0.5)) or 0.5
    kept = boxes.nms(found, scores, threshold)

    assert kept.tolist() == plain.nms(found, scores, threshold)


@some
@given(crowds())
def test_the_best_box_is_kept_first(crowd):
    found, scores = crowd

    assert scores[boxes.nms(found, scores, 0.4)[0]] == scores.max()


@some
@given(crowds())
def test_kept_scores_fall(crowd):
    found, scores = crowd

    assert (np.diff(scores[boxes.nms(found, scores, 0.4)]) <= 0).all()


@some
@given(crowds())
def test_suppressing_again_removes_nothing(crowd):
    found, scores = crowd
    kept = boxes.nms(found, distinct(scores), 0.4)
    again = boxes.nms(found[kept], distinct(scores)[kept], 0.4)

    assert again.tolist() == list(range(len(kept)))


@few
@given(crowds(60))
def test_no_two_kept_boxes_overlap_above_the_threshold(crowd):
    found, scores = crowd
    kept = found[boxes.nms(found, scores, 0.4)]

    assert all(plain.iou(a, b, 1) <= np.float32(0.4) for i, a in enumerate(kept) for b in kept[:i])


@few
@given(crowds(60))
def test_every_box_removed_overlaps_a_better_one_kept(crowd):
    found, scores = crowd
    scores = distinct(scores)
    kept = boxes.nms(found, scores, 0.4)
    for lost in set(range(len(found))) - set(kept.tolist()):
        assert any(
            scores[better] > scores[lost] and plain.iou(found[better], found[lost], 1) > np.float32(0.4)
            for better in kept
        )


@some
@given(crowds(), seeds)
def test_the_order_of_the_boxes_does_not_matter_when_no_scores_tie(crowd, seed):
    found, scores = crowd
    scores = distinct(scores)
    order = np.random.RandomState(seed).permutation(len(scores))

    assert order[boxes.nms(found[order], scores[order], 0.4)].tolist() == boxes.nms(found, scores, 0.4).tolist()


@some
@given(crowds())
def test_only_the_order_of_the_scores_matters(crowd):
    found, scores = crowd

    assert boxes.nms(found, scores, 0.4).tolist() == boxes.nms(found, scores**3 * 5 - 2, 0.4).tolist()


@some
@given(crowds(), st.integers(-500, 500), st.integers(-500, 500))
def test_moving_all_boxes_of_whole_pixels_changes_nothing(crowd, right, down):
    found, scores = np.round(crowd[0]), crowd[1]
    moved = found + np.array((right, down) * 2, np.float32)

    assert boxes.nms(moved, scores, 0.4).tolist() == boxes.nms(found, scores, 0.4).tolist()


@some
@given(crowds())
def test_exchanging_x_and_y_changes_nothing(crowd):
    found, scores = crowd

    assert boxes.nms(found[:, [1, 0, 3, 2]], scores, 0.4).tolist() == boxes.nms(found, scores, 0.4).tolist()


@some
@given(crowds(), st.integers(1, 130))
def test_a_limit_keeps_the_first_of_all_that_would_be_kept(crowd, limit):
    ranked = crowd[0][boxes.best_first(crowd[1])]

    assert boxes.survivors(ranked, 0.4, 1, limit).tolist() == boxes.survivors(ranked, 0.4, 1)[:limit].tolist()


@some
@given(crowds())
def test_boxes_far_from_all_others_do_not_change_what_is_kept(crowd):
    found, scores = crowd
    far = found + np.float32(100_000)

    kept = boxes.nms(np.vstack((found, far)), np.concatenate((distinct(scores) + 2, distinct(scores))), 0.4)
    assert kept[kept < len(found)].tolist() == boxes.nms(found, distinct(scores), 0.4).tolist()


@some
@given(st.integers(1, 400), st.integers(1, 400))
def test_priors_are_those_of_the_plain_loops(height, width):
    np.testing.assert_array_equal(boxes.priors(height, width), plain.priors(height, width).astype(np.float32))


@some
@given(st.integers(1, 300), st.integers(1, 300))
def test_priors_cover_the_input_and_are_two_a_cell(height, width):
    priors = boxes.priors(height, width)

    assert len(priors) == sum(2 * -(-height // s) * -(-width // s) for s in (8, 16, 32))
    assert (priors > 0).all()
    assert (priors[:, 0] * width < width + 32).all()


@some
@given(seeds, st.integers(32, 400), st.integers(32, 400))
def test_decoding_undoes_encoding(seed, height, width):
    random = np.random.RandomState(seed)
    priors = boxes.priors(height, width)
    near = random.uniform(0, 0.8, (len(priors), 2))
    found = np.hstack((near, near + random.uniform(0.01, 0.2, near.shape)))
    decoded = boxes.decode(priors, plain.encode(priors, found).astype(np.float32))

    np.testing.assert_allclose(decoded, found, rtol=0, atol=3e-6)


@some
@given(seeds)
def test_decoding_is_that_of_the_plain_loops(seed):
    loc = np.random.RandomState(seed).uniform(-4, 4, (42, 4)).astype(np.float32)
    priors = boxes.priors(32, 64)[:42]

    np.testing.assert_allclose(boxes.decode(priors, loc), plain.decode(priors, loc), rtol=1e-6, atol=1e-6)


@some
@given(seeds, st.integers(0, 84))
def test_decoding_in_two_parts_changes_no_bit(seed, cut):
    random = np.random.RandomState(seed)
    priors = boxes.priors(64, 64)
    loc, landm = (random.standard_normal((len(priors), n)).astype(np.float32) for n in (4, 10))
    parts = [slice(None, cut), slice(cut, None)]

    np.testing.assert_array_equal(
        boxes.decode(priors, loc), np.concatenate([boxes.decode(priors[p], loc[p]) for p in parts])
    )
    np.testing.assert_array_equal(
        boxes.decode_landmarks(priors, landm),
        np.concatenate([boxes.decode_landmarks(priors[p], landm[p]) for p in parts]),
    )


@few
@given(seeds, st.integers(40, 900), st.integers(40, 900))
def test_a_face_put_into_the_network_comes_back_where_it_was(seed, height, width):
    """On the Ascend to a hundredth of a pixel, and through Cambricon's whole pixels to two."""
    random = np.random.RandomState(seed)
    size = random.uniform(16, 40, 2)
    corner = random.uniform(0, np.maximum((width, height) - size, 1))
    face = np.hstack((corner, corner + size))
    image = np.zeros((height, width, 3), np.uint8)
    for protocol, near in zip(retinaface.MOBILENET025.protocols, (0.01, 2), strict=True):
        frame = protocol.preprocess(image, True).frame
        side = np.array(protocol.size[::-1] * 2, float)
        inside = (face * frame.scale[0] + np.array((frame.left, frame.top) * 2)) / side
        priors = boxes.priors(*protocol.size)
        closest = np.abs(priors[:, :2] - (inside[:2] + inside[2:]) / 2).sum(axis=1).argmin()
        loc, conf = np.zeros((len(priors), 4), np.float32), np.zeros((len(priors), 2), np.float32)
        loc[closest] = plain.encode(priors[[closest]], inside[None])[0]
        conf[closest, 1] = 1
        landm = np.zeros((len(priors), 10), np.float32)
        found = protocol.postprocess(dict(zip(retinaface.OUTPUTS, (loc, conf, landm), strict=True)), frame)

        np.testing.assert_allclose(found["boxes"], face[None], rtol=0, atol=near)


@some
@given(seeds, st.integers(1, 20))
def test_the_integral_is_that_of_the_plain_sum_and_within_sixteen(seed, n):
    logits = (5 * np.random.RandomState(seed).standard_normal((68, n))).astype(np.float32)
    found = boxes.integral(logits)
    expected = [[plain.integral(logits[17 * s : 17 * s + 17, i].tolist()) for i in range(n)] for s in range(4)]

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert found.min() >= 0
    assert found.max() <= 16.00001


@some
@given(seeds, st.floats(-50, 50, width=32))
def test_adding_a_constant_to_all_logits_of_a_side_changes_no_distance(seed, constant):
    logits = np.random.RandomState(seed).standard_normal((68, 9)).astype(np.float32)

    np.testing.assert_allclose(boxes.integral(logits + np.float32(constant)), boxes.integral(logits), atol=1e-4)


@some
@given(seeds, st.integers(1, 80), st.integers(1, 80), st.booleans())
def test_the_best_cells_are_those_of_a_plain_sort(seed, n, keep, ties):
    best = np.random.RandomState(seed).uniform(size=n).astype(np.float32)
    best = np.round(best, 1) if ties else best
    above = [i for i in range(n) if best[i] > np.float32(0.3)]
    if n > keep:
        above = sorted(above, key=lambda i: -best[i])[:keep]

    assert boxes.best_cells(best, keep, 0.3).tolist() == above


@st.composite
def objects(draw):
    """(boxes, scores): boxes of whole pixels, on which the float32 offset of a class is exact; no two scores tie."""
    random = np.random.RandomState(draw(seeds))
    n, classes = draw(st.integers(1, 30)), draw(st.integers(1, 6))
    near = random.randint(0, draw(st.sampled_from([8, 60])), (n, 2))
    found = np.hstack((near, near + random.randint(0, 12, (n, 2)))).astype(np.float32)
    scores = (random.permutation(n * classes).reshape(n, classes) / (n * classes)).astype(np.float32)
    return found, scores


@some
@given(objects(), st.integers(1, 50))
def test_objects_kept_are_those_of_the_plain_loops_class_by_class(crowd, limit):
    found, scores = crowd
    expected = plain.multiclass_nms(found, scores, 0.3, 0.6, limit)
    kept, values, labels = boxes.multiclass_nms(found, scores, 0.3, 0.6, limit)

    assert labels.tolist() == [label for _, label in expected]
    assert values.tolist() == [scores[pair] for pair in expected]
    np.testing.assert_array_equal(kept, found[[row for row, _ in expected]].reshape(-1, 4))


@some
@given(objects(), seeds)
def test_permuting_the_classes_permutes_the_labels(crowd, seed):
    found, scores = crowd
    order = np.random.RandomState(seed).permutation(scores.shape[1])
    kept, values, labels = boxes.multiclass_nms(found, scores, 0.2, 0.6, 100)
    other, same, renamed = boxes.multiclass_nms(found, scores[:, order], 0.2, 0.6, 100)

    np.testing.assert_array_equal(kept, other)
    np.testing.assert_array_equal(values, same)
    np.testing.assert_array_equal(labels, order[renamed])


@some
@given(objects())
def test_a_class_without_scores_changes_nothing(crowd):
    found, scores = crowd
    wider = np.hstack((scores, np.zeros((len(scores), 1), np.float32)))
    both = (boxes.multiclass_nms(found, s, 0.2, 0.6, 100) for s in (scores, wider))

    for a, b in zip(*both, strict=True):
        np.testing.assert_array_equal(a, b)


@some
@given(objects(), st.integers(1, 9), st.integers(1, 50))
def test_ascends_operator_keeps_the_best_of_each_class_and_of_all(crowd, per_class, limit):
    """At scores that float16 holds it differs from the plain loops in its limit a class, and in what equality does."""
    found = crowd[0]
    scores = np.round(crowd[1] * 512) / np.float32(512)
    _, values, labels = boxes.batch_multiclass_nms(found, scores, 0.2, 0.61, per_class, limit)
    expected = []
    for label in range(scores.shape[1]):
        rows = sorted(np.flatnonzero(scores[:, label] > np.float32(0.2)), key=lambda row: -scores[row, label])
        kept = plain.survivors(found[rows], 0.61, 0)[:per_class]
        expected += [(-scores[rows[rank], label], label) for rank in kept]

    expected.sort()
    assert values.tolist() == [-score for score, _ in expected[:limit]]
    assert labels.tolist() == [label for _, label in expected[:limit]]


@few
@given(seeds)
def test_candidates_below_the_threshold_do_not_matter(seed):
    """Leaving cells out before they are decoded keeps every object."""
    random = np.random.RandomState(seed)
    sizes = [(8, 10), (4, 5), (2, 3), (1, 2), (1, 1)]
    scores = [(random.uniform(size=(81, *size)) ** 9).astype(np.float32) for size in sizes]
    logits = [(2 * random.standard_normal((68, *size))).astype(np.float32) for size in sizes]
    all_of_them = boxes.multiclass_nms(*gfocalv2.candidates(scores, logits, (64, 80), -1.0), 0.05, 0.6, 100)
    some_of_them = boxes.multiclass_nms(*gfocalv2.candidates(scores, logits, (64, 80), 0.05), 0.05, 0.6, 100)

    np.testing.assert_array_equal(all_of_them[2], some_of_them[2])
    np.testing.assert_array_equal(all_of_them[1], some_of_them[1])
    np.testing.assert_allclose(all_of_them[0], some_of_them[0], atol=1e-4)
