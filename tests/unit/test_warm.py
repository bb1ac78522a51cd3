"""A process that starts warm is what a started one is: its words, environment, folder, descriptors, parent and end."""

import os
import subprocess
import sys

import psutil
import pytest
import warm

SAYS = """
import faulthandler, json, os, sys
known = {n: v for n, v in os.environ.items() if n not in ("_", "SHLVL", "LINES", "COLUMNS")}
streams = [(s.encoding, s.errors, s.line_buffering, s.write_through, s.isatty(), s.name)
           for s in (sys.stdin, sys.stdout, sys.stderr)]
told = {"words": sys.argv, "path": sys.path, "env": known, "cwd": os.getcwd(), "streams": streams,
        "given": sys.stdin.read(), "parent": os.getppid(), "leads": os.getsid(0) == os.getpid(),
        "faults": faulthandler.is_enabled(), "writes": sys.dont_write_bytecode, "name": __name__,
        "opened": sorted(n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}"))}
print(json.dumps(told, indent=1))
print("to the other", file=sys.stderr)
"""


@pytest.fixture
def both(monkeypatch):
    """Run a command as always, and warm."""
    server = warm.Server("numpy")
    warm.instead(monkeypatch, server)

    def run(*words, start=subprocess.run, **more):
        results = []
        for kind in (warm.REAL, warm.Popen):
            monkeypatch.setattr(subprocess, "Popen", kind)
            results.append(start([sys.executable, *map(str, words)], **more))
        return results

    yield run
    assert server.ours is not None, "nothing was started warm"
    server.close()


@pytest.mark.parametrize("way", ["script", "-m", "-c"])
@pytest.mark.parametrize("options", [[], ["-u", "-X", "faulthandler"]], ids=str)
def test_it_finds_what_a_started_process_finds(both, way, options, tmp_path):
    (tmp_path / "says.py").write_text(SAYS)
    (tmp_path / "below").mkdir()
    words = {"script": [tmp_path / "says.py"], "-m": ["-m", "says"], "-c": ["-c", SAYS]}[way]
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "SAID": "\u4e2d", "PYTHONDONTWRITEBYTECODE": "1"}
    given = {"env": env, "cwd": tmp_path / "below", "input": "fed", "start_new_session": way == "-c"}

    started, forked = both(*options, *words, "--flag", "", capture_output=True, text=True, **given)

    assert started.returncode == 0, started.stderr
    assert forked.stdout == started.stdout
    assert (forked.returncode, forked.stderr) == (0, started.stderr)


@pytest.mark.parametrize(
    "code", ["1/0", "raise SystemExit(3)", "raise SystemExit('why')", "pass", "import os; os.kill(os.getpid(), 11)",
             "import atexit; atexit.register(print, 'at the end'); print('x', end='')", "import no_such_module",
             "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()"],
)  # fmt: skip
def test_it_ends_as_a_started_process_ends(both, code):
    started, forked = both("-c", code, capture_output=True, text=True)

    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]


def test_it_is_killed_and_waited_for_as_a_started_process_is(both):
    for process in both("-c", "import time; time.sleep(60)", start=subprocess.Popen):
        assert process.poll() is None
        process.kill()
        assert process.wait(10) == -9


def test_descriptors_keep_their_numbers(both):
    ours, theirs = os.pipe()
    code = f"import os; os.write({theirs}, b'by number ')"

    both("-c", code, pass_fds=[theirs], check=True)

    os.close(theirs)
    with os.fdopen(ours) as read:
        assert read.read() == "by number by number "


@pytest.mark.parametrize("words", [["-I", "-c", "import sys; print(sys.flags.isolated)"], ["--version"]])
def test_what_it_does_not_understand_is_started(both, words):
    both("-c", "", check=True)

    started, forked = both(*words, capture_output=True, text=True)

    assert forked.stdout == started.stdout
    assert forked.returncode == started.returncode == 0


def test_nothing_of_the_suite_is_imported_before_it_is_asked_for(monkeypatch):
    """A test that changes a copy of the suite would run the original."""
    warm.instead(monkeypatch, warm.LIGHT)

    done = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)

    there = {name.split(".")[0] for name in done.stdout.split()}
    assert there >= set(warm.LIGHT.modules), "it was started"
    assert not there & {"harness", "tools", "tests", "baselines"}


BELOW = """
import os, subprocess, sys
there = ["numpy" in sys.modules, os.getppid() == int(sys.argv[2]), sorted(map(int, os.listdir("/proc/self/fd")))[:3]]
print(*there, flush=True)
if int(sys.argv[1]):
    subprocess.run([sys.executable, "-c", sys.argv[3], str(int(sys.argv[1]) - 1), str(os.getpid()), sys.argv[3]])
"""


def test_what_a_warm_process_starts_is_warm_too_where_that_is_asked_for(monkeypatch):
    warm.instead(monkeypatch, warm.LIGHT)
    monkeypatch.setenv("WARM_BELOW", "")

    words = [sys.executable, "-c", BELOW, "2", str(os.getpid()), BELOW]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert done.stdout.splitlines() == ["True True [0, 1, 2]"] * 3, done.stderr


def test_the_server_of_a_warm_process_that_is_killed_ends(monkeypatch):
    warm.instead(monkeypatch, warm.LIGHT)
    monkeypatch.setenv("WARM_BELOW", "")
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"],
                          stdout=subprocess.PIPE) as process:  # fmt: skip
        process.stdout.readline()
        (server,) = psutil.Process(process.pid).children()
        process.kill()

    assert not psutil.wait_procs([server], timeout=20)[1]
