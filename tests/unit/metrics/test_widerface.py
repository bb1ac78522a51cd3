"""WIDER FACE AP is the authors' to the last digit, and bad result files are refused by name."""

from pathlib import Path

import golden_rules_metrics
import numpy as np
import plain_metrics
import pytest
from metrics_faces import one_face

from harness.datasets.widerface import ground_truth
from harness.errors import DataError, RunError
from harness.metrics import widerface
from harness.metrics.widerface import Faces

NAMES = ("easy", "medium", "hard")


@pytest.fixture(scope="module")
def golden():
    """Computed with the authors' programs."""
    with np.load(Path(__file__).parents[2] / "support" / "golden" / "wider_ap.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def real_truth(request):
    data = request.config.getoption("--data", default=None)
    folder = None if data is None else Path(data) / "widerface" / "ground_truth"
    if folder is None or not folder.is_dir():
        pytest.skip("needs --data with widerface/ground_truth, the authors' four .mat files")
    return ground_truth(folder)


def labelled(*boxes, counted=None):
    flags = np.ones((3, len(boxes)), bool) if counted is None else np.tile(np.asarray(counted, bool), (3, 1))
    return Faces(np.array(boxes, float).reshape(-1, 4), flags)


def test_overlaps_equal_the_authors(golden):
    boxes, query, *_ = golden_rules_metrics.face_parts()

    def sized(corners):
        return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])

    np.testing.assert_array_equal(widerface.overlaps(sized(boxes), sized(query)), golden["unit/overlaps"])


def test_a_face_of_negative_width_as_the_ground_truth_has_one_overlaps_nothing():
    point = np.array([[0, 0, 0, 0, 0.5]])

    assert widerface.overlaps(point, np.array([[5.0, 5, -2, 0], [0, 0, -2, 23]])).tolist() == [[0, 0]]


def test_the_counts_of_one_picture_equal_the_authors(golden):
    _, _, rows, boxes, counted, _, _ = golden_rules_metrics.face_parts()

    tally = widerface.tally([rows], [labelled(*boxes, counted=counted)], (0.0, 1.0))

    np.testing.assert_array_equal(np.stack([tally.proposals[0], tally.found[0]], 1), golden["unit/img_pr_info"])


def test_the_area_under_a_curve_equals_the_authors(golden):
    *_, recall, precision = golden_rules_metrics.face_parts()

    assert widerface.area(recall, precision) == pytest.approx(golden["unit/voc_ap"], abs=1e-15)


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_on_the_real_ground_truth_the_ap_is_the_authors(golden, real_truth, variant):
    found = golden_rules_metrics.faces(real_truth, variant)
    truth = list(real_truth.values())

    score = widerface.evaluate(found, truth, list(real_truth))
    tally = widerface.tally(found, truth, widerface.score_range(found))

    np.testing.assert_allclose([score.values[f"ap_{n}"] for n in NAMES], golden[f"v{variant}/ap"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(tally.faces, golden[f"v{variant}/count_face"])
    for s, name in enumerate(NAMES):
        sums = np.stack([tally.proposals[s], tally.found[s]], 1)
        np.testing.assert_array_equal(sums, golden[f"v{variant}/{name}_pr_sum"])


def test_the_real_ground_truth_is_the_published_one(real_truth):
    counted = sum(faces.counted.sum(1) for faces in real_truth.values())

    assert len(real_truth) == 3226
    assert sum(len(faces.boxes) for faces in real_truth.values()) == 39_708
    assert counted.tolist() == [7_211, 13_319, 31_958]


@pytest.mark.parametrize("order", ["best first", "shuffled", "many ties"])
def test_the_ap_equals_a_step_by_step_evaluation(order):
    found, truth = plain_metrics.crowd(12, 40)
    state = np.random.RandomState(5)
    if order == "shuffled":
        found = [rows[state.permutation(len(rows))] for rows in found]
    if order == "many ties":
        found = [np.column_stack([rows[:, :4], np.round(rows[:, 4], 1)]) for rows in found]
    found[3] = found[3][:0]
    truth[5] = labelled()

    values = widerface.evaluate(found, truth).values

    np.testing.assert_allclose(list(values.values()), plain_metrics.evaluate(found, truth), rtol=0, atol=1e-12)


def test_rows_that_are_not_best_first_are_found():
    found, _ = plain_metrics.crowd(3, 5)
    found[1] = found[1][::-1]

    assert widerface.unsorted(found) == [1]


def test_a_hand_worked_curve():
    truth = [labelled((0, 0, 9, 9), (50, 50, 9, 9))]
    rows = np.array([[0, 0, 9, 9, 1.0], [80, 80, 9, 9, 0.8], [50, 50, 9, 9, 0.6], [0, 0, 9, 9, 0.0]])

    values = widerface.evaluate([rows], truth).values

    # recall 1/2 at precision 1, then 2/2 at precision 2/3; a second hit of the first face changes nothing before
    assert values["ap_hard"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_detections_on_faces_that_do_not_count_are_neither_right_nor_wrong():
    truth = [labelled((0, 0, 9, 9), (50, 50, 9, 9), counted=(True, False))]
    alone = widerface.evaluate([np.array([[0, 0, 9, 9, 0.9], [70, 0, 9, 9, 0.1]])], truth)

    both = widerface.evaluate([np.array([[50, 50, 9, 9, 1.0], [0, 0, 9, 9, 0.9], [70, 0, 9, 9, 0.1]])], truth)

    assert both.values == alone.values == {f"ap_{n}": 1.0 for n in NAMES}


@pytest.mark.parametrize("counted", [(True, False), (False, True)])
def test_of_two_faces_that_a_detection_meets_alike_the_first_is_found(counted):
    """As np.argmax in the authors' program: two boxes of the ground truth may be equal."""
    face, elsewhere = [10.0, 10.0, 20.0, 20.0], [100.0, 100.0, 10.0, 10.0]
    rows = np.array([[*face, 0.9], [*elsewhere, 0.1]])

    tally = widerface.tally([rows], [labelled(face, face, counted=counted)], (0.1, 0.9))

    assert tally.found[0, -1] == counted[0]
    assert tally.faces[0] == 1


def test_resampling_with_whole_weights_equals_a_set_with_repeated_pictures():
    found, truth = plain_metrics.crowd(10, 30)
    weights = np.array([1, 0, 3, 1, 2, 0, 1, 1, 5, 1])
    places = np.repeat(np.arange(10), weights)
    # the range of scores is that of the whole set, also for pictures that were not drawn
    tally = widerface.tally([found[i] for i in places], [truth[i] for i in places], widerface.score_range(found))

    resampled = widerface.evaluate(found, truth).resample(weights)

    assert resampled == pytest.approx(tally.ap(), abs=1e-12)


def test_no_detection_at_all_scores_nothing():
    values = widerface.evaluate([np.empty((0, 5))] * 2, [labelled((0, 0, 9, 9))] * 2).values

    assert list(values.values()) == [0, 0, 0]


def test_equal_scores_score_nothing_as_in_the_authors_program():
    rows = np.array([[0, 0, 9, 9, 0.7]])

    assert widerface.evaluate([rows], [labelled((0, 0, 9, 9))]).values["ap_easy"] == 0


def test_a_setting_without_a_face_has_no_figure():
    values = widerface.evaluate([np.empty((0, 5))], [labelled((0, 0, 9, 9), counted=(False,))]).values

    assert all(np.isnan(v) for v in values.values())


def test_ten_thousand_detections_in_a_picture_and_none_in_the_next():
    found, truth = plain_metrics.crowd(2, 10_000)
    found[1] = found[1][:0]

    values = widerface.evaluate(found, truth).values

    np.testing.assert_allclose(list(values.values()), plain_metrics.evaluate(found, truth), atol=1e-12)


def test_tallies_with_other_score_ranges_are_not_added():
    found, truth = plain_metrics.crowd(4, 10)
    parts = [
        widerface.tally(found[i : i + 2], truth[i : i + 2], widerface.score_range(found[i : i + 2])) for i in (0, 2)
    ]

    with pytest.raises(RunError, match="score ranges differ") as error:
        parts[0] + parts[1]

    assert "whole set" in error.value.hint


def test_a_prediction_counts_as_its_result_file_does():
    prediction = {
        "boxes": np.array([[1.9, -0.9, 12.2, 20.99]], np.float32),
        "scores": np.array([0.1], np.float32),
    }

    rows = widerface.rows(prediction)

    assert rows.tolist() == [[1, 0, 11, 20, 0.1]]  # cut towards zero; 0.1, not the float32 nearest to it


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prediction_with_nan_names_the_picture(bad):
    with pytest.raises(RunError, match="b/2: scores hold NaN"):
        widerface.score([one_face(), one_face(bad)], [labelled((1, 1, 5, 5))] * 2, ["a/1", "b/2"])


def test_a_prediction_with_a_negative_size_names_the_picture():
    with pytest.raises(RunError, match="a/1: a box has negative"):
        widerface.score([one_face(box=(10, 10, -3, 5))], [labelled((1, 1, 5, 5))], ["a/1"])


def test_a_short_set_is_refused():
    with pytest.raises(DataError, match="1 predictions for 2 samples"):
        widerface.score([one_face()], [labelled((1, 1, 5, 5))] * 2)


def test_the_reference_scores_one_against_itself():
    state = np.random.RandomState(3)
    predictions = []
    for _ in range(6):
        near = state.randint(0, 20, (8, 2)) * 40
        scores = np.sort(state.random_sample(8).astype(np.float32) * 0.3)[::-1]
        boxes = np.hstack([near, near + state.randint(10, 39, (8, 2))]).astype(np.float32)
        _, first = np.unique(near, axis=0, return_index=True)
        predictions.append({"boxes": boxes[np.sort(first)], "scores": scores[np.sort(first)]})

    truth = widerface.truth_from_reference(predictions)
    values = widerface.score(predictions, truth).values

    assert min(values.values()) > 0.99
    totals = sum(faces.counted.sum(1) for faces in truth)
    assert 0 < totals[0] < totals[1] < totals[2]


def test_a_reference_that_finds_nothing_is_no_truth():
    empty = {"boxes": np.empty((0, 4), np.float32), "scores": np.empty(0, np.float32)}

    with pytest.raises(RunError, match="found nothing on 2 images"):
        widerface.truth_from_reference([empty, empty])


def test_tallies_of_parts_add_up_to_that_of_the_whole_set():
    found, truth = plain_metrics.crowd(9, 20)
    span = widerface.score_range(found)

    one, two, three = (widerface.tally(found[i : i + 3], truth[i : i + 3], span) for i in (0, 3, 6))
    total = one + two + three

    assert total.faces.tolist() == [sum(faces.counted[s].sum() for faces in truth) for s in range(3)]
    assert total.score_range == span
    np.testing.assert_allclose(list(total.ap().values()), plain_metrics.evaluate(found, truth), rtol=0, atol=1e-12)


def test_a_score_says_of_how_many_faces_and_pictures_it_is():
    truth = [labelled((0, 0, 9, 9), (50, 50, 9, 9), counted=(True, False)), labelled((5, 5, 9, 9))]

    score = widerface.evaluate([np.empty((0, 5))] * 2, truth)

    assert score.answers == {f"ap_{name}": 2 for name in NAMES}
    assert score.samples == 2


@pytest.mark.parametrize(
    ("scores", "span"),
    [([0.3, 0.7], (0.3, 0.7)), ([3.0, 5.0], (1.0, 5.0)), ([-2.0, -1.0], (-2.0, 0.0)), ([], (1.0, 0.0))],
)
def test_the_range_of_scores_starts_at_1_or_below_and_ends_at_0_or_above(scores, span):
    rows = [np.column_stack([np.zeros((1, 4)), [score]]) for score in scores]

    assert widerface.score_range([np.empty((0, 5)), *rows]) == span


@pytest.mark.parametrize(
    "score", [1e-30, 9.9e-5, 1e-4, 1.0001e-4, 0.1, 0.30000001, 0.99999994, 1.0, 1.0000001, 7.3, 0.0]
)
def test_a_score_is_read_as_its_shortest_decimal(score):
    given = np.array([score, 0.5], np.float32)

    assert widerface.shortest_decimal(given).tolist() == [float(str(given[0])), 0.5]


@pytest.mark.parametrize(("number", "easy", "medium"), [(8, 3, 6), (9, 3, 6), (10, 4, 7), (12, 4, 8)])
def test_of_the_references_faces_the_tallest_third_is_easy_and_two_thirds_are_medium(number, easy, medium):
    """Faces 10, 20, ... high, the tall ones narrow: a third of eight is taken as three, two thirds as six."""
    high = np.arange(10 * number, 0, -10, dtype=np.float32)
    corners = np.column_stack([high * 0, high * 0, 10 * number + 10 - high, high])
    halves = [{"boxes": part, "scores": np.full(len(part), 0.5, np.float32)} for part in (corners[::2], corners[1::2])]

    truth = widerface.truth_from_reference(halves)

    heights = np.concatenate([faces.boxes[:, 3] for faces in truth])
    counted = np.concatenate([faces.counted for faces in truth], axis=1)
    assert [sorted(heights[row], reverse=True) for row in counted] == [
        high[:most].tolist() for most in (easy, medium, number)
    ]
