"""docs/tutorial.md, run as a reader would: every command in one shell, every answer as printed."""
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from harness.gateway import BINARY
from harness.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
# Ports of the page, and the admin listener's own.
PORTS = ("9101", "9102", "41002", "41003")


def steps():
    """The page's commands, each with what the page says comes of it."""
    blocks = re.findall(r"^```(sh|text|json)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    found = []
    for kind, text in blocks:
        if kind == "sh":
            found.append((text, None, None))
        else:
            found[-1] = (found[-1][0], kind, text)
    return found


def shape(value):
    """A value with its numbers taken out, as they differ from run to run."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    return 0 if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class Shell:
    """One bash, as in a terminal."""

    MARK = "=-= done"

    def __init__(self, folder):
        environment = {"PATH": f"{Path(BINARY).parent}:{os.environ['PATH']}", "HOME": str(folder)}
        self.errors = folder / "stderr.txt"
        with self.errors.open("w") as stream:
            self.process = subprocess.Popen(
                ["bash"], cwd=folder, env=environment, text=True, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
            )

    def run(self, command):
        self.process.stdin.write(f"{command}\necho '{self.MARK}' $?\n")
        self.process.stdin.flush()
        output = ""
        for line in self.process.stdout:
            if line.startswith(self.MARK):
                return output, int(line.split()[-1])
            output += line
        raise AssertionError(f"the shell ended: {self.errors.read_text()}")

    def wait_for(self, command):
        self.run(f"for i in $(seq 200); do {command} >/dev/null 2>&1 && break; sleep 0.05; done")

    def end(self):
        """Ends what the page may have left: its jobs are groups of their own."""
        try:
            self.run("kill -9 $(jobs -p) 2>/dev/null; true")
            self.process.stdin.close()
            self.process.wait(timeout=10)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def test_every_step(shell):
    ports = dict(zip(PORTS, (str(free_port()) for _ in PORTS)))

    def here(text):
        return re.sub("|".join(PORTS), lambda match: ports[match[0]], text)

    done = 0
    for command, kind, expected in steps():
        command = here(command)
        # The page's gateway has the standard admin port; this one must not meet another's.
        command = command.replace(
            "version: '1'\n", f"version: '1'\nadmin: {{listen: 127.0.0.1:{ports['41003']}}}\n")
        output, status = shell.run(command)
        assert status == 0, f"{command}\n{output}\n{shell.errors.read_text()}"
        if "umbra mock" in command:
            for port in (ports["9101"], ports["9102"]):
                shell.wait_for(f"curl -s http://127.0.0.1:{port}/v1/models")
        if "umbra gateway run" in command:
            shell.wait_for(f"grep 'Gateway ready' {shell.errors}")
            said = re.sub(r"^<\d>", "", shell.errors.read_text(), flags=re.M)
            for line in here(expected).splitlines():
                # How many workers there are is the machine's.
                assert re.sub(r"\d+ worker", "N worker", line) in re.sub(r"\d+ worker", "N worker", said)
        elif kind == "json":
            # An event is written once the copy has come back.
            for _ in range(50):
                if output.strip() not in ("", "null"):
                    break
                shell.run("sleep 0.1")
                output, _ = shell.run(command)
            assert shape(json.loads(output)) == shape(json.loads(expected)), output
        if "Sent:" in command:
            assert output.count("Sent: ") == 5
            shell.wait_for("test $(umbra events list --json | jq length) -ge 6")
        if "total_mirrored" in command:
            sums = json.loads(output)
            assert sums["total_mirrored"] == 6
            assert sums["shadow_failures"] == 0
        done += 1
    assert done == len(steps()) and done >= 10
    # Nobody printed a key.
    assert "sk-" not in shell.errors.read_text()
