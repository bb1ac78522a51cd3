"""What holds for every picture: it is resized, framed, normalised and written back as the plain arithmetic says."""

import io

import cv2
import numpy as np
import PIL.Image
import plain_vision as plain
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.arrays import images
from harness.errors import DataError

some = settings(deadline=None, max_examples=40)
few = settings(deadline=None, max_examples=15)
sides = st.integers(1, 24)


def pictures(largest=24):
    side = st.integers(1, largest)
    return st.tuples(side, side).flatmap(lambda size: arrays.arrays(np.uint8, (*size, 3), elements=st.integers(0, 255)))


@some
@given(pictures(), st.integers(2, 40))
def test_nearest_neighbour_looks_up_what_the_plain_loops_look_up(image, side):
    scale = side / max(image.shape[:2])
    assume(round(min(image.shape[:2]) * scale) > 0)
    expected = plain.nearest(image, scale)
    canvas = images.nearest(image, scale, (side, side))

    np.testing.assert_array_equal(canvas[: expected.shape[0], : expected.shape[1]], expected)


@some
@given(pictures(), st.integers(2, 40), st.integers(0, 255))
def test_what_lies_outside_the_picture_is_padding(image, side, fill):
    scale = side / max(image.shape[:2])
    height, width = (round(n * scale) for n in image.shape[:2])
    assume(min(height, width) > 0)
    canvas = images.nearest(image, scale, (side + 3, side + 5), fill)

    assert (canvas[height:] == fill).all()
    assert (canvas[:, width:] == fill).all()


@some
@given(pictures(), st.integers(2, 40))
def test_turning_a_picture_over_its_diagonal_turns_the_result(image, side):
    scale = side / max(image.shape[:2])
    assume(round(min(image.shape[:2]) * scale) > 0)
    turned = images.nearest(np.ascontiguousarray(image.transpose(1, 0, 2)), scale, (side + 2, side + 1))

    np.testing.assert_array_equal(turned, images.nearest(image, scale, (side + 1, side + 2)).transpose(1, 0, 2))


@some
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.integers(0, 255))
def test_a_picture_of_one_colour_stays_of_that_colour(size, new, value):
    image = np.full((*size, 3), value, np.uint8)

    assert (images.nearest(image, 24 / max(size), (24, 24), fill=value) == value).all()
    assert (images.letterbox(image, new, new, (0, 0), 0) == value).all()
    assert (images.letterbox(image, new, new, (0, 0), 0, area=True) == value).all()
    assert (images.antialiased(image, *new) == value).all()
    assert (images.antialiased(image, *new, bicubic=True) == value).all()


@some
@given(pictures(), st.integers(0, 9), st.integers(0, 9), st.integers(0, 255))
def test_a_picture_that_fits_already_is_only_framed(image, top, left, fill):
    height, width = image.shape[:2]
    canvas = images.letterbox(image, (height, width), (height + 9, width + 9), (top, left), fill)
    framed = np.full((height + 9, width + 9, 3), fill, np.uint8)
    framed[top : top + height, left : left + width] = image

    np.testing.assert_array_equal(canvas, framed)


@some
@given(pictures(), st.tuples(sides, sides), st.integers(0, 5), st.integers(0, 5))
def test_the_frame_does_not_touch_what_is_inside(image, new, top, left):
    inside = images.letterbox(image, new, new, (0, 0), 0)
    canvas = images.letterbox(image, new, (new[0] + 5, new[1] + 5), (top, left), 128)

    np.testing.assert_array_equal(canvas[top : top + new[0], left : left + new[1]], inside)


@few
@given(pictures(16), st.tuples(st.integers(1, 16), st.integers(1, 16)))
def test_bilinear_resizing_is_within_a_level_of_the_plain_one(image, new):
    done = images.letterbox(image, new, new, (0, 0), 0)

    assert np.abs(done - plain.bilinear(image, *new)).max() <= 1


@few
@given(pictures(16), st.data())
def test_averaging_is_within_a_level_of_the_mean_of_what_is_covered(image, data):
    new = tuple(data.draw(st.integers(1, n)) for n in image.shape[:2])
    done = images.letterbox(image, new, new, (0, 0), 0, area=True)

    assert np.abs(done - plain.area(image, *new)).max() <= 1


@few
@given(pictures(16), st.tuples(st.integers(1, 16), st.integers(1, 16)), st.booleans())
def test_antialiased_resizing_has_the_bits_of_the_plain_whole_numbers(image, new, bicubic):
    np.testing.assert_array_equal(images.antialiased(image, *new, bicubic), plain.antialiased(image, *new, bicubic))


@some
@given(pictures(), st.tuples(sides, sides), st.booleans(), st.data())
def test_the_middle_alone_is_the_middle_of_the_whole(image, new, bicubic, data):
    side = data.draw(st.integers(1, min(new)))
    whole = images.antialiased(image, *new, bicubic)

    np.testing.assert_array_equal(images.antialiased(image, *new, bicubic, side), images.middle(whole, side))


@some
@given(pictures(), st.tuples(sides, sides))
def test_bilinear_results_lie_between_the_darkest_and_the_brightest(image, new):
    done = images.antialiased(image, *new)

    assert image.min() <= done.min()
    assert done.max() <= image.max()


@some
@given(pictures(), st.tuples(sides, sides), st.permutations(range(3)))
def test_channels_do_not_mix(image, new, order):
    swapped = np.ascontiguousarray(image[..., order])

    np.testing.assert_array_equal(images.antialiased(swapped, *new), images.antialiased(image, *new)[..., order])
    np.testing.assert_array_equal(
        images.letterbox(swapped, new, new, (0, 0), 0), images.letterbox(image, new, new, (0, 0), 0)[..., order]
    )


@some
@given(pictures(), st.tuples(sides, sides), st.booleans())
def test_the_source_is_left_alone(image, new, area):
    before = image.copy()
    images.letterbox(image, new, new, (0, 0), 0, area)
    images.antialiased(image, *new)
    images.normalize(image, np.zeros((3, 256), np.float32))

    np.testing.assert_array_equal(image, before)


@some
@given(st.integers(4, 30), st.integers(4, 30), st.integers(1, 4))
def test_the_middle_is_as_far_from_each_border_up_to_a_pixel(height, width, side):
    image = np.dstack((*np.indices((height, width)), np.zeros((height, width)))).astype(np.uint8)
    top, left = images.middle(image, side)[0, 0, :2].astype(int)

    assert abs(top - (height - side - top)) <= 1
    assert abs(left - (width - side - left)) <= 1


@some
@given(pictures(), arrays.arrays(np.float32, (3, 256), elements=st.floats(-9, 9, width=32)))
def test_normalising_is_looking_up_each_byte_in_its_channels_table(image, table):
    done = images.normalize(image, table)

    turned = images.normalize(image[..., ::-1], table)

    for channel in range(3):
        np.testing.assert_array_equal(done[channel], table[channel][image[..., channel]])
        np.testing.assert_array_equal(turned[channel], table[channel][image[..., 2 - channel]])
        np.testing.assert_array_equal(images.rgb(image)[..., channel], image[..., 2 - channel])


@some
@given(pictures(), st.integers(0, 5), st.integers(0, 5))
def test_normalising_into_a_corner_leaves_the_rest(image, down, right):
    height, width = image.shape[:2]
    tensor = np.full((3, height + down, width + right), 7, np.float32)
    table = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    images.normalize(image, table, out=tensor[:, :height, :width])

    np.testing.assert_array_equal(tensor[:, :height, :width], image.transpose(2, 0, 1))
    assert (tensor[:, height:] == 7).all()
    assert (tensor[:, :, width:] == 7).all()


@some
@given(pictures())
def test_a_picture_written_without_loss_is_read_back(tmp_path_factory, image):
    path = tmp_path_factory.getbasetemp() / "written.png"
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())

    np.testing.assert_array_equal(images.read(path, "opencv"), image)
    np.testing.assert_array_equal(images.read(path, "pillow"), image)


@settings(deadline=None, max_examples=80)
@given(pictures(), st.sampled_from(["JPEG", "PNG"]), st.sampled_from(["opencv", "pillow"]), st.data())
def test_a_file_cut_anywhere_is_refused(tmp_path_factory, image, kind, decoder, data):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, kind)
    whole = file.getvalue()
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])

    with pytest.raises(DataError):
        images.read(path, decoder)


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a"]))
def test_any_bytes_are_a_picture_or_a_data_error(tmp_path_factory, data, head):
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(head + data)
    for decoder in ("opencv", "pillow"):
        try:
            image = images.read(path, decoder)
        except DataError:
            continue
        assert (image.ndim, image.shape[2], image.dtype) == (3, 3, np.uint8)
