"""COCO AP is that of pycocotools, whole and resampled."""

import numpy as np
import pytest
import witness_coco

from harness.errors import DataError, RunError
from harness.metrics import coco, interpolation
from harness.metrics.coco import Objects
from harness.reference import golden as rules
from harness.reference.golden import FOLDER


@pytest.fixture(scope="module")
def golden():
    """Computed with the authors' programs."""
    with np.load(FOLDER / "metrics.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def drawn():
    return rules.objects()


def thing(x, y, w, h, label=0, crowd=False):
    return (np.array([x, y, w, h], float), label, crowd)


def truth_of(*things):
    boxes = np.array([t[0] for t in things]).reshape(-1, 4)
    labels, crowd = np.array([t[1] for t in things], np.int64), np.array([t[2] for t in things], bool)
    return Objects(boxes, labels, boxes[:, 2] * boxes[:, 3], crowd)


def found(*things, scores):
    boxes = np.array([t[0] for t in things]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {
        "boxes": boxes.astype(np.float32),
        "scores": np.array(scores, np.float32),
        "labels": np.array([t[1] for t in things], np.int64),
    }


def test_the_twelve_numbers_equal_those_of_the_authors(drawn, golden):
    truth, predictions = drawn

    np.testing.assert_allclose(coco.statistics(predictions, truth), golden["coco/stats"], rtol=0, atol=1e-12)


def test_the_score_is_the_first_of_the_twelve_numbers(drawn, golden):
    truth, predictions = drawn

    score = coco.score(predictions, truth)

    assert score.values["ap"] == pytest.approx(golden["coco/stats"][0], abs=1e-12)
    assert score.samples == 12


def scattered(seed, images=10, classes=4, most=12):
    """(predictions, truth) in which every rule decides somewhere: crowds, areas on the bounds of the three sizes,
    boxes that are equal, whole numbers (overlaps of exactly 0.5), equal scores, more than 100 detections of a class,
    classes that nothing or nobody has, and images without either."""
    state = np.random.RandomState(seed)
    sides = np.array([4, 16, 32, 32, 64, 96, 96, 150])

    def boxes(n):
        near, size = state.randint(0, 200, (n, 2)), sides[state.randint(0, len(sides), (n, 2))]
        return np.hstack([near, size]).astype(np.float64)

    truth, predictions = [], []
    for i in range(images):
        n = 0 if i % 5 == 4 else state.randint(0, most)
        labelled, labels = boxes(n), state.randint(0, classes + 1, n)
        near = state.random_sample(n - n // 2) < 0.5  # two of a kind side by side, of which one may be a crowd
        labelled[n // 2 :][near] = (labelled[: n - n // 2] + state.randint(0, 9, (n - n // 2, 4)))[near]
        labels[n // 2 :][near] = labels[: n - n // 2][near]
        areas = labelled[:, 2] * labelled[:, 3] * state.choice([1, 1, 0.7], n)
        truth.append(Objects(labelled, labels, areas, state.random_sample(n) < 0.2))
        false = boxes(0 if i % 7 == 6 else 130 if i == 1 else state.randint(0, most))
        moved = labelled.repeat(2, axis=0) + state.randint(-6, 7, (2 * n, 4)) * (state.random_sample((2 * n, 1)) < 0.6)
        kept = state.random_sample(2 * n) < 0.7
        rows = np.vstack([moved[kept], false])
        kinds = np.concatenate([labels.repeat(2)[kept], np.where(i == 1, 1, state.randint(0, classes + 3, len(false)))])
        rows[:, 2:] = rows[:, :2] + rows[:, 2:].clip(min=0)
        scores = np.round(state.random_sample(len(rows)), 1 if seed % 2 else 6)
        if i == 3:
            rows, kinds, scores = rows[:0], kinds[:0], scores[:0]
        predictions.append(
            {"boxes": rows.astype(np.float32), "scores": scores.astype(np.float32), "labels": kinds.astype(np.int64)}
        )
    return predictions, truth


@pytest.mark.parametrize("seed", range(20))
def test_the_twelve_numbers_are_those_of_pycocotools(seed):
    predictions, truth = scattered(seed)

    witness = witness_coco.twelve(predictions, truth)

    np.testing.assert_allclose(coco.statistics(predictions, truth), witness, rtol=0, atol=1e-12)
    assert coco.score(predictions, truth).values["ap"] == pytest.approx(witness[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_a_draw_has_the_ap_that_pycocotools_gives_the_drawn_pictures(seed):
    predictions, truth = scattered(2 * seed)  # no two scores of a picture are equal
    weights = np.random.RandomState(seed).multinomial(len(truth), np.full(len(truth), 1 / len(truth)))
    places = np.repeat(np.arange(len(truth)), weights)
    witness = witness_coco.twelve([predictions[i] for i in places], [truth[i] for i in places])[0]

    drawn = coco.score(predictions, truth).resample(weights)["ap"]

    assert drawn == pytest.approx(np.nan if witness == -1 else witness, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("what", ["nothing found", "nothing there", "neither", "crowds only", "another class"])
def test_what_is_undefined_is_so_where_pycocotools_says_so(what):
    things = [] if what in ("nothing there", "neither") else [thing(0, 0, 50, 50, 1, what == "crowds only")]
    seen = [] if what in ("nothing found", "neither") else [thing(0, 0, 50, 50, 2 if what == "another class" else 1)]
    truth, predictions = [truth_of(*things)], [found(*seen, scores=[0.5] * len(seen))]

    witness = witness_coco.twelve(predictions, truth)

    np.testing.assert_array_equal(coco.statistics(predictions, truth), witness)
    ap = coco.score(predictions, truth).values["ap"]
    assert ap == pytest.approx(np.nan if witness[0] == -1 else witness[0], nan_ok=True)


@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_a_label_that_is_no_number_counts_as_in_pycocotools(column):
    predictions, truth = scattered(2)
    broken = truth[0].boxes.copy()
    broken[::2, column] = np.nan
    truth[0] = Objects(broken, truth[0].labels, broken[:, 2] * broken[:, 3], truth[0].crowd)

    witness = witness_coco.twelve(predictions, truth)

    np.testing.assert_allclose(coco.statistics(predictions, truth), witness, rtol=0, atol=1e-12)


@pytest.mark.parametrize("at", range(0, 101, 5))
@pytest.mark.parametrize("objects", [7, 20, *(pytest.param(many, marks=pytest.mark.slow) for many in (50, 100))])
def test_a_recall_that_is_reached_exactly_counts(at, objects):
    """`at` percent of the objects are found: a share on one of the 101 recalls or beside it (19 of 20 is less than
    what linspace has for 0.95)."""
    hits = round(at * objects / 100)
    things = [thing(20 * i, 0, 10, 10) for i in range(objects)]
    truth = [truth_of(*things)]
    predictions = [found(*things[:hits], scores=np.linspace(1, 0.5, hits))]

    ap = coco.score(predictions, truth).values["ap"]

    assert ap == pytest.approx(witness_coco.twelve(predictions, truth)[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_resampling_with_whole_weights_equals_a_set_with_repeated_pictures(drawn, seed):
    truth, predictions = drawn
    weights = np.random.RandomState(seed).poisson(1, len(truth))
    places = np.repeat(np.arange(len(truth)), weights)
    repeated = witness_coco.twelve([predictions[i] for i in places], [truth[i] for i in places])

    resampled = coco.score(predictions, truth).resample(weights)

    assert resampled["ap"] == pytest.approx(repeated[0], abs=1e-12)


def test_resampling_keeps_to_repeated_pictures_where_scores_are_equal(drawn):
    truth, predictions = drawn
    coarse = [p | {"scores": np.sort(np.round(p["scores"], 1))[::-1]} for p in predictions]
    weights = np.arange(len(truth)) % 3
    places = np.repeat(np.arange(len(truth)), weights)
    repeated = witness_coco.twelve([coarse[i] for i in places], [truth[i] for i in places])

    resampled = coco.score(coarse, truth).resample(weights)

    assert resampled["ap"] == pytest.approx(repeated[0], abs=1e-12)


def test_a_hand_worked_case():
    truth = [truth_of(thing(0, 0, 10, 10), thing(50, 50, 10, 10))]
    predictions = [found(thing(0, 0, 10, 10), thing(90, 90, 5, 5), thing(50, 50, 10, 10), scores=[0.9, 0.8, 0.7])]

    ap = coco.score(predictions, truth).values["ap"]

    # 51 of the 101 recalls are at most 1/2, where the precision is 1; beyond it is 2/3
    assert ap == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_a_crowd_takes_detections_without_counting_them():
    objects = (thing(0, 0, 10, 10), thing(50, 50, 40, 40, crowd=True))
    predictions = [found(thing(55, 55, 10, 10), thing(0, 0, 10, 10), scores=[0.9, 0.8])]

    assert coco.score(predictions, [truth_of(*objects)]).values["ap"] == pytest.approx(1)


def test_a_set_without_objects_has_no_figure():
    score = coco.score([found(thing(0, 0, 5, 5), scores=[0.5])], [truth_of()])

    assert np.isnan(score.values["ap"])


def test_no_detection_scores_nothing():
    score = coco.score([found(scores=[])], [truth_of(thing(0, 0, 5, 5))])

    assert score.values["ap"] == 0


def test_the_81st_class_is_refused():
    with pytest.raises(RunError, match=r"a: labels are not one of 0\.\.79"):
        coco.score([found(thing(0, 0, 5, 5, label=80), scores=[0.5])], [truth_of()], ["a"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.array([np.nan], np.float32)}, "b: scores hold NaN"),
        ({"boxes": np.array([[0, 0, np.inf, 1]], np.float32)}, "b: boxes hold NaN"),
        ({"boxes": np.array([[5, 5, 1, 9]], np.float32)}, "b: a box has negative"),
        ({"boxes": np.zeros((2, 4), np.float32)}, "b: boxes are"),
        ({"labels": np.zeros(3, np.int64)}, "b: labels are not"),
        ({"labels": np.zeros((1, 1), np.int64)}, "b: labels are not"),
        ({"labels": np.array([-1])}, "b: labels are not"),
        ({"labels": np.array([80])}, "b: labels are not"),
        ({"scores": np.full((1, 1), 0.5, np.float32)}, r"b: boxes are \(1, 4\) and scores \(1, 1\)"),
    ],
)
def test_an_unusable_prediction_names_the_picture(change, message):
    good = found(thing(0, 0, 5, 5, label=79), scores=[0.5])

    with pytest.raises(RunError, match=message):
        coco.score([good, good | change], [truth_of(thing(0, 0, 5, 5))] * 2, ["a", "b"])


def test_doubled_names_are_refused():
    good = found(thing(0, 0, 5, 5), scores=[0.5])

    with pytest.raises(DataError, match="more than one result, first a"):
        coco.score([good, good], [truth_of()] * 2, ["a", "a"])


def test_the_reference_scores_one_against_itself(drawn):
    _, predictions = drawn

    truth = coco.truth_from_reference(predictions)

    assert coco.score(predictions, truth).values["ap"] == pytest.approx(1)
    assert sum(len(objects.labels) for objects in truth) >= 2 * len(predictions)


def test_truth_is_what_the_reference_is_sure_of_and_a_pixel_large():
    least, tall, wide, known = thing(0, 0, 1, 1), thing(9, 9, 0.75, 40), thing(9, 9, 40, 0.75), thing(5, 5, 10, 20, 3)
    seen = found(least, tall, wide, known, known, scores=[0.3, 0.9, 0.9, 0.4, 0.29])

    (truth,) = coco.truth_from_reference([seen])

    assert truth.boxes.tolist() == [[0, 0, 1, 1], [5, 5, 10, 20]]
    assert (truth.labels.tolist(), truth.areas.tolist(), truth.crowd.tolist()) == ([0, 3], [1, 200], [False, False])


def test_overlaps_at_which_a_class_is_matched_alike_share_a_curve():
    """A tenth of the time of a bootstrap: the second of two objects is found up to an overlap of 0.8, of ten."""
    one, other = thing(0, 0, 10, 10), thing(50, 50, 10, 10)
    predictions = [found(one, thing(50, 50, 10, 8), scores=[0.9, 0.8])]
    whole = coco._Set.of(predictions, [truth_of(one, other)], None)
    marks, _, counted = coco._matched(whole, coco.SIZES[0])

    (shared,), (each,) = (coco._Curves.of(whole, marks, counted, **more).shares for more in ({}, {"merged": False}))

    assert sorted(shared.tolist()) == pytest.approx([0.3, 0.7])
    assert each.tolist() == [0.1] * 10


def test_answers_are_the_objects_that_are_no_crowd():
    truth = [
        truth_of(thing(0, 0, 5, 5), thing(0, 0, 5, 5, 1)),
        truth_of(thing(0, 0, 5, 5), thing(0, 0, 9, 9, crowd=True)),
    ]

    assert coco.score([found(scores=[])] * 2, truth).answers == {"ap": 3}


def test_the_category_ids_are_80_in_rising_order_up_to_90():
    ids = coco.CATEGORY_IDS

    assert len(ids) == 80
    assert list(ids) == sorted(set(ids))
    assert (ids[0], ids[-1]) == (1, 90)
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & set(ids)


@pytest.mark.parametrize("missing", ["boxes", "scores", "labels"])
def test_a_part_that_is_missing_names_the_picture(missing):
    sound = found(thing(5, 5, 10, 10), scores=[0.9])
    without = {key: value for key, value in sound.items() if key != missing}

    with pytest.raises(RunError, match=f"b: the prediction has no {missing}"):
        coco.score([sound, without], [truth_of(thing(5, 5, 10, 10))] * 2, ["a", "b"])


def test_extents_are_subtracted_in_single_precision_as_the_authors_do():
    corners = np.array([[1000.1, 500.2, 1000.7, 500.9]])
    single = corners.astype(np.float32)

    assert coco._xywh(corners)[0, 2:].tolist() == (single[0, 2:] - single[0, :2]).astype(np.float64).tolist()
    assert coco._xywh(corners)[0, 2] != corners[0, 2] - corners[0, 0]


def test_matching_and_interpolating_are_machine_code():
    """In Python they take a hundred times as long."""
    loops = (interpolation._overlap, interpolation.match, interpolation.average_precision)

    assert all(len(loop.nopython_signatures) == 1 for loop in loops)
