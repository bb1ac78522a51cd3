"""WIDER FACE's result files: written as the authors write them, read with their line; usual mistakes are named."""

import os

import numpy as np
import pytest
from metrics_faces import one_face

from harness.errors import DataError, RunError
from harness.metrics import widerface, widertext

IDS = ["0--Parade/0_Parade_1", "1--Handshaking/1_Handshaking_2"]


@pytest.fixture
def results(tmp_path):
    widertext.write(tmp_path, IDS, [one_face(0.95), one_face(0.123456)])
    return tmp_path


def test_a_result_file_has_the_authors_lines(results):
    assert (results / f"{IDS[0]}.txt").read_text() == "0_Parade_1\n1\n10 10 30 30 0.95 \n"


def test_result_files_read_back_as_the_rows_they_were_written_from(results):
    assert [rows.tolist() for rows in widertext.read(results, IDS)] == [
        [[10, 10, 30, 30, 0.95]],
        [[10, 10, 30, 30, 0.123456]],
    ]


def test_no_face_is_a_file_with_a_zero(tmp_path):
    nothing = {"boxes": np.empty((0, 4), np.float32), "scores": np.empty(0, np.float32)}
    widertext.write(tmp_path, IDS[:1], [nothing])

    (rows,) = widertext.read(tmp_path, IDS[:1])

    assert rows.shape == (0, 5)


def test_a_bad_prediction_leaves_no_file(tmp_path):
    with pytest.raises(RunError):
        widertext.write(tmp_path, IDS, [one_face(), one_face(np.nan)])

    assert list(tmp_path.iterdir()) == []


def test_a_short_list_of_predictions_leaves_no_file(tmp_path):
    with pytest.raises(DataError, match="have no result"):
        widertext.write(tmp_path, IDS, [one_face()])

    assert list(tmp_path.iterdir()) == []


def test_a_missing_result_file_is_named(results):
    (results / f"{IDS[1]}.txt").unlink()

    with pytest.raises(DataError, match=f"lacks the results of 1 of 2 pictures, first {IDS[1]}.txt"):
        widertext.read(results, IDS)


def test_an_ending_in_capitals_is_an_ending(results):
    (results / f"{IDS[1]}.txt").rename(results / f"{IDS[1]}.TXT")

    assert [len(rows) for rows in widertext.read(results, IDS)] == [1, 1]
    assert [path.name for path in widertext.result_files(results)] == ["0_Parade_1.txt", "1_Handshaking_2.TXT"]


def test_a_doubled_result_file_is_named(results):
    (results / "0--Parade" / "copy.txt").write_text((results / f"{IDS[0]}.txt").read_text())

    with pytest.raises(DataError, match=rf"copy\.txt and .*_1\.txt are both results of {IDS[0]}"):
        widertext.read(results, IDS)


def test_a_result_file_of_no_picture_is_named(results):
    (results / "0--Parade" / "stray.txt").write_text("stray\n0\n")

    with pytest.raises(
        DataError, match=r"results of 1 pictures that are not in the data set, first .*0--Parade/stray\.txt"
    ):
        widertext.read(results, IDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no name and number"),
        ("0_Parade_1\n", "no name and number"),
        ("0_Parade_1\nmany\n", "no name and number"),
        ("0_Parade_1\n" + "9" * 5000 + "\n", "no name and number"),
        ("0_Parade_1\n٣\n", "no name and number"),
        ("\ufeff0_Parade_1\n0\n", ".txt:1 begins with a byte-order mark"),
        ("D:\\wider\\0--Parade\\0_Parade_1.jpg\n0\n", ".txt:1 says 'D:\\\\wider"),
        ("0--Parade\\0_Parade_1\n0\n", ".txt:1 says '0--Parade"),
        ("0_Parade_1.JPG\n0\n", ".txt:1 says '0_Parade_1.JPG', the name of no picture in 0--Parade"),
        ("0_Parade_1.png\n0\n", ".txt:1 says '0_Parade_1.png'"),
        ("0_Parade_1\n2\n1 2 3 4 0.5 \n", "has 1 faces, its second line says 2"),
        ("0_Parade_1\n0\n1 2 3 4 0.5 \n", "has 1 faces, its second line says 0"),
        ("0_Parade_1\n1\n1 2 3 4 nan \n", ":3 holds NaN"),
        ("0_Parade_1\n1\n1 2 3 inf 0.5 \n", ":3 holds NaN"),
        ("0_Parade_1\n1\n1 2 -3 4 0.5 \n", ":3 has a negative width"),
        ("0_Parade_1\n2\n1 2 3 4 0.6 \n1 2 3 -0.5 0.5 \n", ":4 has a negative width"),
        ("0_Parade_1\n3\n1 2 3 4 0.6 \n1 2 3 4 0.6 \n1 2 -3 4 0.5 \n", ":5 has a negative width"),
        ("0_Parade_1\n3\n1 2 3 4 0.6 \n\n1 2 3 4 0.6 \ninf 2 3 4 0.5 \n", ":6 holds NaN"),
        ("0_Parade_1\n1\n-1 -2 3 4 0.5 \n2\n", "has 2 faces, its second line says 1"),
        ("0_Parade_1\n2\n1 2 3 4 0.5 \n1 2 3 4 \n", ":4 is not five numbers"),
        ("0_Parade_1\n1\n1 2 3 4 high \n", ":3 is not five numbers"),
        ("0_Parade_1\n1\n1_0 2 3 4 0.5 \n", ":3 is not five numbers"),
        ("0_Parade_1\n1\n1,2,3,4,0.5\n", ":3 is not five numbers"),
    ],
)
def test_a_damaged_result_file_is_refused_with_its_line(results, text, message):
    (results / f"{IDS[0]}.txt").write_text(text)

    with pytest.raises(DataError, match="0_Parade_1") as error:
        widertext.read(results, IDS)

    assert message in str(error.value)


@pytest.mark.parametrize("first", ["0--Parade/x_peg_j.jpg", "x_peg_j.jpg", "x_peg_j", "/a/b/x_peg_j.jpg ", "x_peg_j\r"])
def test_only_the_ending_is_taken_from_a_name(tmp_path, first):
    """Names end in g, j and p, too."""
    (tmp_path / "0--Parade").mkdir()
    (tmp_path / "0--Parade" / "x_peg_j.txt").write_text(f"{first}\n1\n1 2 3 4 0.5\n", newline="")

    assert widertext.read(tmp_path, ["0--Parade/x_peg_j"])[0].tolist() == [[1, 2, 3, 4, 0.5]]


def test_a_result_file_of_no_picture_that_names_none_is_named(results):
    (results / "0--Parade" / "stray.txt").write_text("C:\\stray.jpg\n0\n")

    with pytest.raises(DataError, match=r"stray\.txt:1 says 'C:"):
        widertext.read(results, IDS)


def test_of_a_long_first_line_eighty_characters_are_told(results):
    (results / f"{IDS[0]}.txt").write_text("x" * 100 + "\n0\n")

    with pytest.raises(DataError, match=f":1 says '{'x' * 80}', the name of no picture"):
        widertext.read(results, IDS)


def test_bytes_that_are_not_utf_8_are_named_with_their_line(results):
    (results / f"{IDS[0]}.txt").write_bytes(b"0_Parade_1\n0\n" + "脸".encode("gbk"))

    with pytest.raises(DataError, match=r"0_Parade_1\.txt cannot be read: line 3 is not UTF-8 \(byte 0xc1\)"):
        widertext.read(results, IDS)
    (results / f"{IDS[0]}.txt").write_bytes(b"\n\n\xc1")
    with pytest.raises(DataError, match="line 3 is not"):
        widertext.read(results, IDS)
    (results / f"{IDS[0]}.txt").write_text("0_Parade_1\n0\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"0_Parade_1\.txt cannot(.|\n)*iconv -f UTF-16 -t UTF-8 .*0_Parade_1\.txt"):
        widertext.read(results, IDS)


def test_a_pipe_is_no_result_file(results):
    (results / f"{IDS[0]}.txt").unlink()
    os.mkfifo(results / f"{IDS[0]}.txt")

    with pytest.raises(DataError, match=r"0_Parade_1\.txt cannot be read: it is not a file"):
        widertext.read(results, IDS)


FACE = np.array([[20, 380, 40, 50], [300, 10, 60, 70]], np.float64)  # one at the left, one at the top
TRUTH = [widerface.Faces(FACE, np.ones((3, 2), bool))]


def said(boxes, scores):
    found = [np.column_stack([boxes, scores])]
    return widertext.notes(found, TRUTH, widerface.evaluate(found, TRUTH))


@pytest.mark.parametrize(("lowest", "cut"), [(0.02, False), (0.09, False), (0.3, True), (0.503, True)])
def test_a_cut_shows_in_the_lowest_score(lowest, cut):
    notes = said(FACE, [0.99, lowest])

    assert [f"the lowest score of 2 is {lowest:g}" in note for note in notes] == [True] * cut
    assert all(note.endswith("the published ones keep scores from 0.02") for note in notes)


def test_corners_in_the_place_of_sizes_show():
    corners = np.column_stack([FACE[:, :2], FACE[:, :2] + FACE[:, 2:]])

    (note,) = said(corners, [0.99, 0.02])

    assert "look like corners (x1 y1 x2 y2)" in note
    assert "ap_hard is 100.00 % instead of" in note


def test_both_readings_of_corners_are_told_in_percent():
    """One of two faces is found when the rows are read as corners; the other row is elsewhere. No face is found as
    they are."""
    truth = [widerface.Faces(np.array([[200, 150, 40, 50], [700, 700, 60, 70]], np.float64), np.ones((3, 2), bool))]
    found = [np.array([[200, 150, 240, 200, 0.9], [500, 500, 590, 590, 0.02]])]

    (note,) = widertext.notes(found, truth, widerface.evaluate(found, truth))

    assert "ap_hard is 50.00 % instead of 0.00 %" in note


@pytest.mark.parametrize(("corners", "told"), [(19, False), (20, True)])
def test_rows_look_like_corners_when_over_95_percent_do(corners, told):
    """One row more that cannot be corners: 19 of 20 are 95 %, 20 of 21 are more."""
    x = 100.0 * np.arange(20)
    truth = [widerface.Faces(np.column_stack([x, x, x * 0 + 30, x * 0 + 40]), np.ones((3, 20), bool))]
    rows = np.column_stack([x, x, x + 30, x + 40, np.linspace(0.9, 0.02, 20)])[:corners]
    found = [np.vstack([rows, [900, 900, 10, 10, 0.01]])]

    assert (
        any("look like corners" in note for note in widertext.notes(found, truth, widerface.evaluate(found, truth)))
        == told
    )


def test_large_faces_at_the_corner_of_a_picture_are_no_corners():
    """Their width and height are above their x and y, and they are right as they are."""
    box = np.array([[4, 6, 200, 260]], np.float64)
    truth = [widerface.Faces(box, np.ones((3, 1), bool))]
    found = [np.column_stack([box, [0.02]])]

    assert widertext.notes(found, truth, widerface.evaluate(found, truth)) == []


def test_centres_in_the_place_of_corners_show():
    (note,) = said(np.column_stack([FACE[:, :2] + FACE[:, 2:] / 2, FACE[:, 2:]]), [0.99, 0.02])

    assert "look like centres (cx cy width height)" in note
    assert "ap_hard is 100.00 % instead of" in note


def test_a_model_that_finds_nothing_has_no_note_on_centres():
    assert said(FACE + 400, [0.99, 0.02]) == []


def test_boxes_in_parts_of_the_picture_show():
    (note,) = said(FACE / 1024, [0.99, 0.02])

    assert note.startswith("all boxes lie between 0 and 1")


@pytest.mark.parametrize("column", range(4))
def test_one_number_above_one_is_in_pixels(column):
    boxes = np.full((2, 4), 0.5)
    boxes[1, column] = 1.5

    assert not any("between 0 and 1" in note for note in said(boxes, [0.9, 0.02]))
    boxes[1, column] = 1.0
    assert any("between 0 and 1" in note for note in said(boxes, [0.9, 0.02]))


@pytest.mark.parametrize("scores", [[99, 2], [0.9, -3]])
def test_scores_that_are_none_show(scores):
    assert any("the fifth number of a line is the score" in note for note in said(FACE, scores))


def test_a_face_may_be_less_than_a_pixel_large(results):
    (results / f"{IDS[0]}.txt").write_text("0_Parade_1\n2\n1 2 0 0.5 0.5 \n-1 -2 0.5 0 0.5 \n")

    assert widertext.read(results, IDS)[0].tolist() == [[1, 2, 0, 0.5, 0.5], [-1, -2, 0.5, 0, 0.5]]


def test_two_things_that_are_wrong_are_both_told():
    scores, boxes = said(FACE / FACE.max(), [99, 2])

    assert scores == "scores go from 2 to 99, not from 0 to 1: the fifth number of a line is the score"
    assert boxes == "all boxes lie between 0 and 1: the files hold pixels of the picture as it is on disk"


@pytest.mark.parametrize("scores", [[1.0, 0.0], [1.0, 0.0999]])
def test_scores_from_0_to_1_show_nothing(scores):
    assert said(FACE, scores) == []


def test_no_faces_at_all_show_nothing():
    assert said(np.empty((0, 4)), []) == []


def test_a_result_file_that_is_no_text_is_refused(results):
    (results / f"{IDS[0]}.txt").write_bytes(b"\xff\xfe\x00\x01")

    with pytest.raises(DataError, match="cannot be read"):
        widertext.read(results, IDS)


@pytest.mark.parametrize("where", ["pred/{}", "flat"])
def test_results_that_lie_elsewhere_are_named_with_the_way_there(results, where):
    for sample in IDS:
        path = results / f"{sample}.txt"
        other = results / {"flat": f"{path.stem}.txt"}.get(where, where.format(sample))
        other = other.with_suffix(".txt")
        other.parent.mkdir(parents=True, exist_ok=True)
        path.rename(other)

    with pytest.raises(DataError, match=r"holds no result <event>/<name>\.txt of a picture, but .*_1\.txt") as caught:
        widertext.read(results, IDS)
    assert "folders of the events" in caught.value.hint


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"of a picture\n"):
        widertext.read(tmp_path, IDS)


def test_macos_own_files_are_no_results(results):
    (results / "0--Parade" / "._0_Parade_1.txt").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")

    assert len(widertext.read(results, IDS)) == 2


def test_a_missing_result_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        widertext.read(tmp_path / "nowhere", IDS)
