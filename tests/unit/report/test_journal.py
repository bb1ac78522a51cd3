"""A journal's lines are chained: what is read is what was written."""

import os

import pytest

from harness.errors import DataError, StoreError
from harness.report.journal import Journal, read, text_of


def test_lines_read_back_without_their_chains(tmp_path):
    book = Journal(tmp_path / "a.jsonl", {"host": "lab"})
    book.add({"kind": "footer"})
    book.close()

    found = read(tmp_path / "a.jsonl")
    assert [line["kind"] for line in found.lines] == ["header", "footer"]
    assert all("chain" not in line for line in found.lines)
    assert found.cut == ""


def test_every_line_is_on_disk_when_it_is_written_and_read_where_the_run_was_cut_off(tmp_path, monkeypatch):
    synced, sound = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size) or sound(file))
    book = Journal(tmp_path / "a.jsonl", {})
    for kind in ("begin", "record"):
        book.add({"kind": kind})
        assert synced[-1] == (tmp_path / "a.jsonl").stat().st_size
    book.close()

    found = read(tmp_path / "a.jsonl")
    assert [line["kind"] for line in found.lines] == ["header", "begin", "record"]
    assert found.cut == "CUT OFF after line 3"


def test_a_line_depends_on_all_before_it():
    assert text_of({"kind": "end"}, "")[1] != text_of({"kind": "end"}, text_of({"kind": "begin"}, "")[1])[1]


def test_nan_is_refused_where_no_shape_is_asked(tmp_path):
    book = Journal(tmp_path / "a.jsonl", {})
    book.close()
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"kind": "end", "more": [NaN], "chain": ""}\n')

    with pytest.raises(DataError, match="line 2 cannot be read: NaN is not a number"):
        read(tmp_path / "a.jsonl")


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    Journal(tmp_path / "a.jsonl", {}).close()

    with pytest.raises(StoreError, match="cannot be written"):
        Journal(tmp_path / "a.jsonl", {})


def test_a_line_of_another_file_is_refused(tmp_path):
    for name in ("a", "b"):
        Journal(tmp_path / f"{name}.jsonl", {"host": name}).close()
    (tmp_path / "a.jsonl").write_text((tmp_path / "a.jsonl").read_text().replace('"a"', '"b"'))

    with pytest.raises(DataError, match="was changed"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize("content", [b"hello\n", b"hello", b"[1]\n", b"{}\n", b"\xff\xfe\n\n", b""])
def test_a_file_that_never_was_a_record_is_not_said_to_be_damaged(content, tmp_path):
    (tmp_path / "model.txt").write_bytes(content)

    with pytest.raises(DataError, match=r"is not a record file|has no header") as refused:
        read(tmp_path / "model.txt")
    assert refused.value.hint.endswith("chipproof report DIR")


def test_what_is_no_file_is_told_apart_from_a_folder(tmp_path):
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "none.jsonl", "there is no file")):
        with pytest.raises(DataError, match=said) as refused:
            read(path)
        assert refused.value.hint.startswith("give a record file (.jsonl)")


def test_a_file_that_goes_on_after_its_footer_is_refused(tmp_path):
    book = Journal(tmp_path / "a.jsonl", {})
    for kind in ("footer", "record"):
        book.add({"kind": kind})
    book.close()

    with pytest.raises(DataError, match="continues after its footer, at line 3"):
        read(tmp_path / "a.jsonl")
