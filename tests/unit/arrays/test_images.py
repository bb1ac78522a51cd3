"""Reading and resizing pictures: what the libraries do, what is refused, and the canvas around."""

import io
import threading
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from harness.arrays import images
from harness.errors import DataError

DECODERS = ("opencv", "pillow")


@pytest.fixture
def noise():
    return np.random.RandomState(0).randint(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(data, name="picture"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return save


def encoded(pixels, kind, **options):
    """Bytes of an RGB, grey or 16-bit array in a format of Pillow's."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(options.pop("mode", None)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"optimize": True}])
def test_a_jpeg_is_read_as_the_library_reads_it(noise, save, options):
    path = save(encoded(noise, "JPEG", **options))

    np.testing.assert_array_equal(images.read(path), cv2.imread(str(path)))
    with PIL.Image.open(path) as picture:
        np.testing.assert_array_equal(images.read(path, "pillow")[..., ::-1], np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_png_of_any_mode_becomes_three_channels(noise, save, mode, decoder):
    image = images.read(save(encoded(noise, "PNG", mode=mode)), decoder)

    assert (image.shape, image.dtype, image.flags.c_contiguous) == ((40, 60, 3), np.uint8, True)
    if mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(image[..., ::-1], noise)


def test_opencv_applies_the_exif_orientation_and_pillow_does_not(noise, save):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    path = save(encoded(noise, "JPEG", exif=exif))

    assert images.read(path, "opencv").shape == (60, 40, 3)
    assert images.read(path, "pillow").shape == (40, 60, 3)


def test_an_orientation_in_a_png_turns_nothing_for_pillow(noise, save):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6

    np.testing.assert_array_equal(images.read(save(encoded(noise, "PNG", exif=exif)), "pillow")[..., ::-1], noise)


def test_a_flipped_bit_in_a_png_is_refused_by_both_readers(noise, save):
    whole = encoded(noise, "PNG")
    for place in range(60, len(whole) - 20, 97):
        path = save(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        for decoder in DECODERS:
            with pytest.raises(DataError, match="cannot be decoded"):
                images.read(path, decoder)


def test_a_second_picture_behind_the_first_is_not_looked_at(noise, save):
    whole = encoded(noise, "JPEG", progressive=True)

    both = images.read(save(whole + whole), "pillow"), images.read(save(whole), "pillow")
    np.testing.assert_array_equal(*both)


def test_damaged_exif_neither_warns_nor_stops_the_reader(noise, save):
    whole = encoded(noise, "JPEG")
    damaged = b"\xff\xe1\x00\x26Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x12" * 20
    path = save(whole[:2] + damaged + whole[20:])  # in the place of the JFIF header, as cameras write it

    np.testing.assert_array_equal(images.read(path, "pillow"), images.read(save(whole, "whole"), "pillow"))


def test_sixteen_bits_keep_their_high_byte_in_opencv_and_grey_ones_are_refused_for_pillow(save):
    deep = np.random.RandomState(1).randint(0, 2**16, (8, 9, 3)).astype(np.uint16)
    colour = save(cv2.imencode(".png", deep)[1].tobytes(), "colour")
    grey = save(cv2.imencode(".png", deep[..., 0])[1].tobytes(), "grey")

    np.testing.assert_array_equal(images.read(colour), deep >> 8)
    np.testing.assert_array_equal(images.read(colour, "pillow"), deep >> 8)
    np.testing.assert_array_equal(images.read(grey), np.dstack([deep[..., 0] >> 8] * 3))
    with pytest.raises(DataError, match="clip to 8 bits"):
        images.read(grey, "pillow")


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(noise, save, decoder, kind, part):
    whole = encoded(noise, kind)
    path = save(whole[: int(part * len(whole))])

    with pytest.raises(DataError, match=f"{path} (is|cannot be) "):
        images.read(path, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_jpeg_cut_inside_after_its_thumbnail_is_refused(noise, save, decoder):
    thumbnail = encoded(noise[:8, :8], "JPEG")
    whole = encoded(noise, "JPEG")
    head = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2, "big") + b"Exif\0\0" + thumbnail
    path = save(whole[:2] + head + whole[2:-300])

    with pytest.raises(DataError, match="truncated"):
        images.read(path, decoder)


def test_a_jpeg_overwritten_inside_its_scan_is_what_the_library_makes_of_it(noise, save):
    whole = encoded(noise, "JPEG")
    middle = (whole.rindex(b"\xff\xda") + len(whole)) // 2
    path = save(whole[:middle] + bytes(8) + whole[middle + 8 :])

    assert (images.read(path) != images.read(save(whole, "whole"))).any()
    np.testing.assert_array_equal(images.read(path), cv2.imread(str(path)))
    with PIL.Image.open(path) as picture:
        np.testing.assert_array_equal(images.read(path, "pillow")[..., ::-1], np.asarray(picture.convert("RGB")))


def test_bytes_after_the_end_marker_do_no_harm(noise, save):
    whole = encoded(noise, "JPEG")

    np.testing.assert_array_equal(images.read(save(whole + b"\0\0more")), images.read(save(whole, "whole")))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"no picture", "not a picture"),
        (b"\x89PNG\r\n\x1a\nIEND\xaeB`\x82", "decoded|not a picture"),  # 16 bytes: too short for a size
        (b"\xff\xd8\xff", "no end marker"),
        (b"\xff\xd8\xff\xd9", "decoded|not a picture"),
    ],
)
def test_what_is_no_picture_is_refused(save, decoder, data, said):
    with pytest.raises(DataError, match=said) as caught:
        images.read(save(data), decoder)

    assert caught.value.hint


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        images.read(tmp_path / "absent.jpg")


def test_photographs_are_read_as_the_libraries_read_them(request):
    folder = request.config.getoption("--data", None)
    if not folder:
        pytest.skip("no photographs: give --data DIR or set CHIPPROOF_DATA")
    paths = [path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    for path in paths:
        read = cv2.imread(str(path))
        if read is None:
            with pytest.raises(DataError):
                images.read(path)
            continue
        np.testing.assert_array_equal(images.read(path), read, str(path))
        with PIL.Image.open(path) as picture:
            rgb = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(images.read(path, "pillow")[..., ::-1], rgb, str(path))

    assert paths, f"there is no picture under {folder}"


def test_nearest_without_a_float_image_equals_opencv_with_one():
    draw = np.random.RandomState(2)
    for _ in range(60):
        height, width = draw.randint(1, 400, 2)
        image = draw.randint(0, 256, (height, width, 3), dtype=np.uint8)
        scale = 300.0 / max(height, width)
        if round(min(height, width) * scale) == 0:
            continue
        float_image = cv2.resize(image.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        padded = np.zeros((300, 300, 3), np.uint8)
        padded[: float_image.shape[0], : float_image.shape[1]] = float_image

        np.testing.assert_array_equal(images.nearest(image, scale, (300, 300)), padded, f"{width} x {height}")


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (7, 5)])
def test_the_smallest_pictures_fill_their_canvas(size):
    image = np.full((*size, 3), 9, np.uint8)
    canvas = images.nearest(image, 30 / max(size), (30, 30), fill=1)

    content = tuple(round(n * 30 / max(size)) for n in size)
    assert (canvas[: content[0], : content[1]] == 9).all()
    assert (canvas[content[0] :] == 1).all()
    assert (canvas[:, content[1] :] == 1).all()


def test_a_picture_that_would_vanish_or_explode_is_refused():
    strip = np.zeros((1, 5000, 3), np.uint8)

    with pytest.raises(DataError, match=r"5000 x 1 .* 1000 x 0\n"):
        images.nearest(strip, 0.2, (1000, 1000))
    with pytest.raises(DataError, match="too narrow"):
        images.antialiased(strip, 256, 1_280_000, bicubic=True)


@pytest.mark.parametrize(
    ("height", "width", "taken"),
    [(1, 1, True), (2**14, 2**14, True), (1, 2**28, True), (2**14, 2**14 + 1, False), (0, 5, False), (5, 0, False)],
)
def test_a_resized_picture_has_a_pixel_and_at_most_so_many(height, width, taken):
    strip = np.zeros((3, 7, 3), np.uint8)

    if taken:
        images.fits(strip, height, width)
        return
    with pytest.raises(DataError, match=f"^a picture of 7 x 3 pixels would become {width} x {height}\n"):
        images.fits(strip, height, width)


@pytest.mark.parametrize(("width", "more"), [(2**14, 0), (2**14 + 1, 2**13)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_largest_picture_that_is_read_has_as_many_pixels_as_is_said(kind, width, more):
    """2**13 rows; told with its width first, which a JPEG has behind its height."""
    height, segments = 2**13, []
    data = b"\x89PNG\r\n\x1a\n" + bytes(8) + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    if kind == "JPEG":
        data, segments = bytes(5) + height.to_bytes(2, "big") + width.to_bytes(2, "big"), [(0xC0, 0, 9), (0xC4, 0, 9)]

    if not more:
        images._check_small(data, segments)
        return
    with pytest.raises(DataError, match=f"^has {width} x {height} pixels, more than {2**27}\n"):
        images._check_small(data, segments)
    images._check_small(data[:-1], [(code, start, end - 1) for code, start, end in segments])  # cut short: no size


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_that_would_fill_the_memory_is_refused_by_what_its_header_says(noise, save, decoder, kind):
    data = encoded(noise, kind)
    said, larger = (b"\0\0\0\x3c\0\0\0\x28", b"\0\0\x75\x30\0\0\x75\x30") if kind == "PNG" else (
        b"\0\x28\0\x3c", b"\xff\xf0\xff\xf1")  # fmt: skip

    with pytest.raises(DataError, match=r"(30000 x 30000|65521 x 65520) pixels, more than 134217728"):
        images.read(save(data.replace(said, larger, 1)), decoder)


def test_every_frame_of_a_jpeg_tells_the_size_and_no_other_segment_does():
    """Markers of T.81, table B.1: 0xC4 are Huffman tables, 0xC8 is reserved, 0xCC conditions arithmetic coding."""
    refused = set()
    for code in range(0xC0, 0xD0):
        body = b"\x00\x0b\x08\x75\x30\x75\x30\x01\x01\x11\x00"  # a length of 11, 8 bits, 30000 x 30000
        with pytest.raises(DataError) as caught:  # no scan follows
            images._decode(b"\xff\xd8\xff" + bytes([code]) + body + b"\xff\xd9", "opencv")
        if "has 30000 x 30000 pixels" in caught.value.fact:
            refused.add(code)

    assert set(range(0xC0, 0xD0)) - refused == {0xC4, 0xC8, 0xCC}


def test_the_middle_is_cut_out_with_half_pixels_rounded_to_even():
    rows = np.dstack([np.indices((259, 227))[0] % 256] * 3).astype(np.uint8)

    assert images.middle(rows, 224)[0, 0, 0] == 18  # 17.5
    assert images.middle(rows, 224).shape == (224, 224, 3)


def test_threads_read_and_resize_side_by_side(noise, save):
    path, seen = save(encoded(noise, "PNG")), []

    def work():
        seen.extend(images.nearest(images.read(path), 2.0, (80, 120)).tobytes() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 80
    assert len(set(seen)) == 1


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (333, 500)])
def test_pillows_pixels_are_the_same_in_place_and_copied(size, monkeypatch):
    pixels = np.random.RandomState(1).randint(0, 256, (*size, 3)).astype(np.uint8)
    data = encoded(pixels, "JPEG")

    in_place = images._decode(data, "pillow")
    monkeypatch.setattr(images, "_in_place", lambda picture: None)

    np.testing.assert_array_equal(in_place, images._decode(data, "pillow"))


def test_pixels_are_read_where_pillow_keeps_them_unless_it_keeps_them_in_pieces():
    small, large = (PIL.Image.new("RGB", size, (1, 2, 3)) for size in ((40, 30), (3000, 2000)))
    if not hasattr(small, "__arrow_c_array__"):
        pytest.skip("Pillow is older than 11.2")

    pixels = images._in_place(small)

    assert pixels.shape == (30, 40, 4)
    assert (pixels[..., :3] == (1, 2, 3)).all()
    small.putpixel((3, 2), (9, 8, 7))
    assert pixels[2, 3, :3].tolist() == [9, 8, 7], "a copy"
    assert images._in_place(large) is None
    assert images._in_place(PIL.Image.new("L", (40, 30))) is None


def test_a_picture_in_pieces_is_read_all_the_same(save):
    pixels = np.random.RandomState(2).randint(0, 256, (1500, 3000, 3)).astype(np.uint8)

    read = images.read(save(encoded(pixels, "JPEG")), "pillow")

    with PIL.Image.open(io.BytesIO(encoded(pixels, "JPEG"))) as picture:
        np.testing.assert_array_equal(read[..., ::-1], np.asarray(picture))


def test_a_view_with_its_channels_turned_around_is_normalised_without_a_copy(noise, monkeypatch):
    """OpenCV would copy it pixel by pixel, under Python's lock."""
    seen, split = [], cv2.split
    monkeypatch.setattr(cv2, "split", lambda image: seen.append(image.strides) or split(image))
    table = np.arange(3 * 256, dtype=np.float32).reshape(3, 256)
    wanted = np.stack([table[c][noise[..., 2 - c]] for c in range(3)])

    assert np.array_equal(images.normalize(noise[..., ::-1], table), wanted)
    assert np.array_equal(images.normalize(noise, table[::-1])[::-1], wanted)
    assert seen == [noise.strides] * 2
