"""The unit for systemd in examples/, by systemd's own check."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.gateway import BINARY, Gateway, settings
from harness.waiting import wait_for

UNIT = Path(__file__).resolve().parents[2] / "examples/umbra.service"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_unit_is_valid_and_hardened(tmp_path):
    # The binary has to be there for the check.
    unit = tmp_path / "umbra.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/umbra", BINARY))
    run = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    run = subprocess.run(["systemd-analyze", "security", "--offline=true", str(unit)],
                         capture_output=True, text=True, timeout=60)
    exposure = float(re.search(r"exposure level for umbra.service: ([0-9.]+)", run.stdout)[1])
    assert exposure < 2.5, run.stdout


@pytest.mark.skipif(not shutil.which("systemd-analyze") or not shutil.which("strace"),
                    reason="no systemd-analyze or no strace")
def test_its_filter_lets_every_system_call_through(origin, shadow, tmp_path):
    run = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True,
                         text=True, timeout=60)
    groups, name = {}, None
    for line in run.stdout.splitlines():
        if line.startswith("@"):
            name = line.split()[0]
            groups[name] = set()
        elif name and line.startswith("    ") and not line.strip().startswith("#"):
            groups[name].add(line.strip())

    def calls(group):
        found = set()
        for entry in groups[group]:
            found |= calls(entry) if entry.startswith("@") else {entry}
        return found

    allowed = calls("@system-service")
    trace = tmp_path / "trace"
    gateway = Gateway(tmp_path, settings(origin, shadow, access_log={"path": "access.log"}))
    gateway.command = ["strace", "-f", "-qq", "-o", str(trace), *gateway.command]
    gateway.start()
    try:
        assert gateway.ask("/t/unit").status == 200
        wait_for(lambda: gateway.metrics().sum("umbra_requests_total") == 1, "the count")
        supervisor = gateway.processes("supervisor")[0]["pid"]
        subprocess.run(["kill", "-TERM", str(supervisor)], check=True)
        assert gateway.process.wait(30) == 0
    finally:
        gateway.kill()
    used = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", trace.read_text(), re.MULTILINE))
    assert len(used) > 30 and used - allowed == set()
