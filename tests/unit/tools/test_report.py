"""chipproof report is given files: what is none is said as that, and not as a damaged run."""

import os

import pytest

from tools import cli


@pytest.fixture
def refused(capsys):
    def refused(path):
        with pytest.raises(SystemExit) as ended:
            cli.main(["report", str(path)])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert "move it away" not in err
        assert "run the suite again" not in err
        return err

    return refused


def test_a_folder_without_records_is_named(refused, tmp_path):
    err = refused(tmp_path)

    assert f"there is no record file in {tmp_path}" in err
    assert "--results" in err


def test_a_missing_file_is_missing(refused, tmp_path):
    err = refused(tmp_path / "gone.jsonl")

    assert f"there is no file {tmp_path / 'gone.jsonl'}" in err
    assert "--results DIR" in err


def test_a_mistyped_name_is_answered_with_those_there(refused, tmp_path):
    (tmp_path / "right.jsonl").write_text("")

    assert "record files there: right.jsonl" in refused(tmp_path / "wrong.jsonl")


def test_a_pipe_is_no_record_file(refused, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")

    assert "is a pipe or a device" in refused(tmp_path / "pipe.jsonl")
