"""The access log: one JSON line a request, with the shadow's outcome in it where there is one."""

import json
import os
import signal
import subprocess

import pytest

from harness.gateway import BINARY, exchange, request_bytes, settings
from harness.peer import answer
from harness.waiting import wait_for


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def gateway_settings(log_file):
    return {"access_log": {"path": str(log_file)},
            "routes": [{"name": "named", "match": {"path_prefix": "/named"}, "target": "app",
                        "mirror": {"enabled": False}}]}


def lines_with(log_file, text):
    if not log_file.exists():
        return []
    lines = [line for line in log_file.read_text().splitlines() if text in line]
    return [json.loads(line) for line in lines]


def wait_lines(log_file, text, count=1):
    wait_for(lambda: len(lines_with(log_file, text)) >= count, f"{count} lines with {text}")
    return lines_with(log_file, text)


def values(line):
    """Every value of a line, of what is nested in it too."""
    found = []
    for value in line.values() if isinstance(line, dict) else line:
        found += values(value) if isinstance(value, (dict, list)) else [value]
    return found


def test_a_line_for_each_request(mirroring, log_file, path):
    with mirroring.client() as client:
        for number in range(10):
            exchange(client, f"{path}/{number}", fields=[("X-Request-Id", f"id-{number}")])
    lines = wait_lines(log_file, path, 10)
    assert len(lines) == 10
    # A mirrored request's line waits for its copy's outcome: the order is not the requests'.
    for number, line in enumerate(sorted(lines, key=lambda line: line["request_id"])):
        got = values(line)
        assert "GET" in got and 200 in got and f"id-{number}" in got


def test_a_request_id_that_was_made_is_logged(mirroring, origin, log_file, path):
    mirroring.ask(path)
    assert origin.seen(path)[0].get("x-request-id") in values(wait_lines(log_file, path)[0])


def test_the_shadows_outcome_is_in_the_same_line(mirroring, shadow, log_file, path):
    shadow.on(path, raw=answer("418 Teapot"))
    mirroring.ask(path)
    line = wait_lines(log_file, path)[0]
    assert line["status"] == 200 and line["latency_us"] > 0
    copy = line["shadows"][0]
    assert (copy["shadow"], copy["status"]) == ("next", 418) and copy["latency_us"] > 0
    assert copy["shadow_id"] == shadow.seen(path)[0].get("x-umbra-shadow-id")


def test_an_unmirrored_line_has_no_shadow(mirroring, log_file, path):
    mirroring.ask(f"/named{path}")
    line = wait_lines(log_file, path)[0]
    assert "named" in values(line)
    assert not line.get("shadows")


def test_refused_requests_are_logged(mirroring, log_file, path):
    with mirroring.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".encode())
        assert client.read_final().status == 400
    assert wait_lines(log_file, '"status":400')


@pytest.mark.parametrize("target", ['/%22"', "/\\x", "/a?b=\"c\"", "/</script>"])
def test_odd_targets_stay_json(mirroring, log_file, path, target):
    with mirroring.client() as client:
        client.send(request_bytes(path + target))
        client.read_final()
    assert len(wait_lines(log_file, path)) == 1


def test_odd_fields_cannot_forge_a_line(mirroring, log_file, path):
    mirroring.ask(path, fields=[("X-Request-Id", 'a","status":999,"x":"\xff\xfe'),
                                ("User-Agent", '"}\\n{"forged": true}')])
    line = wait_lines(log_file, path)[0]
    assert "forged" not in line and 999 not in values(line)


def test_secrets_are_not_logged(mirroring, log_file, path):
    mirroring.ask(f"{path}?page=2&api_key=t0psecret&next=%2Fx%3Ftoken%3Dt0psecret",
                  fields=[("Authorization", "Bearer t0psecret"), ("Cookie", "t0psecret")])
    line = wait_lines(log_file, path)[0]
    assert "t0psecret" not in json.dumps(line)


def test_the_last_lines_are_written_at_the_end(run_gateway, origin, tmp_path, path):
    file = tmp_path / "access.log"
    gateway = run_gateway(settings(origin, access_log={"path": str(file)}))
    with gateway.client() as client:
        for number in range(200):
            exchange(client, f"{path}/{number}")
    assert gateway.stop() == 0
    assert len(lines_with(file, path)) == 200


def test_off_writes_nothing(run_gateway, origin, path):
    gateway = run_gateway(settings(origin, access_log="off"))
    gateway.ask(path)
    assert gateway.stop() == 0
    assert not any(path in line for line in gateway.log)


def test_standard_output(run_gateway, origin, path):
    gateway = run_gateway(settings(origin, access_log={"path": "-"}))
    gateway.ask(path)
    wait_for(lambda: any(path in line and json.loads(line) for line in gateway.log
                         if line.startswith("{")), "a line on standard output")
    gateway.stop()


@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation(run_gateway, origin, shadow, tmp_path, path, mirrored):
    # As logrotate does it: rename, signal, and both files are whole.
    file = tmp_path / "access.log"
    gateway = run_gateway(settings(
        origin, *([shadow] if mirrored else []), access_log={"path": str(file)},
        runtime={"workers": 2}))
    for turn in range(3):
        before = gateway.metrics().sum("umbra_log_records_total")
        for number in range(20):
            gateway.ask(f"{path}/{turn}/{number}")
        wait_for(lambda: gateway.metrics().sum("umbra_log_records_total") == before + 20, "20 lines")
        file.rename(tmp_path / f"access.log.{turn}")
        gateway.signal(signal.SIGUSR1)
        wait_for(file.exists, "the new file")
        # The second worker opens it too.
        wait_for(lambda: all(opened(pid, file) for pid in worker_pids(gateway)), "both workers")
    gateway.ask(f"{path}/last")
    wait_lines(file, path)
    assert gateway.stop() == 0
    for turn in range(3):
        assert len(lines_with(tmp_path / f"access.log.{turn}", f"{path}/{turn}/")) == 20
    assert len(lines_with(file, path)) == 1


def worker_pids(gateway):
    return [p["pid"] for p in gateway.processes("worker")]


def opened(pid, file):
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            pass
    return str(file) in found and not [f for f in found if f.startswith(str(file) + ".")]


def test_rotation_signals_in_a_storm(run_gateway, origin, tmp_path, path):
    file = tmp_path / "access.log"
    gateway = run_gateway(settings(origin, access_log={"path": str(file)}))
    before = gateway.status()
    for number in range(300):
        gateway.signal(signal.SIGUSR1)
        if number % 10 == 0:
            gateway.ask(f"{path}/{number}")
    wait_lines(file, path, 30)
    assert [p["pid"] for p in gateway.status()["processes"]] == [
        p["pid"] for p in before["processes"]]
    pid = worker_pids(gateway)[0]
    wait_for(lambda: sum(os.readlink(f"/proc/{pid}/fd/{n}") == str(file)
                         for n in os.listdir(f"/proc/{pid}/fd")) == 1, "one descriptor of the file")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
                         capture_output=True)
    if run.returncode != 0:
        pytest.skip(f"no right to mount: {run.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_costs_lines_and_nothing_else(run_gateway, origin, small_disk, path):
    file = small_disk / "access.log"
    gateway = run_gateway(settings(origin, access_log={"path": str(file)}))
    (small_disk / "other").write_bytes(b"x" * 60_000)

    def lost():
        return gateway.metrics().sum("umbra_log_dropped_total", reason="write_failed")

    with gateway.client() as client:
        sent = 0
        while lost() < 20 and sent < 2_000:
            assert exchange(client, f"{path}/{sent}").status == 200
            sent += 1
        assert lost() >= 20
        wait_for(lambda: any("ERROR" in line and "No space left" in line for line in gateway.log),
                 "a line that says so")
        # Room again: nobody needs to do anything.
        (small_disk / "other").unlink()
        resumed = sent

        def is_written():
            nonlocal sent
            assert exchange(client, f"{path}/{sent}").status == 200
            sent += 1
            text = file.read_text()
            return any(f'{path}/{number}"' in text for number in range(resumed, sent))

        wait_for(is_written, "lines after there was room", every=0.05)
    wait_for(lambda: any("written again" in line for line in gateway.log), "a line that says so")
    assert gateway.stop() == 0
    good, halves = [], 0
    for line in file.read_text().splitlines():
        try:
            good += [json.loads(line)] if line else []
        except ValueError:
            halves += 1
    # At most one line is cut in two each time the disk fills, and what is there is there once.
    paths = [line["path"] for line in good]
    assert halves <= 2 and len(set(paths)) == len(paths)
    assert f"{path}/{sent - 1}" in paths


def test_every_line_of_a_full_disk_is_counted(run_gateway, origin, path):
    gateway = run_gateway(settings(origin, access_log={"path": "/dev/full"}))
    with gateway.client() as client:
        for number in range(100):
            assert exchange(client, f"{path}/{number}").status == 200
    wait_for(lambda: gateway.metrics().sum(
        "umbra_log_dropped_total", reason="write_failed") == 100, "100 lines that were lost")
    assert gateway.metrics().sum("umbra_log_records_total") == 100
    # One line of the log, not one for each.
    assert len([line for line in gateway.log if "access log:" in line]) == 1


def test_a_log_that_cannot_be_opened_starts_nothing(origin, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(settings(origin, access_log={"path": "/nowhere/access.log"})))
    run = subprocess.run([BINARY, "gateway", "run", "--policy-config", str(config)],
                         capture_output=True, timeout=20)
    assert run.returncode == 1
    assert b"cannot open access_log.path /nowhere/access.log: No such file" in run.stderr


def test_a_worker_starts_without_its_log(run_gateway, origin, tmp_path, path):
    # The folder went away, then the worker died: users are served, lines are counted.
    folder = tmp_path / "logs"
    folder.mkdir()
    gateway = run_gateway(settings(origin, access_log={"path": str(folder / "access.log")}))
    (folder / "access.log").unlink()
    folder.rmdir()
    worker = gateway.pid("worker")
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: gateway.pid("worker") not in (0, worker), "the next life")
    assert wait_for(lambda: gateway.ask(path), "an answer").status == 200
    wait_for(lambda: gateway.metrics().sum(
        "umbra_log_dropped_total", reason="write_failed") >= 1, "a line that was lost")
    folder.mkdir()

    def is_written():
        assert gateway.ask(f"{path}/again").status == 200
        return lines_with(folder / "access.log", f"{path}/again")

    # It is looked for once a second.
    wait_for(is_written, "lines in the file that can be written again", every=0.2)
