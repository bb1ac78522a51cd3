"""Weights are downloaded whole and with the published digest, or not at all."""

import contextlib
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from rich.cells import cell_len

from harness import matrix
from harness.errors import UsageError, WeightsError
from harness.models.base import Model, Weights
from tools import fetch, language

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: more than two chunks
SHA, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()


class Address(str):
    """Of a server that keeps the ranges that it was asked for."""

    def __new__(cls, text, asked):
        made = super().__new__(cls, text)
        made.asked = asked
        return made


@pytest.fixture
def server(monkeypatch):
    """Serves CONTENT at /whole and a page at /page; at /parts what is asked for of CONTENT, of which the first answer
    breaks off; at /shifted all of it, as if that had been asked for; at /refused nothing; at /huge a length beyond all.
    Keeps the ranges that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            bodies = {"/whole": CONTENT, "/page": b"<html>please log in</html>"}
            if self.path in ("/endless", "/drip"):
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):  # until the other end hangs up
                    while True:
                        self.wfile.write(b"x" if self.path == "/drip" else b"x" * 100_000)
                        time.sleep(0.05 if self.path == "/drip" else 0)
                return
            if self.path == "/refused":
                self.send_error(416)
                return
            if self.path in ("/shifted", "/huge"):
                self.send_response(206 if self.path == "/shifted" else 200)
                self.send_header("Content-Range", f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.send_header("Content-Length", str(len(CONTENT) if self.path == "/shifted" else 1 << 40))
                self.end_headers()
                self.wfile.write(CONTENT)
                return
            if self.path == "/parts":
                asked.append(self.headers["Range"])
                start = int(self.headers["Range"][6:-1]) if self.headers["Range"] else 0
                if start >= len(CONTENT):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.send_header("Content-Length", str(len(CONTENT) - start))
                self.end_headers()
                self.wfile.write(CONTENT[start:] if start else CONTENT[:700_000])
                return
            if self.path not in bodies:
                self.send_error(404)
                return
            body = bodies[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "*")
    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield Address(f"http://127.0.0.1:{httpd.server_port}", asked)
        httpd.shutdown()
        thread.join()


def weights(url, **digest):
    return Weights(("model.pth", "old_name.pth"), url, **(digest or {"sha256": SHA}))


def model(name, url, **digest):
    return Model(name, name, "classes", "imagenet", "image", ("class",), object, (), weights(url, **digest))


@pytest.fixture
def rows(monkeypatch):
    def put(*models):
        monkeypatch.setattr(matrix, "models", lambda: {row.name: row for row in models})

    return put


@pytest.mark.parametrize("digest", [{"sha256": SHA}, {"md5": MD5}])
def test_a_download_is_whole_and_checked(server, tmp_path, digest):
    told = []

    fetch.fetch(weights(f"{server}/whole", **digest), tmp_path / "w" / "model.pth", lambda *at: told.append(at))

    assert (tmp_path / "w" / "model.pth").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_download_that_broke_off_goes_on_where_it_ended(server, tmp_path):
    told, path = [], tmp_path / "model.pth"

    with pytest.raises(WeightsError, match=r"stopped after|cannot be fetched") as broken:
        fetch.fetch(weights(f"{server}/parts"), path)
    assert not path.exists()
    assert "resumes after 700000 bytes" in broken.value.hint
    fetch.fetch(weights(f"{server}/parts"), path, lambda *at: told.append(at))

    assert server.asked == [None, "bytes=700000-"]
    assert path.read_bytes() == CONTENT
    assert told[0][0] > 700_000
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("part", "way"),
    [(CONTENT[:5], "whole"), (b"x" * len(CONTENT), "parts"), (CONTENT, "gone"), (CONTENT[:9], "shifted")],
)
def test_a_part_is_gone_on_from_only_where_that_gives_the_file(server, tmp_path, part, way):
    """A publisher that gives all of it again; a part of another file, as long as the file; a part that is all of it; a
    publisher that gives another range than was asked for."""
    (tmp_path / "model.pth.part").write_bytes(part)

    if way == "parts":
        with pytest.raises(WeightsError):  # begun anew, and that broke off
            fetch.fetch(weights(f"{server}/{way}"), tmp_path / "model.pth")
        assert (tmp_path / "model.pth.part").stat().st_size == 700_000
        return
    fetch.fetch(weights(f"{server}/{way}"), tmp_path / "model.pth")

    assert (tmp_path / "model.pth").read_bytes() == CONTENT
    assert not (tmp_path / "model.pth.part").exists()


def test_a_wrong_part_costs_one_more_download(server, tmp_path):
    (tmp_path / "model.pth.part").write_bytes(b"another file")

    with pytest.raises(WeightsError, match="digest differs"):
        fetch.fetch(weights(f"{server}/parts"), tmp_path / "model.pth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("path", "says", "left"), [("endless", "more than 5 MB", 0), ("drip", "bytes/s", 1)])
def test_a_stream_that_does_not_end_is_refused(server, tmp_path, monkeypatch, path, says, left):
    monkeypatch.setattr(fetch, "MOST", 5_000_000)
    monkeypatch.setattr(fetch, "SLOW_S", 0.5)

    with pytest.raises(WeightsError, match=says):
        fetch.fetch(weights(f"{server}/{path}"), tmp_path / "model.pth")
    assert [each.name for each in tmp_path.iterdir()] == ["model.pth.part"][:left]


def test_a_length_beyond_any_checkpoint_is_refused_before_so_much_has_come(server, tmp_path):
    with pytest.raises(WeightsError, match="more than 1000 MB"):
        fetch.fetch(weights(f"{server}/huge"), tmp_path / "model.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_publisher_that_refuses_even_the_whole_file_is_told_as_that(server, tmp_path):
    with pytest.raises(WeightsError, match="Requested Range Not Satisfiable"):
        fetch.fetch(weights(f"{server}/refused"), tmp_path / "model.pth")


def test_a_file_url_is_fetched_too(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)

    fetch.fetch(weights((tmp_path / "source").as_uri()), tmp_path / "model.pth")

    assert (tmp_path / "model.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "words"),
    [("/page", "digest differs"), ("/gone", "Not Found")],
)
def test_a_bad_answer_leaves_nothing_behind(server, tmp_path, path, words):
    with pytest.raises(WeightsError, match=words):
        fetch.fetch(weights(server + path), tmp_path / "model.pth")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "file:///nowhere/at/all", "no url", ""])
def test_an_unreachable_url_says_how_to_go_on_by_hand(tmp_path, url):
    with pytest.raises(WeightsError) as refused:
        fetch.fetch(weights(url), tmp_path / "model.pth")

    assert "cannot be fetched" in refused.value.fact
    assert "by hand" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_what_is_here_and_right_is_not_fetched_again(rows, tmp_path):
    rows(model("a", "http://127.0.0.1:9/never"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "old_name.pth").write_bytes(CONTENT)

    fetch.command(["a"], tmp_path, download=True)

    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["old_name.pth"]


def test_a_data_set_that_was_asked_for_by_name_is_not_downloaded_and_it_is_said(tmp_path):
    with pytest.raises(UsageError, match="coco is not downloaded") as caught:
        fetch.command(["coco"], tmp_path, download=True)
    assert "cocodataset.org" in caught.value.hint


def test_a_file_of_another_digest_is_not_overwritten(rows, tmp_path):
    rows(model("a", "http://127.0.0.1:9/never"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.pth").write_bytes(b"mine")

    with pytest.raises(WeightsError, match="not the published file"):
        fetch.command(["a"], tmp_path, download=True)

    assert (tmp_path / "weights" / "model.pth").read_bytes() == b"mine"


def test_weights_without_a_digest_are_never_downloaded_unseen(rows, server, tmp_path):
    rows(model("a", f"{server}/whole", sha256=None), model("b", f"{server}/whole"))

    fetch.command([], tmp_path, download=True)

    assert (tmp_path / "weights" / "model.pth").read_bytes() == CONTENT  # of b, which has a digest

    (tmp_path / "weights" / "model.pth").unlink()
    with pytest.raises(WeightsError, match="no digest"):
        fetch.command(["a"], tmp_path, download=True)


def test_the_table_says_where_everything_comes_from(rows, tmp_path, capsys):
    rows(model("a", "http://example.org/a"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.pth").write_bytes(b"damaged")
    (tmp_path / "coco").mkdir()

    fetch.command(None, tmp_path, as_json=True)

    table = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(table) == {"a", *fetch.SETS}
    assert table["a"]["state"] == "here, digest WRONG"
    assert table["a"]["url"] == "http://example.org/a"
    assert (table["coco"]["state"], table["peta"]["state"]) == ("here", "missing")


def test_an_unknown_name_and_a_missing_folder_are_refused(rows):
    rows(model("a", "http://example.org/a"))

    with pytest.raises(UsageError, match="neither a model nor a data set"):
        fetch.command(["regnet"], None)
    with pytest.raises(UsageError, match="no folder to download into"):
        fetch.command(["a"], None, download=True)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_addresses_can_be_copied_whole_at_80_columns(monkeypatch, capsys, lang):
    monkeypatch.setenv("COLUMNS", "80")

    with language.read_in(["fetch", "--lang", lang]):
        fetch.command(None, None)

    lines = capsys.readouterr().out.splitlines()
    urls = {model.weights.url for model in matrix.models().values()} | {u for us, _ in fetch.SETS.values() for u in us}
    assert max(map(len, urls)) > 80
    assert urls <= set(lines)
    assert max(cell_len(line) for line in lines if line not in urls) <= 80
    assert "-> DATA/weights/gfocal_r50_fpn_1x.pth" in lines
    assert ("regnety_016：未给出 --data" in lines) is (lang == "zh")
