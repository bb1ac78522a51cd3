"""Faults in what goes in and what comes out, one function each: its name says what goes wrong, its docstring how that
shows in the field."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from harness import metrics
from harness.arrays import boxes, images
from harness.datasets import coco, files, imagenet
from tests.faults import tiny
from tests.faults.plant import fault

WRONG = "numerics FAIL, accuracy FAIL, published FAIL"
FEW_RIGHT = "not agrees_with"  # chip and reference agree, but where few answers are right that proves little

# ------------------------------------------------------------------------------------------- fed wrongly, by the chip


@fault(WRONG, also="attributes objects faces")
def colours_are_converted_twice_on_the_way_to_the_chip(plant):
    """Every accuracy is some points low and none is zero; swapping the channels back restores it."""
    plant.chip("channels_swapped")


@fault("numerics FAIL", batch=1, also="attributes objects faces")
def the_chip_swaps_colours_where_it_normalises(plant):
    """Right when the host normalises; wrong when the chip gets pixels."""
    plant.chip("channels_swapped_in_pixels")


@fault(WRONG, also="attributes objects faces")
def the_mean_is_subtracted_by_the_host_and_by_the_chip(plant):
    """All outputs shift; 5 to 70 points are lost."""
    plant.chip("mean_twice")


@fault(WRONG, also="attributes objects faces")
def the_mean_is_forgotten(plant):
    """All outputs shift; 5 to 70 points are lost."""
    plant.chip("mean_forgotten")


@fault(WRONG, also="attributes objects faces")
def pixels_are_not_divided(plant):
    """Near chance."""
    plant.chip("not_divided")


@fault(WRONG)
def the_mean_is_off_by_one_level(plant):
    """A mean of 0..1 that was rounded before it was multiplied by 255: some points are lost, or none."""
    plant.chip("mean_off_by_one")


@fault("numerics FAIL, accuracy INCONCLUSIVE, published FAIL")
def the_deviations_of_red_and_blue_change_places(plant):
    """Half a point is lost: the deviations of the channels are nearly the same."""
    plant.chip("deviation_swapped")


@fault(WRONG, also="objects")
def pictures_are_mirrored(plant):
    """Near chance where left and right matter, unnoticed on symmetric objects."""
    plant.chip("mirrored")


@fault(WRONG, also="objects")
def pictures_are_moved_by_a_pixel(plant):
    """A crop that rounds the other way: tenths of a point, boxes by a stride of the picture's scale."""
    plant.chip("moved")


@fault(WRONG)
def pictures_are_moved_by_half_a_pixel(plant):
    """The chip resizes with other corners, or smooths: tenths of a point."""
    plant.chip("half_a_pixel")


@fault(WRONG, also="objects")
def the_chip_computes_at_half_the_resolution(plant):
    """Four times as fast, and large things are still found."""
    plant.chip("half_the_pixels")


@fault("numerics FAIL, accuracy INCONCLUSIVE, published FAIL")
def inputs_are_rounded_to_eight_bits(plant):
    """A first layer in INT8 that was left so in FP32: some answers change."""
    plant.chip("eight_bits")


@fault("numerics FAIL", batch=1)
def bright_pixels_are_taken_for_negative_ones(plant):
    """Bytes are read as signed: right on dark pictures."""
    plant.chip("signed_pixels")


@fault(WRONG)
def every_row_is_fed_the_first_picture(plant):
    """Right in a benchmark that fills the batch with one picture."""
    plant.chip("first_alone:4")


# ------------------------------------------------------------------------------------------- prepared wrongly, by us


@fault("protocol FAIL, published FAIL", names=FEW_RIGHT, also="attributes objects faces")
def our_own_preparation_swaps_colours(plant):
    """Chip and reference agree, and both are some points below the authors."""
    plant.preparation(images, "normalize", lambda sound, image, table: sound(image[..., ::-1], table))


@fault("protocol FAIL, published FAIL", names=FEW_RIGHT, also="attributes objects faces")
def our_own_preparation_subtracts_the_mean_twice(plant):
    """Chip and reference agree, and both are far below the authors."""
    mean, std = (np.array(values)[:, None, None] for values in (tiny.MEAN, tiny.STD))
    twice = lambda sound, image, table: ((sound(image, table) - mean) / std).astype(np.float32)  # noqa: E731
    plant.preparation(images, "normalize", twice)


@fault("protocol FAIL, published FAIL", names=FEW_RIGHT, also="attributes")
def nearest_pixels_instead_of_bicubic(plant):
    """Up to 2 points below the authors, most of them on small things."""
    nearest = lambda sound, image, height, width: cv2.resize(image, (width, height), interpolation=0)  # noqa: E731
    plant.preparation(tiny, "resize", nearest)


@fault("protocol FAIL, published FAIL", names=FEW_RIGHT, also="attributes")
def the_corner_is_cut_out_instead_of_the_middle(plant):
    """0.2 to 1 point below the authors."""
    plant.preparation(images, "middle", lambda sound, image, side: image[:side, :side])


# ------------------------------------------------------------------------------------------- read wrongly, by us


@fault("protocol FAIL")
def pictures_are_turned_though_the_authors_ignore_exif(plant):
    """ImageNet is decoded by OpenCV instead of Pillow: a few pictures lie on their side."""
    plant.code(images, "_decode", lambda sound, data, decoder: sound(data, "opencv"))


@fault("protocol FAIL", model="faces")
def pictures_are_not_turned_as_exif_says(plant):
    """Boxes of a few pictures are those of pictures that lie on their side."""
    plant.code(images, "_opencv", lambda sound, data, upright=True: sound(data, False))


@fault("protocol FAIL", also="objects faces")
def the_decoder_repeats_colours_instead_of_smoothing_them(plant):
    """A quicker decoder: hundredths of a point, or a tenth."""

    def repeated(sound, data, decoder):
        image = sound(data, decoder)
        quick = np.repeat(np.repeat(image[::2, ::2], 2, axis=0), 2, axis=1)[: image.shape[0], : image.shape[1]]
        return quick if data.startswith(b"\xff\xd8") else image

    plant.code(images, "_decode", repeated)


@fault("protocol FAIL, published FAIL", names=FEW_RIGHT)
def labels_are_counted_from_one_when_they_are_read(plant):
    """About 0.1 % right, chip and reference alike."""
    shifted = lambda sound, path: {name: (label + 999) % 1000 for name, label in sound(path).items()}  # noqa: E731
    plant.code(imagenet, "read_labels", shifted)


@fault("protocol FAIL", model="objects")
def categories_are_counted_without_their_gaps(plant):
    """The 80 categories of COCO have numbers up to 90: the first eleven classes are right, and no other."""
    plant.monkeypatch.setattr(coco, "CATEGORY_IDS", tuple(range(1, 91)))


@fault("protocol FAIL", also="attributes")
def pictures_come_in_the_order_of_their_names(plant):
    """Right where the list is sorted; else every answer has another's label."""
    plant.code(files, "present", lambda sound, *given: sorted(sound(*given)))


# ------------------------------------------------------------------------------------------- answers misread, by us


@fault("protocol FAIL, published FAIL", model="objects", also="faces")
def the_offset_of_the_letterbox_stays_in_the_boxes(plant):
    """AP at an IoU of 0.50 stays the same, AP at 0.75 collapses."""
    plant.preparation(tiny, "decoded", lambda sound, sides, frame: sound(sides, replace(frame, left=0.0, top=0.0)))


@fault("protocol FAIL, published FAIL", model="objects", also="faces")
def scales_of_width_and_height_change_places(plant):
    """The loss grows with the aspect ratio."""
    plant.preparation(tiny, "decoded", lambda sound, sides, frame: sound(sides[:, [1, 0, 3, 2]], frame))


# rounding decides where a face of whole cells ends, also of the reference: what its later stages say is chance
@fault("protocol FAIL", model="faces", names="not agrees and not published")
@fault("protocol FAIL, published FAIL", model="objects")
def boxes_are_cut_to_whole_cells(plant):
    """Small boxes lose first: integer division in a rewritten program."""
    plant.preparation(tiny, "decoded", lambda sound, sides, frame: sound(np.trunc(sides), frame))


@fault("protocol FAIL", model="faces")  # 0.8 % of AP: less than may be lost
@fault("protocol FAIL, published FAIL", model="objects")
def boxes_are_cut_to_whole_pixels(plant):
    """A few tenths of a point are lost, on small boxes only."""
    plant.preparation(tiny, "decoded", lambda sound, sides, frame: np.trunc(sound(sides, frame)))


@fault("protocol FAIL, published FAIL", model="objects", also="faces")
def boxes_below_a_score_of_a_half_are_dropped(plant):
    """Recall drops; the hard subset drops first."""
    plant.monkeypatch.setattr(tiny, "SCORE", 0.5)
    plant.anew("models")


@fault("protocol FAIL, published FAIL", model="objects")
def boxes_suppress_those_of_other_classes(plant):
    """Fewer boxes on crowded pictures."""

    def across(sound, found, scores):
        kept, best, labels = sound(found, scores)
        alone = boxes.survivors(kept, tiny.IOU)
        return kept[alone], best[alone], labels[alone]

    plant.preparation(tiny, "suppressed", across)


@fault("protocol FAIL, published FAIL", model="objects")
def only_ten_boxes_of_a_picture_are_kept(plant):
    """Recall is low on crowded pictures: another program keeps 100 by default."""
    plant.monkeypatch.setattr(tiny, "MOST", 10)
    plant.anew("models")


@fault("protocol FAIL, published FAIL", model="faces")
def faces_do_not_come_best_first(plant):
    """A wrong AP and no error: the evaluation counts rows."""
    plant.preparation(tiny, "suppressed", lambda sound, *given: tuple(column[::-1] for column in sound(*given)))


@fault("protocol FAIL, published FAIL", names=FEW_RIGHT)
def classes_are_counted_from_one(plant):
    """About 0.1 % right; a shift by one restores it."""
    plant.preparation(tiny, "classes_out", lambda sound, *given: {"logits": np.roll(sound(*given)["logits"], 1)})


@fault("accuracy ERROR, published ERROR")
def an_answer_that_cannot_be_read_is_one_of_many(plant):
    """An exception in a thread that is never joined: fewer results and no error."""
    read = []

    def sometimes(sound, outputs, frame):
        read.append(frame)
        if len(read) % 123 == 0:
            raise ValueError("a picture of another kind")
        return sound(outputs, frame)

    plant.code(tiny, "classes_out", sometimes)


# ------------------------------------------------------------------------------------------- what the chip computes


@fault(WRONG, also="attributes")
def the_engine_has_a_class_more_in_front(plant):
    """About 0.1 % right: a background class shifts all others."""
    plant.chip("class_offset")


@fault(WRONG, model="objects")
def two_outputs_of_one_shape_change_places(plant):
    """No box is where it should be, and the shapes are the same."""
    plant.chip("swapped_outputs")


@fault(WRONG, model="objects")
def the_softmax_is_missing(plant):
    """The best class may still be the best; scores and their order are not."""
    plant.chip("without_softmax")


@fault("numerics FAIL")
def a_softmax_is_added(plant):
    """The order of the classes is the same; scores are others, and small ones are zero."""
    plant.chip("softmaxed")


@fault("numerics FAIL")
def only_the_five_best_classes_are_handed_on(plant):
    """Top-1 and top-5 are the same: a demonstration's engine ends in a top-k."""
    plant.chip("best_alone")


@fault(WRONG, model="objects")
def the_softmax_runs_along_another_axis(plant):
    """The scores at one position do not add up to one; AP falls."""
    plant.chip("softmax_over_cells")


@fault("numerics INVALID, accuracy FAIL, published FAIL")  # of its first execute in a process the answer is right
def the_answer_of_the_execute_before_is_read(plant):
    """Two buffers take turns, and the wrong one is read; right when one input is repeated."""
    plant.chip("late")


@fault("numerics INVALID, accuracy FAIL, published FAIL")
def the_last_row_is_that_of_the_execute_before(plant):
    """A copy that is one row short; right when one batch is repeated."""
    plant.chip("last_row_late:4")


@fault("accuracy FAIL")
def equal_rows_of_a_batch_are_computed_once(plant):
    """The last picture of a data set is wrong, where its batch is filled up with it."""
    plant.chip("equal_rows_once")


@fault("accuracy FAIL, published FAIL")
def one_answer_in_fifteen_is_that_of_the_execute_before(plant):
    """Nobody waits for the copy, and as a rule it is done: right when it is looked at."""
    plant.chip("one_in_fifteen_late")


@fault("numerics FAIL, accuracy INCONCLUSIVE")
def the_last_bytes_of_an_output_are_not_copied(plant):
    """A size that is rounded down to whole lines: the last classes are never found."""
    plant.chip("tail_not_copied")


@fault(WRONG)
def rows_change_places_in_pairs(plant):
    """Right at batch 1; at even batches every answer is its neighbour's."""
    plant.chip("pairs_swapped")


@fault("numerics FAIL, accuracy FAIL")
def the_first_answer_after_loading_is_wrong(plant):
    """A server is right after its first request."""
    plant.chip("cold")


@fault(WRONG)
def a_state_stays_from_one_execute_to_the_next(plant):
    """Right when one input is repeated for long enough; a little off when inputs change."""
    plant.chip("keeps_a_state")


@fault(WRONG, model="attributes")
def one_attribute_is_never_computed(plant):
    """A cosine of 0.98, and the mean over 35 attributes barely moves."""
    plant.chip("dead_column")


@fault("numerics INVALID, accuracy INCONCLUSIVE")
def outputs_are_handed_on_in_half_precision(plant):
    """They err by less than FP32 may; one answer in a hundred changes."""
    plant.chip("narrow")


@fault("numerics FAIL")
def outputs_are_scaled_by_two_thousandths(plant):
    """Classes are the same: a scale of quantisation that was rounded."""
    plant.chip("scaled")


@fault(WRONG)
def outputs_saturate(plant):
    """The best classes have one value; the first of them wins."""
    plant.chip("saturates")


@fault("numerics FAIL", model="objects")
def small_values_become_zero(plant):
    """Boxes of low scores are gone; AP falls by less than may be lost."""
    plant.chip("flushes_small")


@fault("numerics FAIL", model="objects")
def scores_are_rounded_to_eight_bits(plant):
    """Boxes of the lowest scores change places; AP moves by less than may be lost."""
    plant.chip("scores_in_eight_bits")


@fault(WRONG, model="objects")
def an_output_is_laid_out_the_other_way_round(plant):
    """The number of values is right: N x 4 x C is read as N x C x 4."""
    plant.chip("transposed")


@fault("accuracy FAIL")
def the_chip_moves_away_with_time(plant):
    """Right when it is looked at, a little off after minutes; classes are the same."""
    plant.chip("moves_away")


@fault("numerics FAIL", model="faces")
def the_chip_computes_in_bfloat16_and_says_fp32(plant):
    """Faster than possible, and most answers are right."""
    plant.chip("bf16")


@fault("numerics FAIL, accuracy ERROR, published ERROR", also="attributes objects faces")
def outputs_overflow(plant):
    """Infinite values, often on few pictures."""
    plant.chip("infinite")


@fault("accuracy ERROR, published ERROR", also="attributes objects faces")
def some_pictures_give_nan(plant):
    """The mean over all pictures barely moves."""
    plant.chip("nan_sometimes")


@fault("accuracy INVALID, published INVALID")
def an_accuracy_that_is_nan_is_compared(plant):
    """`nan > tolerance` is false: green."""
    sound = metrics.SCORERS["classes"]
    scored = []

    def undefined(*given):
        score = sound(*given)
        scored.append(score)  # the chip's, the reference's, in turn
        return score if len(scored) % 2 == 0 else replace(score, values=dict.fromkeys(score.values, float("nan")))

    plant.monkeypatch.setitem(metrics.SCORERS, "classes", undefined)


@fault("accuracy FAIL, published FAIL", also="attributes objects faces")
def one_picture_in_ten_is_wrong(plant):
    """The first pictures are right, and a demonstration shows no others."""
    plant.chip("wrong_sometimes")


@fault(WRONG, also="attributes objects faces")
def only_the_first_row_of_a_batch_is_computed(plant):
    """Right at batch 1; at batch N, (N - 1) / N of the answers are lost."""
    plant.chip("only_first_row:4")


@fault(WRONG, also="attributes objects faces")
def an_output_buffer_is_used_again_before_it_is_copied(plant):
    """Now and then row k has the answer of row k + 1."""
    plant.chip("next_row")


@fault("numerics FAIL", also="attributes objects faces")
def the_same_input_gives_another_output(plant):
    """The difference is far below any tolerance, but no fault can be bisected."""
    plant.chip("unsteady")


@fault(WRONG, also="attributes objects faces")
def the_first_answer_is_given_for_ever(plant):
    """Not visible when only one batch is run."""
    plant.chip("first_answer_for_ever")


@fault("numerics FAIL, accuracy INCONCLUSIVE")  # an answer or two of 350 change
def a_row_depends_on_its_neighbours(plant):
    """Right for a batch of copies of one image, which is what benchmarks run; wrong in a real batch."""
    plant.chip("leaks_into_the_next_row")


@fault("numerics FAIL", also="attributes objects faces")
def an_engine_for_several_batches_is_right_at_the_largest_alone(plant):
    """Right in the benchmark, which fills the batch; wrong in a server, where batches come half full."""
    plant.chip("only_at_the_largest")
