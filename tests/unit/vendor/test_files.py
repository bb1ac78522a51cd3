"""Result files of the vendors' tools are read whole and exactly, or refused by name."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from harness.errors import DataError, UsageError
from harness.vendor import files
from harness.vendor.files import FORMATS, Entry

BENCHMARK, MSAME, AIS = (FORMATS[name] for name in ("benchmark", "msame", "ais_bench"))
NAMES = ["0_Parade_1", "0_Parade_12", "1_Shop_1"]
LENGTHS = {10: "float32", 4: "float32", 3: "int64"}


def outputs(name):
    rng = np.random.default_rng(len(name) + sum(map(ord, name)))
    return [
        rng.normal(size=(5, 2)).astype(np.float32),
        rng.normal(size=(1, 4)).astype(np.float32),
        rng.integers(0, 80, size=(3,)),
    ]


@pytest.fixture
def results(tmp_path):
    """A whole result folder of the format and ending asked for."""

    def make(form, ending="bin"):
        for name in NAMES:
            files.write(tmp_path, form, name, outputs(name), ending)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("form", "ending", "error"),
    [
        (BENCHMARK, "bin", 0), (MSAME, "bin", 0), (AIS, "bin", 0), (AIS, "npy", 0),
        (BENCHMARK, "txt", 6e-6), (MSAME, "txt", 6e-6), (AIS, "txt", 6e-7),
    ],
)  # fmt: skip
def test_what_a_tool_writes_is_read_back(results, form, ending, error):
    folder = results(form, ending)

    found = files.find(folder, form, NAMES, 3)

    for name, paths in zip(NAMES, found, strict=True):
        for path, wanted in zip(paths, outputs(name), strict=True):
            got = files.load(path, LENGTHS)
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted.reshape(-1), rtol=0, atol=error * 4)


def test_each_tool_has_its_own_names(tmp_path):
    for form in FORMATS.values():
        files.write(tmp_path, form, "a.b", outputs("a.b")[:2])

    assert {path.name for path in tmp_path.iterdir()} == {
        "a.b_1.bin", "a.b_2.bin", "a.b_output_0.bin", "a.b_output_1.bin", "a_0.bin", "a_1.bin",
    }  # fmt: skip


def test_the_bytes_are_little_endian_float32(tmp_path):
    files.write(tmp_path, AIS, "x", [np.array([1.5, -2.0], np.float32)])

    assert (tmp_path / "x_0.bin").read_bytes() == struct.pack("<2f", 1.5, -2.0)


def test_text_is_laid_out_as_each_tool_lays_it_out(tmp_path):
    array = np.array([[1 / 3, 20], [1e-7, -4]], np.float32)

    for form in FORMATS.values():
        files.write(tmp_path, form, "x", [array], "txt")

    assert (tmp_path / "x_0.txt").read_text() == "0.333333 20.000000 \n0.000000 -4.000000 \n"
    assert (tmp_path / "x_output_0.txt").read_text() == "0.333333 20 \n1e-07 -4 \n"
    assert (tmp_path / "x_1.txt").read_text() == "0.333333 20 1e-07 -4\n"


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_missing_result_is_refused_and_not_skipped(results, form, place, index):
    folder = results(form)
    name = f"{form.stem(NAMES[place])}{form.infix}{form.first + index}"
    (folder / f"{name}.bin").unlink()

    with pytest.raises(DataError, match=f"{name} is missing; 1 of 3 inputs"):
        files.find(folder, form, NAMES, 3)


def test_an_input_without_any_result_is_refused(results):
    folder = results(AIS)

    with pytest.raises(DataError, match="9_new_0 is missing"):
        files.find(folder, AIS, [*NAMES, "9_new"], 3)


@pytest.mark.parametrize(
    ("stray", "words"),
    [
        ("0_Parade_1_0.txt", "same result"),
        ("0_Parade_1_3.bin", "has 3 outputs"),
        ("0_Parade_2_0.bin", "not a result of the"),
        ("0_Parade_1_output_0.bin", "not a result of the"),
        ("notes.md", "not a result of the"),
        ("0_Parade_1_00.bin", "not a result of the"),
    ],
)
def test_what_does_not_belong_is_refused(results, stray, words):
    folder = results(AIS)
    (folder / stray).write_bytes(b"")

    with pytest.raises(DataError, match=words):
        files.find(folder, AIS, NAMES, 3)


@pytest.mark.parametrize("leaving", ["sumary.json", "2026_11_20-10_00_00_summary.json"])
def test_the_summary_that_ais_bench_leaves_is_no_result(results, leaving):
    folder = results(AIS)
    (folder / leaving).write_text("{}")

    assert len(files.find(folder, AIS, NAMES, 3)) == 3


@pytest.mark.parametrize(("wrote", "read"), [(AIS, BENCHMARK), (BENCHMARK, AIS), (MSAME, AIS), (AIS, MSAME)])
def test_results_of_another_tool_are_refused_and_not_shifted(results, wrote, read):
    folder = results(wrote)

    with pytest.raises(DataError):
        files.find(folder, read, NAMES, 3)


def test_inputs_that_ais_bench_would_call_alike_are_refused(tmp_path):
    with pytest.raises(DataError, match="called a in the results"):
        files.find(tmp_path, AIS, ["a.1", "a.2"], 1)


@pytest.mark.parametrize(
    ("content", "ending", "words"),
    [
        (b"", "bin", "0 values"),
        (struct.pack("<9f", *range(9)), "bin", "9 values"),
        (struct.pack("<20f", *range(20)), "bin", "20 values"),
        (struct.pack("<10f", *range(10))[:-1], "bin", "9 values"),
        (struct.pack("<10e", *range(10)), "bin", "float16"),
        (struct.pack("<10f", *[float("nan")] * 10), "bin", "NaN"),
        (b"1 2", "txt", "2 values"),
        (b"1 2 x 4", "txt", "not a number"),
        (b"1 2 nan 4", "txt", "NaN"),
        (b"1 2 3 4\xff", "txt", "cannot be read"),
        (b"1.5 2 3", "txt", "fractions"),
        (b"\x93NUMPY", "npy", "cannot be read"),
    ],
)
def test_a_damaged_result_is_refused(tmp_path, content, ending, words):
    path = tmp_path / f"x_0.{ending}"
    path.write_bytes(content)

    with pytest.raises(DataError, match=words):
        files.load(path, LENGTHS)


def test_a_result_of_sixteen_images_says_so(tmp_path):
    (tmp_path / "x_0.bin").write_bytes(np.zeros(16000, np.float32).tobytes())

    with pytest.raises(DataError) as refused:
        files.load(tmp_path / "x_0.bin", {1000: "float32"})

    assert "16 images" in refused.value.hint


@pytest.mark.parametrize(
    ("form", "made"),
    [
        (BENCHMARK, "result/dumpOutput_device0"),
        (BENCHMARK, "dumpOutput_device0"),
        (MSAME, "20211120_101010"),
        (AIS, "2026_11_20-10_10_10"),
    ],
)
def test_the_folder_that_the_tool_made_is_found(tmp_path, form, made):
    (tmp_path / made).mkdir(parents=True)

    assert files.folder_of(tmp_path, form) == tmp_path / made


def test_two_runs_in_one_folder_are_refused(tmp_path):
    for name in ("2026_11_20-10_10_10", "2026_11_20-10_10_11"):
        (tmp_path / name).mkdir()

    with pytest.raises(DataError, match="holds 2 runs"):
        files.folder_of(tmp_path, AIS)


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_no_results_are_refused(tmp_path, kind):
    with pytest.raises(DataError):
        files.folder_of(tmp_path if kind == "empty" else tmp_path / "absent", AIS)


def test_an_unknown_format_is_refused():
    with pytest.raises(UsageError, match="not a known result format"):
        files.format_of("trtexec")


def test_an_info_file_is_read_back(tmp_path):
    entries = [Entry("./prep/a.bin", 1000, 1000), Entry("./prep/b.bin", 1000, 1000)]

    files.write_info(tmp_path / "m.info", entries)

    assert (tmp_path / "m.info").read_text() == "0 ./prep/a.bin 1000 1000\n1 ./prep/b.bin 1000 1000\n"
    assert files.read_info(tmp_path / "m.info") == entries


def test_a_path_with_a_blank_cannot_stand_in_an_info_file(tmp_path):
    with pytest.raises(DataError, match="blank"):
        files.write_info(tmp_path / "m.info", [Entry("my prep/a.bin", 1, 1)])

    assert not Path(tmp_path / "m.info").exists()


@pytest.mark.parametrize(
    "text",
    ["", "1 a.bin 10 10\n", "0 a.bin 10\n", "0 a.bin 10 0\n", "0 a.bin 10 10\n0 b.bin 10 10\n", "0 a 1 1\n1 a 1 1\n"],
)
def test_a_damaged_info_file_is_refused(tmp_path, text):
    (tmp_path / "m.info").write_text(text)

    with pytest.raises(DataError):
        files.read_info(tmp_path / "m.info")


# --- hostile files ------------------------------------------------------------------------------------------------


def archive(path):
    np.savez(path.with_suffix(".npz"), np.zeros(10))
    path.with_suffix(".npz").rename(path)


HEADER = b"\x93NUMPY\x01\x00%b{'descr': '<f4', 'fortran_order': False, 'shape': (%b,), }\n"
WRONG = {
    "an archive of arrays": archive,
    "half an archive": lambda path: path.write_bytes(b"PK\x03\x04 and no more"),
    "a shape of many terabytes": lambda path: path.write_bytes(HEADER % (struct.pack("<H", 64), b"9" * 14)),
    "a header that is no literal": lambda path: path.write_bytes(HEADER % (struct.pack("<H", 55), b"[[[[[")),
    "a header of brackets": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x88\x13" + b"(" * 5000),
    "a pickle": lambda path: np.save(path, np.array([{}], object)),
    "nothing": lambda path: path.write_bytes(b""),
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_that_is_no_array_is_named(tmp_path, kind):
    path = tmp_path / "a_0.npy"
    WRONG[kind](path)

    with pytest.raises(DataError, match=r"a_0\.npy cannot be read"):
        files.load(path, LENGTHS)


@pytest.mark.parametrize("ending", ["bin", "txt"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_is_no_result(tmp_path, ending, make):
    make(tmp_path / f"a_0.{ending}")

    with pytest.raises(DataError, match=rf"a_0\.{ending} cannot be read: it is not a file"):
        files.load(tmp_path / f"a_0.{ending}", LENGTHS)


def test_an_index_of_many_digits_is_no_result(tmp_path):
    """Python reads no more than 4,300 of them, and a file name holds 255."""
    (tmp_path / ("a_" + "9" * 200 + ".bin")).write_bytes(b"")

    with pytest.raises(DataError, match="is not a result of the 1 inputs"):
        files.find(tmp_path, AIS, ["a"], 1)


@pytest.mark.parametrize("line", ["9" * 5000 + " a 1 1", "0 a 1 " + "9" * 5000])
def test_an_info_file_of_many_digits_is_refused(tmp_path, line):
    (tmp_path / "a.info").write_text(line)

    with pytest.raises(DataError, match=r"a\.info:1: "):
        files.read_info(tmp_path / "a.info")


def test_an_info_file_in_gbk_is_named(tmp_path):
    (tmp_path / "a.info").write_bytes("0 人脸.bin 1 1\n".encode("gbk"))

    with pytest.raises(DataError, match=r"a\.info cannot be read: .*utf-8"):
        files.read_info(tmp_path / "a.info")
