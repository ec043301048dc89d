"""The access log: one JSON line a request, with the shadow's outcome in it where there is one."""

import json

import pytest

from harness.gateway import exchange, request_bytes, settings
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
    mirroring.ask(path, fields=[("Authorization", "Bearer t0psecret"), ("Cookie", "t0psecret")])
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
