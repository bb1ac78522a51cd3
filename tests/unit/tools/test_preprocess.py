"""What the vendors' tools are fed: bytes, names, lists and sizes as the published scripts write them, or nothing."""

import json
import os
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from harness import matrix
from harness.arrays import images as pictures
from harness.errors import DataError, StoreError, UsageError
from harness.vendor.files import Entry, read_info, write_info
from tools import preprocess


@pytest.fixture
def folder(tmp_path):
    """Five pictures of different shapes in two events, as PNG so that every decoder reads the same bytes."""
    rng = np.random.default_rng(5)
    for name, shape in {
        "0--Parade/a_1": (60, 90), "0--Parade/a_2": (90, 60), "1--Shop/b_1": (10, 11), "1--Shop/b_2": (64, 64),
        "1--Shop/b_3": (40, 200),
    }.items():  # fmt: skip
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (*shape, 3), np.uint8))
    return tmp_path / "images"


def png(folder, name):
    return cv2.imread(str(folder / f"{name}.png"))


def test_retinaface_as_on_the_ascend(folder, tmp_path, capsys):
    preprocess.command("retinaface_mobilenet025", tmp_path / "out", images=folder, chip="ascend310")

    for name in ("0--Parade/a_1", "0--Parade/a_2", "1--Shop/b_1", "1--Shop/b_2", "1--Shop/b_3"):
        image = png(folder, name)
        scale = 1000 / max(image.shape)
        rows, columns = ([min(int(i / scale), n - 1) for i in range(round(n * scale))] for n in image.shape[:2])
        small = image[rows][:, columns]
        wanted = np.zeros((1000, 1000, 3), np.uint8)
        wanted[: small.shape[0], : small.shape[1]] = small
        assert (tmp_path / "out" / "prep" / f"{name[-3:]}.bin").read_bytes() == wanted.tobytes()
        assert (tmp_path / "out" / "prep_info" / f"{name}.bin").read_bytes() == struct.pack("<f", scale)
    entries = read_info(tmp_path / "out" / "retinaface_mobilenet025.info")
    assert [entry.path for entry in entries] == [
        str(tmp_path / "out" / "prep" / f"{name}.bin") for name in ("a_1", "a_2", "b_1", "b_2", "b_3")
    ]
    assert {(entry.width, entry.height) for entry in entries} == {(1000, 1000)}
    assert "5 files (a folder of pictures), uint8 1000x1000x3" in capsys.readouterr().out


def test_deepmar_is_float32_and_normalised(folder, tmp_path):
    preprocess.command("deepmar_resnet50", tmp_path / "out", images=folder)

    with Image.open(folder / "0--Parade" / "a_1.png") as picture:
        pixels = np.asarray(picture.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR), np.float32)
    wanted = (pixels / np.float32(255) - np.array([0.485, 0.456, 0.406], np.float32)) / np.array(
        [0.229, 0.224, 0.225], np.float32
    )
    got = np.fromfile(tmp_path / "out" / "prep" / "a_1.bin", np.float32).reshape(3, 224, 224)
    np.testing.assert_array_equal(got, wanted.transpose(2, 0, 1))
    assert not (tmp_path / "out" / "prep_info").exists()


def test_gfocal_keeps_height_before_width_and_the_list_has_width_first(folder, tmp_path):
    preprocess.command("gfocalv2_r50_fpn", tmp_path / "out", images=folder)

    got = np.fromfile(tmp_path / "out" / "prep" / "b_3.bin", np.float32).reshape(3, 800, 1216)
    assert np.abs(got[:, : int(40 * 6.08), :1216]).min(axis=0).max() > 0
    assert (got[:, int(40 * 6.08) :] == 0).all()
    (first, *_) = read_info(tmp_path / "out" / "gfocalv2_r50_fpn.info")
    assert (first.width, first.height) == (1216, 800)


@pytest.mark.parametrize(
    ("options", "dtype", "shape"),
    [
        ({"chip": "ascend310p"}, "uint8", [1000, 1000, 3]),
        ({"chip": "t4"}, "float32", [3, 1000, 1000]),
        ({"chip": "mlu370_s4"}, "uint8", [672, 1024, 3]),
        ({"protocol": "mlu"}, "uint8", [672, 1024, 3]),
        ({}, "uint8", [1000, 1000, 3]),
    ],
)
def test_chip_or_protocol_decide_size_and_pixels(folder, tmp_path, capsys, options, dtype, shape):
    preprocess.command("retinaface_resnet50", tmp_path / "out", images=folder, as_json=True, **options)

    facts = json.loads(capsys.readouterr().out)
    assert (facts["dtype"], facts["shape"], facts["images"]) == (dtype, shape, 5)
    size = np.prod(shape) * np.dtype(dtype).itemsize
    assert {path.stat().st_size for path in (tmp_path / "out" / "prep").iterdir()} == {size}
    assert (facts["prep_info"] is None) == (shape == [672, 1024, 3])


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_bad_picture_is_named_and_nothing_is_written(folder, tmp_path, damage):
    victim = folder / "1--Shop" / "b_2.png"
    victim.write_bytes({"truncated": victim.read_bytes()[:300], "empty": b"", "text": b"hello"}[damage])

    with pytest.raises(DataError, match=r"b_2\.png"):
        preprocess.command("deepmar_resnet50", tmp_path / "out", images=folder)

    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_pictures_that_would_become_one_file_are_refused(folder, tmp_path):
    (folder / "2--Other").mkdir()
    (folder / "1--Shop" / "b_1.png").rename(folder / "2--Other" / "a_1.png")

    with pytest.raises(DataError, match=r"0--Parade/a_1 and 2--Other/a_1 would both be a_1\.bin"):
        preprocess.command("deepmar_resnet50", tmp_path / "out", images=folder)

    assert not (tmp_path / "out").exists()


def test_a_blank_in_a_name_or_in_the_folder_is_refused_before_any_work(folder, tmp_path):
    with pytest.raises(UsageError, match="blank"):
        preprocess.command("deepmar_resnet50", tmp_path / "my out", images=folder)

    (folder / "1--Shop" / "b_1.png").rename(folder / "1--Shop" / "b 1.png")
    with pytest.raises(DataError, match="blank"):
        preprocess.command("deepmar_resnet50", tmp_path / "out", images=folder)


def test_what_is_there_already_is_not_touched(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")

    with pytest.raises(UsageError, match="there already"):
        preprocess.command("deepmar_resnet50", tmp_path / "out", images=folder)

    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"


def test_an_empty_folder_may_be_filled(folder, tmp_path):
    (tmp_path / "out").mkdir()

    preprocess.command("deepmar_resnet50", tmp_path / "out", images=folder)

    assert len(list((tmp_path / "out" / "prep").iterdir())) == 5


def test_a_full_disk_is_refused_before_the_first_picture(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess.shutil, "disk_usage", lambda path: type("usage", (), {"free": 10}))

    with pytest.raises(StoreError, match="5 pictures need"):
        preprocess.command("deepmar_resnet50", tmp_path / "out", images=folder)


def test_pictures_are_decoded_as_the_authors_decode_them(tmp_path, monkeypatch):
    asked, read = [], pictures.read
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((8, 8, 3), np.uint8))

    def remember(path, decoder="opencv"):
        asked.append(decoder)
        return read(path, decoder)

    monkeypatch.setattr(pictures, "read", remember)
    for number, model in enumerate(matrix.models()):
        preprocess.command(model, tmp_path / f"out{number}", images=tmp_path / "images")

    assert dict(zip(matrix.models(), asked, strict=True)) == {
        "retinaface_mobilenet025": "opencv", "retinaface_resnet50": "opencv", "deepmar_resnet50": "pillow",
        "regnety_016": "pillow", "gfocalv2_r50_fpn": "opencv",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "resnet50"}, "no model"),
        ({"chip": "ascend910"}, "no chip"),
        ({"protocol": "tpu"}, "no protocol"),
        ({"protocol": "ascend", "chip": "ascend310"}, "both"),
        ({"images": None}, "no pictures"),
    ],
)
def test_a_wrong_call_is_refused(folder, tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        preprocess.command(**{"model": "deepmar_resnet50", "out": tmp_path / "out", "images": folder, **options})


@pytest.mark.parametrize("content", ["absent", "empty"])
def test_a_folder_without_pictures_is_refused(tmp_path, content):
    if content == "empty":
        (tmp_path / "images").mkdir()

    with pytest.raises(DataError, match=r"not a folder|no picture"):
        preprocess.command("deepmar_resnet50", tmp_path / "out", images=tmp_path / "images")


# --- names that are not UTF-8 -------------------------------------------------------------------------------------

GBK = "人脸".encode("gbk")


@pytest.mark.parametrize("where", ["picture", "folder", "out"])
def test_a_name_that_is_not_utf_8_is_refused_before_the_first_picture(folder, tmp_path, where):
    """The .info file could not name it."""
    out, images = tmp_path / "out", folder
    if where == "picture":
        shutil.copy(folder / "1--Shop" / "b_1.png", os.fsencode(folder / "1--Shop") + b"/" + GBK + b".png")
    elif where == "folder":
        images = folder.rename(os.fsdecode(os.fsencode(tmp_path) + b"/" + GBK))
    else:
        out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + GBK))

    with pytest.raises(DataError, match="is not UTF-8; in GBK it reads 人脸"):
        preprocess.command("deepmar_resnet50", out, images=images)

    assert not out.exists()


def test_an_info_file_holds_no_path_that_is_not_utf_8(tmp_path):
    with pytest.raises(DataError, match=r"the path /a/\\xc8\\xcb.* is not UTF-8"):
        write_info(tmp_path / "a.info", [Entry(os.fsdecode(b"/a/" + GBK), 1, 1)])
