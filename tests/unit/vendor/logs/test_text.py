"""A log is read alike whatever shell, container or terminal it came through, and what is no text is refused."""

import codecs
import json
import os
import re

import log_samples
import pytest

from harness.errors import DataError
from harness.vendor.logs import parse, read, read_text
from harness.vendor.logs.text import _unpacked

BATCH = {name: 4 if name in ("benchmark", "msame") else 8 for name in log_samples.ALL}
LOGS = sorted(log_samples.ALL)


def figure(text, name):
    (found,) = parse(text, batch=BATCH[name])
    return found


def plain(name):
    return figure(log_samples.ALL[name], name)


# --- characters ---------------------------------------------------------------------------------------------------

ENCODINGS = {
    "utf-16 of PowerShell": lambda text: codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le"),
    "utf-16 big endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-16 without a mark": lambda text: text.encode("utf-16-le"),
    "utf-16 big endian without a mark": lambda text: text.encode("utf-16-be"),
    "utf-32": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    "utf-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "gbk": lambda text: ("保存于 D:\\推理\\结果\r\n" + text).encode("gbk"),
    "gb18030": lambda text: ("\U0001f600 结果\n" + text).encode("gb18030"),
    "two encodings": lambda text: "结果\n".encode("gbk") + "结果█\n".encode() + text.encode(),
    "a character cut in two": lambda text: text.encode() + "█".encode()[:2] + b"\n",
    "latin-1": lambda text: ("temp\xe9rature: 40 \xb0C\n" + text).encode("latin-1"),
}


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_log_is_read_in_every_encoding_that_shells_write(tmp_path, name, encoding):
    path = tmp_path / "log.txt"
    path.write_bytes(ENCODINGS[encoding](log_samples.ALL[name]))

    (found,) = read(path, batch=BATCH[name])

    assert (found.per_device, found.batch) == (plain(name).per_device, plain(name).batch)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (codecs.BOM_UTF16_LE + "Inference".encode("utf-16-le")[:-1], "cut off inside a character"),
        (b"[infer] \0 5\n" * 9, "zero bytes"),
        (b"[infer] " * 9 + b"\0" * 99, "there are zero bytes before or after the text: a part of the log was lost"),
        (b"\0" * 99 + b"[infer] " * 9, "there are zero bytes before or after the text"),
        ("[infer]\n\n".encode("utf-16") + b"[infer] " * 9, "two encodings: that of line 3 is not UTF-16-LE"),
        (
            b"[infer] " * 9 + b"\n" + ("[infer]\n" * 99).encode("utf-16-le"),
            "two encodings: that of line 1 is not UTF-16",
        ),
        (b"\x1f\x8b\x08\0", "a gzip archive\n.*gunzip -k"),
        (b"PK\x03\x04\0", "a zip archive"),
        (codecs.BOM_UTF16_LE + "推理".encode("utf-16-le"), "no Latin letter"),
        (codecs.BOM_UTF8 + b"\xff\xfe", "no UTF-8 text|cut off inside"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_the_reason(tmp_path, data, words):
    path = tmp_path / "log.txt"
    path.write_bytes(data)

    with pytest.raises(DataError, match=f"log.txt cannot be read: .*({words})") as caught:
        read(path)
    assert caught.value.hint.startswith(("give a text file written by the tool", "unpack it: "))


def test_a_pipe_or_a_folder_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(DataError, match="a pipe or a device"):
        read(tmp_path / "pipe")
    with pytest.raises(DataError, match="a folder"):
        read(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path / "a\0b")


def test_a_log_larger_than_a_gibibyte_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "log.txt"
    path.touch()
    os.truncate(path, 2**30 + 1)
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert caught.value.fact == f"{path} cannot be read: it is larger than 1024 MiB"
    assert caught.value.hint == "give a text file written by the tool"

    monkeypatch.setattr("harness.vendor.logs.text.LARGEST", 5)
    path.write_text("12345")
    with pytest.raises(DataError, match="no Latin letter"):
        read_text(path)
    path.write_text("abcde")
    assert read_text(path) == "abcde"


@pytest.mark.parametrize("second", ['{"x": 1}', '{"log": 5}', '["log"]', '{"log": ' + "[" * 100_000, "no JSON"])
def test_lines_of_which_one_is_no_loggers_object_stay_as_they_are(second):
    whole = '{"log": "a\\r\\n"}\n\n{"msg": "b "}'

    assert _unpacked(whole) == "a\nb "
    assert _unpacked(f"{whole}\n{second}") == f"{whole}\n{second}"


# --- lines --------------------------------------------------------------------------------------------------------

PREFIXES = {
    "docker --timestamps": lambda i: f"2024-11-03T09:12:44.{123456789 + i}Z ",
    "kubectl, which leaves out zeros": lambda i: ("2024-11-03T09:12:44Z ", "2024-11-03T09:12:44.1205Z ")[i % 2],
    "a zone": lambda i: f"2024-11-03 09:12:{i % 60:02}.5 +08:00 ",
    "compose": lambda i: "trt-1  | ",
    "compose in colour": lambda i: "\x1b[36mtrt-1  |\x1b[0m ",
    "kubectl --prefix": lambda i: "[pod/trt-7c9f/trtexec] ",
    "cri": lambda i: f"2024-11-03T09:12:44.{i}Z stdout F ",
    "syslog": lambda i: f"Nov  3 09:12:{i % 60:02} lab03 bench[771]: ",
    "dmesg": lambda i: f"[{i * 90.5:10.3f}] ",
    "gitlab": lambda i: f"2024-11-03T09:12:44.{i:06}Z 01O ",
    "actions": lambda i: f"bench\trun trtexec\t2024-11-03T09:12:44.{i:07}Z ",
    "jenkins": lambda i: f"[2024-11-03T09:12:{i % 60:02}.120Z] ",
    "mpirun": lambda i: "[1,0]<stdout>:",
    "srun": lambda i: "0: ",
    "logging": lambda i: f"2024-11-03 09:12:44,{i:03} - 4711 - bench - INFO - ",
    "line numbers": lambda i: f"{i + 1:6}\t",
    "a quote": lambda i: "> ",
    "buildkit": lambda i: f"#12 {i * 0.37:.2f} ",
}


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_every_line_is_taken_away(name, prefix):
    lines = log_samples.ALL[name].splitlines()

    found = figure("".join(f"{PREFIXES[prefix](i)}{line}\n" for i, line in enumerate(lines)), name)

    assert found == plain(name)


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "".join(f"\x1b[32m{line}\x1b[0m\n" for line in text.splitlines()),
        lambda text: "".join(f"^[[1;32m{line}^[[0m\n" for line in text.splitlines()),
        lambda text: "".join(f"[32m{line}[0m\n" for line in text.splitlines()),
        lambda text: "".join(f"#033[32m{line}#033[0m\n" for line in text.splitlines()),
        lambda text: "".join(f"  {line}\t \n" for line in text.splitlines()),
        lambda text: "".join(json.dumps({"log": line + "\n", "stream": "stdout"}) + "\n" for line in text.splitlines()),
        lambda text: "".join(json.dumps({"MESSAGE": line, "_PID": "7"}) + "\n" for line in text.splitlines()),
        lambda text: text.replace(" ", "\xa0"),
        lambda text: text.replace(" = ", "\u3000=\u202f").replace(": ", ":\u3000"),
        lambda text: "  0%|    | 0/5\r 40%|##  | 2/5\r100%|####| 5/5 [00:00<00:00, 81.0it/s]" + text,
        lambda text: "0%\b\b5%\b\b" + text,
        lambda text: "$ ./run.sh\n" + text + "$ \n",
    ],
)  # fmt: skip
def test_colours_line_ends_and_progress_bars_change_nothing(name, change):
    assert figure(change(log_samples.ALL[name]), name).per_device == plain(name).per_device


def test_four_devices_behind_a_prefix_are_four_figures():
    lines = ["[INFO] try get model batchsize:8", *(f"{i}:0 device_{i} throughput:1000.0 start_time:1.5 end_time:3.5"
             for i in range(4)), "[INFO] summary throughput:4000.0"]  # fmt: skip

    found = parse("".join(f"2024-11-03T09:12:44.5Z {line}\n" for line in lines))

    assert [(each.device, each.per_device) for each in found] == [(i, 1000) for i in range(4)]


def test_lines_keep_the_numbers_that_an_editor_shows():
    text = log_samples.ais_bench().replace("[INFO] ---", "bar 1\rbar 2\rbar 3\n[INFO] ---", 1)

    assert figure(text, "ais_bench").lines == (6,)


def test_a_prefix_that_is_not_the_same_everywhere_is_named():
    lines = log_samples.ALL["trtexec"].splitlines()
    text = "".join(f"{'left' if i % 2 else 'right'} of it: {line}\n" for i, line in enumerate(lines))

    with pytest.raises(DataError, match=r"'(left|right) of it: ' comes before .*, and '(left|right)") as caught:
        parse(text, batch=8)
    assert "sed" in caught.value.hint


def test_of_prefixes_that_differ_sixty_characters_are_told():
    lines = log_samples.ALL["trtexec"].splitlines()
    text = "".join(f"{('a', 'b')[i % 2] * 70}: {line}\n" for i, line in enumerate(lines))

    with pytest.raises(DataError) as caught:
        parse(text, batch=8)
    assert sorted(re.findall("'(a+|b+)'", caught.value.fact)) == ["a" * 60, "b" * 60]


@pytest.mark.parametrize("name", [name for name in LOGS if name != "trtexec_7"])
@pytest.mark.parametrize("having", [lambda i, n: i < n // 2, lambda i, n: i >= n // 2, lambda i, _: i % 2])
def test_a_prefix_of_some_lines_only_is_taken_away(name, having):
    lines = log_samples.ALL[name].splitlines()
    text = "".join(f"{'trt-1  | ' if having(i, len(lines)) else ''}{line}\n" for i, line in enumerate(lines))

    assert figure(text, name).per_device == plain(name).per_device


def test_a_second_run_behind_a_prefix_is_seen():
    text = log_samples.ALL["trtexec"]

    with pytest.raises(DataError, match="several runs"):
        parse(text + "".join(f"trt-2 | {line}\n" for line in text.splitlines()), batch=8)


def test_a_word_before_one_line_is_no_prefix():
    with pytest.raises(DataError, match="'we hope for ' comes before the tool's own text and before no other line"):
        parse("hello\nwe hope for Throughput: 235 qps\n", batch=1)


def test_a_prefix_does_not_hide_a_second_run():
    text = "".join(f"trt-{n} | {line}\n" for n in (1, 2) for line in log_samples.ALL["trtexec"].splitlines())

    with pytest.raises(DataError, match="several runs"):
        parse(text, batch=8)


def test_a_prefix_does_not_hide_a_failure():
    text = log_samples.ALL["trtexec"].replace("&&&& PASSED", "&&&& FAILED")

    with pytest.raises(DataError, match="the run failed"):
        parse("".join(f"trt-1 | {line}\n" for line in text.splitlines()), batch=8)


@pytest.mark.parametrize("name", LOGS)
def test_a_prefixed_log_that_is_cut_off_is_refused(name):
    lines = [f"2024-11-03T09:12:44.12Z {line}" for line in log_samples.ALL[name].splitlines()]
    last = plain(name).lines[0]

    with pytest.raises(DataError):
        parse("\n".join(lines[: last - 1]), batch=BATCH[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGS)
def test_no_number_makes_a_log_a_crash(name):
    """Whatever figure is damaged: a figure or a refusal, and never another exception."""
    text = log_samples.ALL[name]
    for match in re.finditer(r"\d+(?:\.\d+)?", text):
        for other in ("0", "1", "1e99", "9" * 15, "9" * 5000, "0.00000001", "1e400", "nan", "-3", ""):
            try:
                parse(text[: match.start()] + other + text[match.end() :], batch=BATCH[name])
            except DataError:
                continue
