"""What holds of every metric, whatever is predicted."""

import numpy as np
import pytest
import witness_coco
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.metrics import attributes, coco, score, topk, widerface
from harness.metrics.coco import Objects
from harness.metrics.widerface import Faces

few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def face_case(seed, images=6, most=12):
    """Rows (best first) and truth of some pictures; half of the rows lie near a face."""
    state = np.random.RandomState(seed)
    found, truth = [], []
    for _ in range(images):
        n, k = state.randint(0, 6), state.randint(0, most)
        boxes = np.hstack([state.randint(0, 200, (n, 2)), state.randint(4, 60, (n, 2))]).astype(float)
        hard = state.random_sample(n) < 0.8
        medium = hard & (state.random_sample(n) < 0.7)
        truth.append(Faces(boxes, np.stack([medium & (state.random_sample(n) < 0.7), medium, hard])))
        rows = np.hstack([state.randint(0, 200, (k, 2)), state.randint(4, 60, (k, 2))]).astype(float)
        for row in rows[: k // 2] if n else []:
            row[:] = boxes[state.randint(n)] + state.randint(-2, 3, 4)
        rows[:, 2:] = rows[:, 2:].clip(min=1)
        scores = -np.sort(-state.permutation(1000)[:k] / 1000)
        found.append(np.column_stack([rows, scores]))
    return found, truth


def object_case(seed, images=5):
    """Predictions (best first) and truth of some pictures with four classes."""
    state = np.random.RandomState(seed)
    predictions, truth = [], []
    for _ in range(images):
        n, k = state.randint(0, 6), state.randint(0, 10)
        boxes = np.hstack([state.randint(0, 200, (n, 2)), state.randint(4, 60, (n, 2))]).astype(float)
        labels = state.randint(0, 4, n)
        truth.append(Objects(boxes, labels, boxes[:, 2] * boxes[:, 3], state.random_sample(n) < 0.1))
        rows = np.hstack([state.randint(0, 200, (k, 2)), state.randint(4, 60, (k, 2))]).astype(float)
        classes = state.randint(0, 4, k)
        for i in range(k // 2 if n else 0):
            g = state.randint(n)
            rows[i], classes[i] = boxes[g] + state.randint(-2, 3, 4), labels[g]
        rows[:, 2:] = rows[:, 2:].clip(min=1)
        scores = np.sort(state.permutation(1000)[:k].astype(np.float32) / 1000)[::-1]
        corners = np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]]).astype(np.float32)
        predictions.append({"boxes": corners, "scores": scores, "labels": classes.astype(np.int64)})
    return predictions, truth


def values(found, truth):
    return np.array(list(widerface.evaluate(found, truth).values.values()))


def ap(predictions, truth):
    return coco.score(predictions, truth).values["ap"]


# ---------------------------------------------------------------- faces


@few
@given(seeds)
def test_face_ap_lies_between_0_and_1(seed):
    result = values(*face_case(seed))

    assert ((result >= 0) & (result <= 1) | np.isnan(result)).all()


@few
@given(seeds)
def test_face_ap_does_not_depend_on_the_order_of_the_pictures(seed):
    found, truth = face_case(seed)
    order = np.random.RandomState(seed).permutation(len(found))

    again = values([found[i] for i in order], [truth[i] for i in order])

    np.testing.assert_allclose(again, values(found, truth), atol=1e-12)


@few
@given(seeds)
def test_face_ap_does_not_depend_on_where_the_picture_lies_in_the_plane(seed):
    found, truth = face_case(seed)
    moved = [rows + np.array([37, 11, 0, 0, 0]) for rows in found]

    again = values(moved, [Faces(t.boxes + np.array([37, 11, 0, 0]), t.counted) for t in truth])

    np.testing.assert_allclose(again, values(found, truth), atol=1e-12)


@few
@given(seeds, st.floats(0.1, 0.9), st.floats(0, 0.1))
def test_face_ap_does_not_change_when_all_scores_are_stretched_alike(seed, factor, shift):
    # powers of two keep the stretch exact, so that no score crosses a threshold by rounding
    factor, shift = 2.0 ** -round(1 / factor), round(shift * 64) / 64
    found, truth = face_case(seed)
    exact = [np.column_stack([rows[:, :4], np.round(rows[:, 4] * 1024) / 1024]) for rows in found]
    stretched = [np.column_stack([rows[:, :4], rows[:, 4] * factor + shift]) for rows in exact]

    np.testing.assert_allclose(values(stretched, truth), values(exact, truth), atol=1e-12)


@few
@given(seeds)
def test_hard_face_ap_never_rises_when_a_found_face_is_not_found_any_more(seed):
    found, truth = face_case(seed)
    # scores that leave the range as it is, wherever a row is removed
    found = [*found, np.array([[900.0, 900, 5, 5, 1.0], [900, 900, 5, 5, 0.0]])]
    truth = [*truth, Faces(np.array([[0.0, 0, 5, 5]]), np.ones((3, 1), bool))]
    before = values(found, truth)[2]
    for i, rows in enumerate(found):
        for j in range(len(rows)):
            ones = [rows[j : j + 1]], [truth[i]]
            if widerface.tally(*ones, (0.0, 1.0)).found[2].max() == 0:
                continue
            near = widerface.overlaps(rows, truth[i].boxes)
            g = near[j].argmax()
            others = np.flatnonzero((near.argmax(1) == g) & (near.max(1) >= widerface.OVERLAP))
            fewer = [*found[:i], np.delete(rows, others, 0), *found[i + 1 :]]

            # with all rows on that face gone there are fewer proposals, but never more recall
            tally = widerface.tally(fewer, truth, widerface.score_range(found))
            whole = widerface.tally(found, truth, widerface.score_range(found))
            assert (tally.found[2] <= whole.found[2]).all()
            if len(others) == 1:
                assert tally.ap()["ap_hard"] <= before + 1e-12
            return


@few
@given(seeds)
def test_more_false_detections_never_raise_face_ap(seed):
    found, truth = face_case(seed)
    lowest, highest = widerface.score_range(found)
    noise = np.array([[5000.0, 5000, 9, 9, (lowest + highest) / 2]])
    noisy = [np.vstack([rows, noise]) for rows in found]
    noisy = [rows[np.argsort(-rows[:, 4], kind="stable")] for rows in noisy]

    before, after = values(found, truth), values(noisy, truth)

    assert (np.isnan(before) | (after <= before + 1e-12)).all()


@few
@given(seeds)
def test_the_faces_themselves_in_their_order_score_everything(seed):
    _, truth = face_case(seed)
    far = np.arange(6)[:, None] * np.array([500.0, 0, 0, 0])
    truth = [Faces(t.boxes + far[: len(t.boxes)], t.counted) for t in truth]  # none hides another
    found = [np.column_stack([t.boxes, np.ones(len(t.boxes))]) for t in truth]
    found[0] = np.vstack([found[0], [[9000, 9000, 5, 5, 0.0]]])

    result = values(found, truth)

    assert (np.isnan(result) | (result == 1)).all()


@few
@given(seeds, st.integers(1, 5))
def test_parts_of_a_set_merge_to_the_whole_when_they_share_its_score_range(seed, cut):
    found, truth = face_case(seed)
    span = widerface.score_range(found)

    merged = widerface.tally(found[:cut], truth[:cut], span) + widerface.tally(found[cut:], truth[cut:], span)

    whole = widerface.tally(found, truth, span)
    np.testing.assert_array_equal(merged.proposals, whole.proposals)
    np.testing.assert_array_equal(merged.found, whole.found)


@few
@given(seeds)
def test_a_picture_counted_twice_is_the_picture_there_twice(seed):
    found, truth = face_case(seed)
    weights = np.random.RandomState(seed).poisson(1, len(found))
    places = np.repeat(np.arange(len(found)), weights)
    again = widerface.tally([found[i] for i in places], [truth[i] for i in places], widerface.score_range(found))

    resampled = widerface.evaluate(found, truth).resample(weights)

    assert resampled == pytest.approx(again.ap(), abs=1e-12, nan_ok=True)


@few
@given(seeds)
def test_a_face_that_counts_as_easy_and_medium_is_hard_to_lose(seed):
    found, truth = face_case(seed)
    tally = widerface.tally(found, truth, widerface.score_range(found))

    assert (np.diff(tally.found, axis=1) >= 0).all(), "a lower threshold lost a face"
    assert (tally.found[0] <= tally.found[1]).all(), "a face was found as easy but not as medium"
    assert (tally.found[1] <= tally.found[2]).all(), "a face was found as medium but not as hard"
    assert (tally.found <= tally.faces[:, None]).all(), "more faces were found than there are"


@few
@given(arrays(np.float32, 20, elements=st.floats(0, 1, width=32)))
def test_a_score_read_from_its_shortest_text_is_the_score_of_the_file(scores):
    assert widerface.shortest_decimal(scores).tolist() == [float(str(s)) for s in scores]


@few
@given(arrays(np.float32, (5, 4), elements=st.floats(-50, 2000, width=32)))
def test_a_box_in_a_result_file_lies_within_a_pixel_of_the_box(boxes):
    corners = np.hstack([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])])

    rows = widerface.rows({"boxes": corners, "scores": np.full(5, 0.5, np.float32)})

    again = np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]])
    assert (abs(again - corners) < 1).all()
    assert (rows == np.trunc(rows))[:, :4].all()


# ---------------------------------------------------------------- objects


@few
@given(seeds)
def test_object_ap_lies_between_0_and_1(seed):
    result = ap(*object_case(seed))

    assert np.isnan(result) or 0 <= result <= 1


@few
@given(seeds)
def test_object_ap_equals_pycocotools(seed):
    predictions, truth = object_case(seed)

    result = ap(predictions, truth)

    theirs = witness_coco.twelve(predictions, truth)[0]
    assert result == pytest.approx(np.nan if theirs == -1 else theirs, abs=1e-12, nan_ok=True)


@few
@given(seeds)
def test_object_ap_does_not_change_under_a_rising_map_of_the_scores(seed):
    predictions, truth = object_case(seed)
    mapped = [p | {"scores": (p["scores"] * np.float32(0.25) + np.float32(0.5))} for p in predictions]

    assert ap(mapped, truth) == pytest.approx(ap(predictions, truth), abs=1e-12, nan_ok=True)


@few
@given(seeds)
def test_permuting_the_classes_everywhere_changes_nothing(seed):
    predictions, truth = object_case(seed)
    order = np.random.RandomState(seed).permutation(coco.CLASSES)
    permuted = [p | {"labels": order[p["labels"]]} for p in predictions]
    renamed = [Objects(t.boxes, order[t.labels], t.areas, t.crowd) for t in truth]

    assert ap(permuted, renamed) == pytest.approx(ap(predictions, truth), abs=1e-12, nan_ok=True)


@few
@given(seeds)
def test_the_objects_themselves_score_everything(seed):
    _, truth = object_case(seed)
    assume(any(len(t.labels) for t in truth))  # else there is nothing to score
    far = np.arange(6)[:, None] * np.array([500.0, 0, 0, 0])
    truth = [Objects(t.boxes + far[: len(t.boxes)], t.labels, t.areas, np.zeros(len(t.labels), bool)) for t in truth]
    predictions = [
        {
            "boxes": np.hstack([t.boxes[:, :2], t.boxes[:, :2] + t.boxes[:, 2:]]).astype(np.float32),
            "scores": np.full(len(t.labels), 0.5, np.float32),
            "labels": t.labels,
        }
        for t in truth
    ]

    assert ap(predictions, truth) == pytest.approx(1, abs=1e-9)


@few
@given(seeds)
def test_detections_of_a_class_that_is_nowhere_change_nothing(seed):
    predictions, truth = object_case(seed)
    extra = {"boxes": np.array([[0, 0, 9, 9]], np.float32), "scores": np.ones(1, np.float32), "labels": np.array([70])}
    more = [{k: np.concatenate([extra[k], p[k]]) for k in p} for p in predictions]

    assert ap(more, truth) == pytest.approx(ap(predictions, truth), abs=1e-12, nan_ok=True)


@few
@given(seeds)
def test_resampled_object_ap_is_that_of_the_repeated_pictures(seed):
    predictions, truth = object_case(seed)
    weights = np.random.RandomState(seed).poisson(1, len(truth))
    places = np.repeat(np.arange(len(truth)), weights)
    resampled = coco.score(predictions, truth).resample(weights)["ap"]

    again = ap([predictions[i] for i in places], [truth[i] for i in places]) if len(places) else np.nan

    assert resampled == pytest.approx(again, abs=1e-12, nan_ok=True)


# ---------------------------------------------------------------- classes and attributes


@few
@given(seeds, st.integers(1, 12))
def test_the_place_of_a_label_is_that_in_a_stable_sort(seed, levels):
    state = np.random.RandomState(seed)
    logits = state.randint(0, levels, (4, topk.CLASSES)).astype(np.float32)  # many ties
    labels = state.randint(0, topk.CLASSES, 4)

    places = topk.ranks([{"logits": row} for row in logits], labels)

    order = np.argsort(-logits, axis=1, kind="stable")
    assert [list(row).index(label) for row, label in zip(order, labels, strict=True)] == places.tolist()


@few
@given(seeds)
def test_top1_is_never_above_top5(seed):
    state = np.random.RandomState(seed)
    logits = state.standard_normal((8, topk.CLASSES)).astype(np.float32)
    labels = [int(np.argsort(-row)[state.randint(0, 8)]) for row in logits]

    result = topk.score([{"logits": row} for row in logits], labels)

    assert result.values["top1"] <= result.values["top5"]
    assert not (result.hits["top1"] & ~result.hits["top5"]).any()


@few
@given(seeds)
def test_permuting_classes_of_scores_and_labels_changes_no_answer(seed):
    """Without equal scores, of which the lower class comes first."""
    state = np.random.RandomState(seed)
    logits = np.stack([state.permutation(topk.CLASSES) for _ in range(5)]).astype(np.float32)
    labels, order = state.randint(0, topk.CLASSES, 5), state.permutation(topk.CLASSES)
    permuted = np.empty_like(logits)
    permuted[:, order] = logits

    places = topk.ranks([{"logits": row} for row in permuted], order[labels])

    assert places.tolist() == topk.ranks([{"logits": row} for row in logits], labels).tolist()


def people(seed, rows=40):
    state = np.random.RandomState(seed)
    labels = state.choice([0, 1, attributes.UNKNOWN], (rows, 35), p=[0.6, 0.35, 0.05])
    return [{"logits": row} for row in state.standard_normal((rows, 35))], labels


@few
@given(seeds)
def test_attribute_metrics_lie_between_0_and_1_and_accuracy_is_the_least(seed):
    result = attributes.score(*people(seed)).values

    assert all(0 <= v <= 1 or np.isnan(v) for v in result.values())
    assert result["instance_accuracy"] <= min(result["instance_precision"], result["instance_recall"]) + 1e-12


@few
@given(seeds)
def test_f1_lies_between_precision_and_recall(seed):
    result = attributes.score(*people(seed)).values

    low, high = sorted([result["instance_precision"], result["instance_recall"]])
    assert low - 1e-12 <= result["instance_f1"] <= high + 1e-12


@few
@given(seeds)
def test_attribute_metrics_do_not_depend_on_the_order_of_attributes_or_samples(seed):
    predictions, labels = people(seed)
    state = np.random.RandomState(seed)
    columns, rows = state.permutation(35), state.permutation(len(labels))
    shuffled = [{"logits": predictions[i]["logits"][columns]} for i in rows]

    again = attributes.score(shuffled, labels[rows][:, columns]).values

    assert again == pytest.approx(dict(attributes.score(predictions, labels).values), abs=1e-12, nan_ok=True)


@few
@given(seeds, st.sampled_from(["attributes", "classes"]))
def test_equal_weights_leave_a_score_as_it_is(seed, task):
    state = np.random.RandomState(seed)
    predictions, labels = people(seed)
    if task == "classes":
        predictions = [{"logits": row} for row in state.standard_normal((40, topk.CLASSES))]
        labels = state.randint(0, topk.CLASSES, 40)
    result = score(task, predictions, labels)

    assert result.resample(np.full(40, 3)) == pytest.approx(dict(result.values), abs=1e-12, nan_ok=True)
