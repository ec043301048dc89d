"""The gateway's own log: levels, forms, the journal's priorities, what repeats, and who never waits."""

import json
import os
import socket
import subprocess
import urllib.request

import pytest

from harness.gateway import BINARY, Gateway, exchange, request_bytes, settings
from harness.metrics import Metrics
from harness.waiting import wait_for

SECRET = "t0psecret-in-the-environment"


def own_lines(gateway):
    return [line for line in gateway.log if "umbra::gateway" in line or line.startswith("{")]


def run_once(config, tmp_path, *arguments, stderr=subprocess.PIPE, environment=None):
    """A gateway that does not get to listen; what it said."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config))
    return subprocess.run(
        [BINARY, "gateway", "run", "--policy-config", str(file), *arguments], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=stderr, timeout=20, cwd=tmp_path,
        env=dict(os.environ, **(environment or {})))


def test_text_is_the_default(run_gateway, origin):
    gateway = run_gateway(settings(origin))
    assert gateway.stop() == 0
    assert "INFO umbra::gateway Gateway ready" in gateway.log
    assert "INFO umbra::gateway Stopped" in gateway.log
    assert not [line for line in gateway.log if "DEBUG" in line]


def test_json_lines(run_gateway, origin, shadow):
    gateway = run_gateway(settings(origin, shadow, log={"format": "json", "level": "debug"}))
    gateway.ask("/t/json")
    assert gateway.stop() == 0
    lines = [json.loads(line) for line in gateway.log]
    assert {"time", "level", "process", "pid", "message"} == set().union(*lines)
    assert {"info", "debug"} <= {line["level"] for line in lines}
    assert any(line["message"] == "Gateway ready" and line["process"] == "supervisor"
               for line in lines)


def test_warnings_of_the_configuration_are_lines_too(tmp_path, origin):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        config = settings(origin, log={"format": "json"},
                          listen=f"127.0.0.1:{taken.getsockname()[1]}")
        config["providers"]["targets"].append({"id": "idle", "base_url": "http://127.0.0.1:1"})
        run = run_once(config, tmp_path)
    lines = [json.loads(line) for line in run.stderr.decode().splitlines()]
    assert run.returncode == 1
    assert any("W004" in line["message"] and line["level"] == "warn" for line in lines)
    assert any("cannot listen" in line["message"] and line["level"] == "error" for line in lines)


@pytest.mark.parametrize("level, seen, unseen", [
    ("error", [], ["INFO", "DEBUG", "WARN"]), ("debug", ["DEBUG", "INFO"], [])])
def test_levels_by_option(origin, tmp_path, level, seen, unseen):
    config = settings(origin, log={"level": "warn" if level == "debug" else "debug"})
    gateway = Gateway(tmp_path, config, ["--log-level", level])
    gateway.start(ready=False)
    try:
        wait_for(lambda: answers(gateway.port) and answers(gateway.admin_port), "the gateway")
        assert gateway.stop() == 0
    finally:
        gateway.kill()
    words = {line.split()[0] for line in own_lines(gateway)}
    assert words >= set(seen) and not words & set(unseen), gateway.text


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def test_an_unknown_level_is_refused(tmp_path, origin):
    run = run_once(settings(origin), tmp_path, "--log-level", "loud")
    assert run.returncode == 2 and b"error, warn, info, debug" in run.stderr


@pytest.mark.parametrize("to, named, prefixed", [
    ("auto", True, True), ("auto", False, False), ("stderr", True, False),
    ("journald", False, True)])
def test_the_journals_priorities(tmp_path, origin, to, named, prefixed):
    # JOURNAL_STREAM is what systemd says of the standard error that it made.
    path = tmp_path / "journal"
    with open(path, "wb") as stream:
        status = os.fstat(stream.fileno())
        name = f"{status.st_dev}:{status.st_ino}" if named else f"{status.st_dev}:1"
        config = settings(origin, log={"to": to}, access_log={"path": "/nowhere/at/all"})
        run = run_once(config, tmp_path, stderr=stream, environment={"JOURNAL_STREAM": name})
    lines = path.read_text().splitlines()
    assert run.returncode == 1
    error = next(line for line in lines if "cannot open access_log.path" in line)
    assert error.startswith("<3>ERROR " if prefixed else "ERROR ")
    assert all(line.startswith("<") == prefixed for line in lines)


def test_what_repeats_is_counted(run_gateway, origin, path):
    gateway = run_gateway(settings(origin))
    worker = gateway.pid("worker")
    # A process that dies again and again: each death is a line of one kind.
    for _ in range(6):
        worker = kill_worker(gateway, worker)
    deaths = [line for line in own_lines(gateway) if "ERROR umbra::gateway worker 0 died" in line]
    assert len(deaths) == 5, gateway.text
    held = gateway.metrics().sum("umbra_log_suppressed_total", role="supervisor", reason="repeated")
    assert held >= 1
    # The summary comes when the window is over.
    wait_for(lambda: any("more like it in 10 s" in line and "worker 0 died" in line
                         for line in own_lines(gateway)), "the summary", 15)
    assert gateway.stop() == 0


def kill_worker(gateway, pid):
    os.kill(pid, 9)
    def next_life():
        found = [p for p in gateway.processes("worker") if p["state"] == "running"]
        return found and found[0]["pid"] not in (0, pid) and found[0]["pid"]
    return wait_for(next_life, "the worker's next life", 15)


def test_a_reader_that_stands_still_stops_nobody(run_gateway, origin, tmp_path, path):
    # Standard error is a pipe that is full and that nobody reads: the gateway says what it has to say
    # into the void, and counts it.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writing, True)
    config = settings(origin)
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config))
    process = subprocess.Popen([BINARY, "gateway", "run", "--policy-config", str(file)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing)
    try:
        port = int(config["admin"]["listen"].rpartition(":")[2])
        wait_for(lambda: answers(port), "the gateway")
        text = wait_for(lambda: unwritten(port), "lines that nobody took")
        assert text > 0
        process.terminate()
        assert process.wait(15) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(reading)
        os.close(writing)


def unwritten(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        metrics = Metrics(answer.read().decode())
    return metrics.sum("umbra_log_suppressed_total", reason="unwritten")


def test_secrets_are_not_in_the_log(run_gateway, origin, path):
    config = settings(origin, log={"level": "debug"},
                      admin={"token": {"env": "UMBRA_ADMIN_TOKEN"}})
    gateway = run_gateway(config, environment={"UMBRA_ADMIN_TOKEN": SECRET})
    fields = [("Authorization", f"Bearer {SECRET}"), ("Cookie", SECRET)]
    with gateway.client() as client:
        exchange(client, f"{path}?token={SECRET}", "POST", fields, SECRET.encode())
    with gateway.client() as client:
        client.send(request_bytes(f"{path}?{SECRET}", "GET", fields + [("Content-Length", "x")]))
        assert client.read_final().status == 400
    assert gateway.stop() == 0
    assert gateway.log and not any(SECRET in line for line in gateway.log)
