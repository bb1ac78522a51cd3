"""Several hosts: each runs its part over ssh with its own Python of the SDK, and one record file tells of all."""

from __future__ import annotations

import contextlib
import getpass
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import installed_tiny
import pytest

from harness.report.records import read_run
from tools import cli

ROOT = Path(__file__).parents[2]
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
HOSTS = ("lab1", "lab2")


@pytest.fixture
def ssh(tmp_path):
    """The first words of a command on either host: both are this machine, behind a private sshd on the loopback."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("there is no sshd; next: apt-get install --no-install-recommends openssh-server openssh-client")
    home = tmp_path / "ssh"
    home.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
    (home / "authorized_keys").write_text((home / "user.pub").read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {home}/authorized_keys\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        "Subsystem sftp internal-sftp\n"  # for scp
    )
    known = (home / "host.pub").read_text()
    (home / "known_hosts").write_text("".join(f"{host} {known}" for host in HOSTS))
    hosts = "".join(f"Host {host}\n  HostKeyAlias {host}\n" for host in HOSTS)
    (home / "config").write_text(
        f"{hosts}Host *\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {home}/user\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {home}/known_hosts\n  BatchMode yes\n  ConnectTimeout 20\n"
    )
    apart, made = Path("/run/sshd"), False  # where sshd drops privileges to, as root
    with contextlib.suppress(OSError):
        apart.mkdir()
        made = True
    log = (home / "log").open("w")
    daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", home / "sshd_config"], stdout=log, stderr=log)
    try:
        command = ["ssh", "-F", str(home / "config")]
        asked = subprocess.CompletedProcess([], 255, "", "")
        for _ in range(20):
            asked = subprocess.run([*command, HOSTS[0], "true"], capture_output=True, text=True)
            if asked.returncode == 0 or daemon.poll() is not None:
                break
            time.sleep(0.2)
        if asked.returncode:
            pytest.skip(f"sshd takes nobody in here: {asked.stderr.strip()}; {(home / 'log').read_text()[-300:]}")
        yield command
    finally:
        daemon.kill()
        daemon.wait()
        log.close()
        with contextlib.suppress(OSError):
            if made:
                apart.rmdir()


@pytest.mark.slow
def test_each_host_runs_its_shard_with_its_own_sdk_python_and_one_record_file_tells_of_all(ssh, tmp_path, capsys):
    marks = "(t4 or mlu370_s4) and tiny_one and fp16 and bs1 and export"
    pythons, runs, site = {}, [], installed_tiny.site(tmp_path / "site")
    for number, host in enumerate(HOSTS, 1):
        python = tmp_path / f"{host} python"  # a blank in its name has to survive the shell over there
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        pythons[host] = str(python)
        given = ["-m", marks, "--simulate", f"--shard={number}/2", f"--sdk-python={python}"]
        given += [f"--cache={tmp_path / 'cache'}", f"--results={tmp_path / host}"]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance", *given]
        run = shlex.join(["env", f"PYTHONPATH={site}", *command])
        runs.append(subprocess.Popen([*ssh, host, f"cd {shlex.quote(str(ROOT))} && {run}"], stdout=subprocess.PIPE))
    for run in runs:
        said, _ = run.communicate(timeout=600)
        assert run.returncode == 0, said.decode()
    here = tmp_path / "results"
    here.mkdir()
    results = [f"{host}:{tmp_path / host}/." for host in HOSTS]
    subprocess.run(["scp", "-q", *ssh[1:], "-r", *results, here], check=True)

    with pytest.raises(SystemExit, match="0"):
        cli.main(["report", str(here), "--records", str(tmp_path / "night.jsonl")])

    assert "ran 2 of 2 cases: 2 PASS" in capsys.readouterr().out
    parts = [read_run(path) for path in here.glob("*.jsonl")]
    assert {part.header["options"]["sdk_python"][0] for part in parts} == set(pythons.values())
    night = read_run(tmp_path / "night.jsonl")
    assert {record.case.chip for record in night.records} == {"t4", "mlu370_s4"}
    assert {line["test"] for line in night.lines if line["kind"] == "end"} == {
        line["test"] for part in parts for line in part.lines if line["kind"] == "end"
    }
