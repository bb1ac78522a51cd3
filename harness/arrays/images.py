"""Pictures, read and resized like the models' authors do, byte for byte, each with the library that they used.

cv2 and PIL are imported on first use, so that collecting tests does not import them.
"""

from __future__ import annotations

import ctypes
import io
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.case import Image
from harness.errors import DataError

if TYPE_CHECKING:
    import PIL.Image

Decoder = Literal["opencv", "pillow"]

LARGEST = 2**28
"""Pixels of the largest resized picture: a strip one pixel wide would otherwise need gigabytes."""

LARGEST_READ = 2**27
"""Pixels of the largest picture that is decoded, 400 MB of them: the size that its header tells is checked first."""

unwritten: Callable[[tuple[int, ...], type[np.generic]], NDArray[Any]] = np.empty
"""Memory for what a chip is fed, by shape and dtype. A process that prepares for another one puts in its place what
both share, so that the tensor need not be copied."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # JPEG, but for the markers that stand alone in a scan
_START, _END, _SCAN, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG that tell height and width (T.81, table B.1)
_PNG, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
_PLAIN = b"\x08\x02"  # in a PNG's header: 8 bits a channel, colours without transparency


def read(path: Path, decoder: Decoder = "opencv") -> Image:
    """The picture at `path` as H x W x 3 uint8 BGR.

    `opencv` reads as cv2.imread: EXIF orientation is applied, grey is copied to three channels, 16 bits keep their
    high byte. It is the reader of the authors of RetinaFace and GFocalV2. `pillow` reads as Image.open and
    convert("RGB"): EXIF is ignored, and 16-bit grey, which Pillow would clip, is refused. It is the reader of the
    authors of DeepMAR and RegNetY. Both drop transparency and turn CMYK into colours, each by its own formula.
    Raises DataError for a file that is missing, empty, not a picture, larger than `LARGEST_READ`, or truncated (OpenCV
    itself would fill the rest with grey). Bytes overwritten inside the scan of a JPEG are not detected: decoders only
    warn on standard error.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="check the data folder") from error
    if not data:
        raise DataError(f"{path} is empty", hint="fetch the file again")
    try:
        return _decode(data, decoder)
    except DataError as error:
        raise DataError(f"{path} {error.fact}", hint=error.hint) from error


def _decode(data: bytes, decoder: Decoder) -> Image:
    jpeg = data.startswith(b"\xff\xd8\xff")
    segments = list(_segments(data)) if jpeg else []
    if jpeg and segments[-1][0] != _END:
        raise DataError("is a truncated JPEG: it has no end marker", hint="fetch the file again")
    if data.startswith(_PNG) and data.rfind(_PNG_END) < 0:  # from behind, where it is
        raise DataError("is a truncated PNG: it has no end chunk", hint="fetch the file again")
    _check_small(data, segments)
    if decoder == "pillow":
        if data.startswith(_PNG) and data[24:26] == _PLAIN:  # lossless: any reader will do, and OpenCV is quicker
            with suppress(DataError):
                return _opencv(data, upright=False)
        return _pillow(data if not jpeg else b"".join(data[a:b] for code, a, b in segments if code != _APP1))
    if not jpeg:
        _pillow(data, check=True)
    return _opencv(data)


def _check_small(data: bytes, segments: list[tuple[int, int, int]]) -> None:
    """Raises DataError when a JPEG or PNG says that it has more pixels than `LARGEST_READ`; Pillow checks what others
    say."""
    sizes = [(start + 5, ">HH") for code, start, end in segments if code in _FRAMES and end >= start + 9]
    if data.startswith(_PNG) and len(data) >= 24:
        sizes = [(16, ">II")]
    for place, form in sizes:
        first, second = struct.unpack_from(form, data, place)  # a PNG tells the width first
        if first * second > LARGEST_READ:
            width, height = (first, second) if data.startswith(_PNG) else (second, first)
            raise DataError(
                f"has {width} x {height} pixels, more than {LARGEST_READ}",
                hint="a picture of a data set has a few million",
            )


def _opencv(data: bytes, upright: bool = True) -> Image:
    """Decoded by OpenCV; `upright`: turned as EXIF says."""
    import cv2

    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"cannot be decoded: {error}", hint="fetch the file again") from error
    if image is None:
        raise DataError("cannot be decoded by OpenCV", hint="fetch the file again")
    return np.asarray(image, np.uint8)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each part of a JPEG file, scans belonging to the part before; where the file ends with
    the end marker, all of them to the first. Without an end marker the last one is another."""
    start, code, search = 0, _START, 2
    last = len(data) - 2 if data.endswith(bytes((0xFF, _END))) else len(data)
    while found := _MARKER.search(data, search):
        yield code, start, found.start()
        start, code = found.start(), data[found.start() + 1]
        if code == _SCAN and last < len(data):  # an end marker does not occur in a scan: what ends the file ends it
            yield code, start, last
            start, code = last, _END
        if code == _END:
            break
        search = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    yield code, start, len(data)


def _pillow(data: bytes, check: bool = False) -> Image:
    """Decoded by Pillow, which refuses what is cut short; `check` asks no more than whether it can be."""
    import cv2
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            if check:
                picture.load()
                return np.empty((0, 0, 3), np.uint8)
            if picture.mode.startswith(("I", "F")):
                raise DataError(
                    f"has one channel of {picture.mode} values, which Pillow would clip to 8 bits",
                    hint="convert it to 8 bits first",
                )
            picture.info.pop("transparency", None)
            if picture.mode == "RGB" and (pixels := _in_place(picture)) is not None:
                return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGR), np.uint8)
            rgb = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except PIL.UnidentifiedImageError as error:
        raise DataError("is not a picture of a format that Pillow knows", hint="fetch the file again") from error
    except (OSError, SyntaxError, ValueError, struct.error, Warning, PIL.Image.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded: {error}", hint="fetch the file again") from error
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)


class _Arrow(ctypes.Structure):
    """ArrowArray of Arrow's C data interface."""


_Arrow._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Arrow))),
    *((name, ctypes.c_void_p) for name in ("dictionary", "release", "private_data")),
]


def _in_place(picture: PIL.Image.Image) -> Image | None:
    """H x W x 4, the fourth channel without meaning: an RGB picture where Pillow keeps it. It is valid as long as the
    picture, and saves a copy that is made under Python's lock. None where Pillow is older than 11.2, or keeps the
    picture in several pieces, as it does from 16 MB on."""
    picture.load()
    try:
        _, capsule = picture.__arrow_c_array__()
    except (AttributeError, ValueError):
        return None
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    whole = _Arrow.from_address(address(capsule, b"arrow_array"))
    if whole.length != picture.width * picture.height or whole.n_children != 1:
        return None
    values = whole.children[0].contents
    if values.length != 4 * whole.length or whole.offset or values.offset or values.n_buffers != 2:
        return None
    bytes_ = (ctypes.c_uint8 * values.length).from_address(values.buffers[1])
    return np.frombuffer(bytes_, np.uint8).reshape(picture.height, picture.width, 4)


def fits(image: Image, height: int, width: int) -> None:
    """Raises DataError when `image` resized to height x width has no pixel, or more than `LARGEST`."""
    if height >= 1 and width >= 1 and height * width <= LARGEST:
        return
    h, w = image.shape[:2]
    raise DataError(
        f"a picture of {w} x {h} pixels would become {width} x {height}",
        hint="leave it out: it is too narrow to be used",
    )


def nearest(image: Image, scale: float, size: tuple[int, int], fill: int = 0) -> Image:
    """Scaled by nearest neighbour into the top left corner of a canvas of `size` = height, width.

    Equal to cv2.resize(float32(image), fx=scale, fy=scale, INTER_NEAREST): a source index is
    floor(index * (1 / scale)), and the new size is rounded half to even. Pixels keep their values, so uint8 is exact.
    """
    import cv2

    height, width = (round(n * scale) for n in image.shape[:2])
    fits(image, height, width)
    canvas = _canvas(size, fill, (0, 0, height, width))
    cv2.resize(image, None, canvas[:height, :width], scale, scale, cv2.INTER_NEAREST)
    return canvas


def letterbox(
    image: Image, content: tuple[int, int], size: tuple[int, int], at: tuple[int, int], fill: int, area: bool = False
) -> Image:
    """Resized to `content` = height, width by OpenCV (bilinear, or `area`), on a canvas of `size` filled with `fill`,
    its top left corner `at` = top, left."""
    import cv2

    (height, width), (top, left) = content, at
    fits(image, height, width)
    canvas = _canvas(size, fill, (top, left, height, width))
    inside = canvas[top : top + height, left : left + width]
    if (height, width) == image.shape[:2]:
        inside[...] = image
    else:
        cv2.resize(image, (width, height), inside, interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)
    return canvas


def _canvas(size: tuple[int, int], fill: int, inside: tuple[int, int, int, int]) -> Image:
    """H x W x 3, filled but for the rectangle `inside` = top, left, height, width, which is to be written."""
    canvas = unwritten((*size, 3), np.uint8)
    top, left, height, width = inside
    canvas[:top] = fill
    canvas[top + height :] = fill
    canvas[top : top + height, :left] = fill
    canvas[top : top + height, left + width :] = fill
    return canvas


def antialiased(image: Image, height: int, width: int, bicubic: bool = False, side: int | None = None) -> Image:
    """Resized as Pillow's Image.resize did up to version 12: across first, rounded to bytes, then down. With `side`,
    the middle square of that. Pillow 13 goes down first where that is less work, which changes results by one level.
    """
    from harness.arrays.resampling import resample

    fits(image, height, width)
    top, left = (0, 0) if side is None else corner(height, width, side)
    done: Image = resample(
        np.require(image, np.uint8, ("C", "W")), height, width, top, left, side or height, side or width, bicubic
    )
    return done


def corner(height: int, width: int, side: int) -> tuple[int, int]:
    """Top and left of the middle square, as torchvision's CenterCrop has them: half pixels are rounded to even."""
    return round((height - side) / 2.0), round((width - side) / 2.0)


def middle(image: Image, side: int) -> Image:
    """The middle square."""
    top, left = corner(image.shape[0], image.shape[1], side)
    return image[top : top + side, left : left + side]


def rgb(image: Image) -> Image:
    """BGR with its channels turned around, contiguous."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def normalize(image: Image, table: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """float32 C x H x W: out[c, y, x] = table[c, image[y, x, c]], table 3 x 256.

    Normalisation is a function of one byte, so it is looked up: the same bits as the arithmetic, in a third of the
    time. `image` may be a view with its channels turned around, `out` one of a larger tensor.
    """
    import cv2

    if out is None:
        out = unwritten((3, *image.shape[:2]), np.float32)
    step = -1 if image.strides[2] < 0 else 1  # OpenCV would copy such a view, pixel by pixel, under Python's lock
    for channel, values, plane in zip(cv2.split(image[..., ::step]), table[::step], out[::step], strict=True):
        cv2.LUT(channel, values[None], plane)
    return out
