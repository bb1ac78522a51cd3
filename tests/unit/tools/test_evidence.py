"""What is written to be sent to others names no machine and no person."""

from pathlib import Path

from harness.backends.registry import Sdk
from tools import evidence

TABLE = """\
+--------------------------------------------------------------+
| npu-smi 23.0.3.1          Version: 23.0.3.1                  |
| 0     310P3  | OK         | 15.2   45   0 / 0                |
| Serial Number : 2102312NNU10J9000123                         |
| UUID          : GPU-1f2e3d4c-aaaa-bbbb-cccc-0123456789ab     |
| ip 192.168.17.4 mac 00:1a:2b:3c:4d:5e at {host}              |
+==============================================================+
| NPU     Chip  | Process id    | Process name                 |
| 0       0     | 4242          | /home/{user}/secret/train.py |
"""


def test_the_bundle_holds_tables_and_versions_and_no_personal_data(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence.platform, "node", lambda: "lab-node-7.corp.example")
    monkeypatch.setattr(evidence, "_user", lambda: "zhangsan")
    monkeypatch.setattr(Path, "home", lambda: Path("/srv/people/zhangsan"))
    sdk = Sdk("X", (), (), "x", "", tables=(("npu-smi", "info"),))
    program = tmp_path / "npu-smi"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/table\n")
    program.chmod(0o755)
    (tmp_path / "table").write_text(TABLE.format(host="lab-node-7", user="lisi"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    text = evidence.evidence(["sdks TensorRT: ok: 10.0.1.6 at /srv/people/zhangsan/trt of zhangsan"], [sdk])

    for secret in ("lab-node-7", "zhangsan", "lisi", "2102312NNU10J9000123", "1f2e3d4c", "192.168.17.4", "00:1a:2b",
                   "4242", "secret", "/srv/people"):  # fmt: skip
        assert secret not in text, secret
    for kept in ("310P3", "10.0.1.6", "npu-smi 23.0.3.1 ", "Version: 23.0.3.1", "$ npu-smi info", "15.2   45"):
        assert kept in text, kept
