"""The webhook: what is posted, and that a deaf address changes nothing."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness.case import Case
from harness.errors import UsageError
from harness.report import webhook
from harness.report.records import Record, Run

CASE = Case.parse("regnety_016-ascend310p-fp16-bs16")
RECORD = Record(CASE, "numerics", "FAIL", "rms 0.5")
RUN = Run({"host": "lab-3", "time": "2026-11-29T00:00:00Z"}, (RECORD,), {"asked": 1})


@pytest.fixture
def address():
    """An address that keeps what it is sent, and answers what its path says."""
    heard = []

    class Keeps(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Keeps)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_head_line_is_posted(address):
    url, heard = address

    assert webhook.post(f"{url}/200", webhook.body(RUN, 1)) == ""

    (told,) = heard
    assert told["text"].startswith("chipproof on lab-3: not good: the chip is wrong; ran 1 of 1 case: 1 FAIL")
    assert (told["status"], told["counts"]) == (1, {"FAIL": 1})


@pytest.mark.parametrize(
    ("required", "stopped", "said"),
    [((), "", "good: nothing failed"), (("t4",), "", "the laboratory has a fault"), ((), "CUT OFF", "come to its end")],
)
def test_what_is_posted_knows_what_was_required_and_whether_the_run_ended(required, stopped, said):
    passed = Run(RUN.header, (Record(CASE, "numerics", "PASS", "x"),), {"asked": 1, "stopped": stopped})

    assert said in webhook.body(passed, 0, required)["conclusion"]


@pytest.mark.parametrize("path", ["404", "500"])
def test_an_address_that_refuses_is_named(path, address):
    assert path in webhook.post(f"{address[0]}/{path}", webhook.body(RUN, 1))


def test_an_address_where_nobody_is_is_named():
    assert webhook.post("http://127.0.0.1:9/", {}).startswith("http://127.0.0.1:9/: ")


@pytest.mark.parametrize("url", ["ftp://a/b", "file:///etc/passwd", "lab", "https://"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="is not an address"):
        webhook.check(url)
