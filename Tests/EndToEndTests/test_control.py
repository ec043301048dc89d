"""Orders to a running gateway: mirroring off, on and at other rates, for a while; drain and stop; and
who may give them."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.gateway import BINARY, descendants, exchange, request_bytes, settings
from harness.load import Load
from harness.metrics import settled
from harness.ports import free_port
from harness.stream import connect
from harness.waiting import wait_for

# Between the answer to an order and the last copy at a peer's socket: a turn, and this machine's threads.
TURN_S = 0.3
JSON = "Content-Type: application/json"


def raw(gateway, text, timeout=10):
    """One request to the admin listener, byte for byte; its answer."""
    with connect(gateway.admin_port, timeout=timeout) as client:
        client.send(text if isinstance(text, bytes) else text.encode())
        return client.read_final("GET")


def post(gateway, page, body="{}", fields=(JSON,), host="localhost"):
    lines = [f"POST {page} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body.encode())}", *fields]
    return raw(gateway, "\r\n".join(lines) + "\r\n\r\n" + body)


def order(gateway, **members):
    if "time" in members:
        members["for"] = members.pop("time")
    got = post(gateway, "/mirror", json.dumps(members))
    assert got.status == 200, got.body
    return json.loads(got.body)


def umbra(gateway, *words, timeout=30):
    return subprocess.run([BINARY, *words, "--policy-config", str(gateway.file)], capture_output=True,
                          text=True, timeout=timeout, cwd=gateway.directory)


def page(gateway, name):
    status, text = gateway.admin(name)
    assert status == 200, text
    return json.loads(text)


def override(gateway, route):
    return next(r["override"] for r in page(gateway, "/mirror")["routes"] if r["route"] == route)


ROUTES = [
    {"name": "search", "match": {"path_prefix": "/search"}, "target": "app"},
    {"name": "half", "match": {"path_prefix": "/half"}, "target": "app", "mirror": {"sample_rate": 0.5}},
    {"name": "private", "match": {"path_prefix": "/private"}, "target": "app",
     "mirror": {"enabled": False}},
]


@pytest.fixture
def steered(run_gateway, origin, shadow):
    """Two workers, three routes beside the default one."""
    gateway = run_gateway(settings(origin, shadow, runtime={"workers": 2}, routes=ROUTES))
    yield gateway
    if gateway.process.poll() is None:
        assert gateway.stop() == 0, gateway.text


# Mirroring


def test_the_kill_switch_under_load(steered, shadow):
    with Load(steered, "/search/kill", clients=2) as load:
        for _ in range(3):
            load.wait_more(50)
            run = umbra(steered, "mirror", "off")
            assert run.returncode == 0 and run.stdout.startswith("mirroring is off (configured: on)")
            time.sleep(TURN_S)
            count = len(shadow.requests)
            load.wait_more(300)
            time.sleep(TURN_S)
            assert len(shadow.requests) == count, "a copy came after the switch"
            assert steered.metrics().sum("umbra_mirror_enabled") == 0
            run = umbra(steered, "mirror", "on")
            assert run.returncode == 0 and run.stdout.startswith("mirroring is on\n"), run.stdout
            wait_for(lambda: len(shadow.requests) > count, "copies after the switch")
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])
    metrics = settled(steered)
    assert metrics.sum("umbra_mirror_enabled") == 1
    assert metrics.sum("umbra_mirror_eligible_total") < load.answered


def test_the_kill_switch_holds_copies_that_wait(run_gateway, origin, shadow, path):
    """A shadow that does not answer keeps its connections: what waits for one is not sent any more."""
    go = threading.Event()
    shadow.on(path, lambda c, r: (go.wait(10), c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
    gateway = run_gateway(settings(origin, shadow))
    shadow.wait_seen(path, 0)
    with gateway.client() as client:
        body = b"x" * 1000
        head = request_bytes(path, fields=[("Content-Length", str(len(body)))])
        # Sampled with its head; its body ends after the switch.
        client.send(head)
        client.send(body[:500])
        wait_for(lambda: gateway.metrics().sum("umbra_mirror_sampled_total") == 1, "the sample")
        order(gateway, action="off")
        client.send(body[500:])
        assert client.read_final("GET").status == 200
    go.set()
    metrics = settled(gateway, sampled=1)
    assert metrics.dropped() == {"switched_off": 1}
    assert shadow.seen(path) == []


@pytest.mark.parametrize("rate", [0.1, 0.37])
def test_a_rate_is_exact_from_the_order_on(steered, rate):
    """±1 for each worker: clients stay with the worker that accepted them."""
    clients = [steered.client() for _ in range(6)]
    try:
        for client in clients:
            assert exchange(client, "/half/a").status == 200
        before = settled(steered).by("umbra_mirror_sampled_total", "worker", route="half")
        eligible = settled(steered).by("umbra_mirror_eligible_total", "worker", route="half")
        run = umbra(steered, "mirror", "rate", str(rate), "--route", "half")
        assert run.returncode == 0, run.stderr
        row = next(line.split() for line in run.stdout.splitlines() if line.startswith("half"))
        assert row == ["half", "next", str(rate), "rate", "-", "0.5"]
        for _ in range(40):
            for client in clients:
                assert exchange(client, "/half/a").status == 200
        metrics = settled(steered)
        for worker, count in metrics.by("umbra_mirror_sampled_total", "worker", route="half").items():
            asked = metrics.by("umbra_mirror_eligible_total", "worker", route="half")[worker]
            asked -= eligible[worker]
            assert abs(count - before[worker] - rate * asked) < 1 + 1e-6, (worker, asked)
        assert metrics.sum("umbra_mirror_override", route="half") == 1
        assert metrics.sum("umbra_mirror_override") == 1
    finally:
        for client in clients:
            client.close()


def test_orders_about_one_route_leave_the_others_alone(steered, shadow):
    def copies(route):
        count = len(shadow.seen(f"/{route}"))
        for _ in range(4):
            assert steered.ask(f"/{route}/x").status == 200
        settled(steered)
        return len(shadow.seen(f"/{route}")) - count

    order(steered, action="off", route="search")
    assert (copies("search"), copies("private"), copies("other")) == (0, 0, 4)
    # No order begins what the configuration leaves out.
    got = post(steered, "/mirror", '{"action":"on","route":"private"}')
    assert got.status == 409 and b"'private'" in got.body
    order(steered, action="rate", rate=1)
    assert (copies("search"), copies("private"), copies("other"), copies("half")) == (4, 0, 4, 4)
    shown = order(steered, action="on")
    assert all(route["override"] is None for route in shown["routes"])
    assert (copies("search"), copies("private")) == (4, 0)
    # Half of each worker's, to within one.
    assert copies("half") in (1, 2, 3)


def test_an_order_ends_by_itself(steered, shadow, path):
    with ThreadPoolExecutor(8) as others:
        # Whose pages make the admin process's turns long, so that some answer of the supervisor comes
        # within the turn of its order.
        pages = [others.submit(steered.admin, "/metrics") for _ in range(400)]
        for _ in range(200):
            shown = order(steered, action="off", time="2s")
            assert shown["enabled"] is False and shown["enabled_seconds_left"] in (1, 2)
        assert all(done.result()[0] == 200 for done in pages)
    order(steered, action="rate", rate=0.25, route="search")
    shown = order(steered, action="off", route="search", time="1s")
    assert override(steered, "search")["action"] == "off"
    assert "mirroring is off for another" in umbra(steered, "mirror", "status").stdout
    # What held before holds again.
    wait_for(lambda: override(steered, "search")["action"] == "rate", "the route's order to end")
    assert override(steered, "search") == {"action": "rate", "rate": 0.25, "seconds_left": None}
    wait_for(lambda: page(steered, "/mirror")["enabled"], "the switch to go back")
    said = [line for line in steered.log if "has ended" in line]
    assert len(said) == 2 and "'off for route search' for 1s has ended" in said[0], said
    steered.ask(path)
    shadow.wait_seen(path)


def test_orders_outlive_the_admin_process(steered):
    order(steered, action="off", time="1h")
    pid = steered.pid("admin")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: steered_admin(steered) not in (None, pid), "a new admin process")
    shown = page(steered, "/mirror")
    assert shown["enabled"] is False and 3500 < shown["enabled_seconds_left"] <= 3600
    assert order(steered, action="on")["enabled"] is True


def steered_admin(gateway):
    try:
        return gateway.pid("admin")
    except (AssertionError, OSError):
        return None


def test_status_shows_orders(steered):
    assert steered.status()["mirror"]["orders"] is None
    order(steered, action="rate", rate=0.125, route="half", time="30m")
    orders = steered.status()["mirror"]["orders"]
    half = next(r for r in orders["routes"] if r["route"] == "half")
    assert half["override"]["rate"] == 0.125 and 1790 < half["override"]["seconds_left"] <= 1800
    assert half["shadows"] == [{"shadow": "next", "enabled": True, "rate": 0.125,
                                "rate_configured": 0.5}]
    text = umbra(steered, "gateway", "status").stdout
    assert "0.125" in text and "29 m" in text or "30 m" in text, text


def test_commands_that_cannot_be(steered):
    for words, code, said in [
        (["mirror"], 2, "commands are"), (["mirror", "rate"], 2, "share"),
        (["mirror", "rate", "2"], 2, "share"), (["mirror", "rate", "nan"], 2, "share"),
        (["mirror", "off", "--for", "soon"], 2, "--for"), (["mirror", "off", "--for", "8d"], 2, "--for"),
        (["mirror", "off", "--json"], 2, "--json"),
        (["mirror", "off", "--route", "nobody"], 1, "There is no route 'nobody'"),
        (["mirror", "rate", "10%", "--route", "half"], 0, ""),
    ]:
        run = umbra(steered, *words) if len(words) > 1 else subprocess.run(
            [BINARY, *words], capture_output=True, text=True, timeout=15)
        assert run.returncode == code, (words, run.stderr)
        assert said in run.stderr, (words, run.stderr)
    assert override(steered, "half") == {"action": "rate", "rate": 0.1, "seconds_left": None}
    for words in (["mirror"], ["mirror", "rate"], ["gateway", "stop"], ["gateway", "reload"]):
        run = subprocess.run([BINARY, *words, "--help"], capture_output=True, text=True, timeout=15)
        assert run.returncode == 0 and "--admin" in run.stdout


def test_nobody_answers(tmp_path):
    for words in (["mirror", "off"], ["gateway", "stop"], ["gateway", "reload"], ["mirror", "status"]):
        run = subprocess.run([BINARY, *words, "--admin", f"127.0.0.1:{free_port()}"],
                             capture_output=True, text=True, timeout=15)
        assert run.returncode == 1 and "no gateway answers" in run.stderr, run.stderr


def test_without_shadows_there_is_nothing_to_switch(gateway):
    got = post(gateway, "/mirror", '{"action":"off"}')
    assert got.status == 409 and b"names no shadow" in got.body
    assert "nothing is mirrored" in umbra(gateway, "mirror", "status").stdout


# Who may order


@pytest.mark.parametrize("host,fields,status", [
    ("localhost", [], 200), ("127.0.0.1:1", [], 200), ("[::1]", [], 200), ("10.1.2.3", [], 200),
    ("evil.example", [], 403), ("localhost.evil.example", [], 403), ("127.0.0.1.evil.example", [], 403),
    ("localhost", ["Origin: http://localhost"], 200), ("localhost:9", ["Origin: http://localhost:9"], 200),
    ("localhost", ["Origin: https://LOCALHOST"], 200),
    ("localhost", ["Origin: http://localhost:9"], 403), ("localhost", ["Origin: null"], 403),
    ("localhost", ["Origin: http://evil.example"], 403), ("localhost", ["Origin: localhost"], 403),
    ("localhost", ["Origin: http://localhost", "Origin: http://evil.example"], 403),
])
def test_web_pages_may_not_speak_to_it(mirroring, host, fields, status):
    got = post(mirroring, "/mirror", '{"action":"on"}', [JSON, *fields], host)
    assert got.status == status, got.body
    lines = ["GET /mirror HTTP/1.1", f"Host: {host}", *fields]
    assert raw(mirroring, "\r\n".join(lines) + "\r\n\r\n").status == status
    # Probes are for everybody.
    assert raw(mirroring, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").status == 200


def test_a_token_is_asked_for(run_gateway, origin, shadow):
    config = settings(origin, shadow, admin={"token": {"env": "CONTROL_TOKEN"}})
    gateway = run_gateway(config, environment={"CONTROL_TOKEN": "s3cret"})
    for fields, status in [([], 401), (["Authorization: Bearer wrong"], 401),
                           (["Authorization: Bearer s3cret"], 200)]:
        got = post(gateway, "/mirror", '{"action":"off"}', [JSON, *fields], host="umbra.internal")
        assert got.status == status, got.body
    got = post(gateway, "/mirror", '{"action":"on"}',
               [JSON, "Authorization: Bearer s3cret", "Origin: http://evil.example"])
    assert got.status == 403
    words = [BINARY, "mirror", "on", "--policy-config", str(gateway.file)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=15)
    assert run.returncode == 1 and "admin.token.env" in run.stderr
    run = subprocess.run(words, capture_output=True, text=True, timeout=15,
                         env={**gateway.environment, "CONTROL_TOKEN": "other"})
    assert run.returncode == 1 and "token" in run.stderr
    run = subprocess.run(words, capture_output=True, text=True, timeout=15, env=gateway.environment)
    assert run.returncode == 0 and run.stdout.startswith("mirroring is on"), run.stderr


def test_a_gateway_whose_token_is_missing_does_not_start(tmp_path, origin):
    file = tmp_path / "policy-config.yaml"
    file.write_text(json.dumps(settings(origin, admin={"token": {"env": "NOT_SET_ANYWHERE"}})))
    run = subprocess.run([BINARY, "gateway", "run", "--policy-config", str(file)], capture_output=True,
                         text=True, timeout=15)
    assert run.returncode == 1 and "NOT_SET_ANYWHERE" in run.stderr


def test_names_can_be_allowed(run_gateway, origin, shadow):
    gateway = run_gateway(settings(origin, shadow, admin={"hosts": ["umbra.internal"]}))
    for host, status in [("umbra.internal:8", 200), ("UMBRA.internal", 200), ("evil.example", 403)]:
        assert post(gateway, "/mirror", '{"action":"on"}', host=host).status == status


# What is sent


@pytest.mark.parametrize("body,status,said", [
    ('{"action":"off"}', 200, ""), (' {\n"action" : "on" }\n', 200, ""),
    ('{"action":"rate","rate":0.5,"route":null,"for":null}', 200, ""),
    ("", 400, "not JSON"), ("{", 400, "not JSON"), ("[]", 400, "no JSON object"), ("1", 400, "no JSON object"),
    ('{"action":"off"}x', 400, "not JSON"), ('{"action":"off","action":"on"}', 400, "twice"),
    ('{"action":"maybe"}', 400, "off, on or rate"), ("{}", 400, "off, on or rate"),
    ('{"action":1}', 400, "string"), ('{"action":"rate"}', 400, "rate is missing"),
    ('{"action":"off","rate":0.5}', 400, "only beside"), ('{"action":"rate","rate":"0.5"}', 400, "number"),
    ('{"action":"rate","rate":1.01}', 400, "0 to 1"), ('{"action":"rate","rate":-0.1}', 400, "0 to 1"),
    ('{"action":"rate","rate":1e999}', 400, "0 to 1"), ('{"action":"off","route":"x"}', 400, "no route 'x'"),
    ('{"action":"off","for":"1y"}', 400, "90s"), ('{"action":"off","for":"0s"}', 400, "90s"),
    ('{"action":"off","for":"8d"}', 400, "90s"), ('{"action":"off","for":5}', 400, "string"),
    ('{"action":"off","colour":1}', 400, "'colour' is unknown"),
    ('{"a":{"a":{"a":{"a":{"a":1}}}}}', 400, "nested"), ('{"action":"\xff"}', 400, ""),
    ("[" + "1," * 200 + "1]", 400, "too many values"),
])
def test_bodies(mirroring, body, status, said):
    got = post(mirroring, "/mirror", body)
    assert got.status == status, got.body
    assert said in got.body.decode()
    order(mirroring, action="on")


@pytest.mark.parametrize("fields,status", [
    ([], 415), (["Content-Type: text/plain"], 415), (["Content-Type: application/x-www-form-urlencoded"], 415),
    (["Content-Type: application/jsonx"], 415), ([JSON, JSON], 415), ([JSON + "; charset=utf-8"], 200),
    (["content-type: APPLICATION/JSON"], 200),
])
def test_only_json_is_taken(mirroring, fields, status):
    assert post(mirroring, "/mirror", '{"action":"on"}', fields).status == status


def test_methods(mirroring):
    for method, name, allow in [
        ("GET", "/reload", "POST"), ("PUT", "/mirror", "GET, HEAD, POST"), ("DELETE", "/drain", "GET, HEAD, POST"),
        ("POST", "/status", "GET, HEAD"), ("POST", "/targets", "GET, HEAD"),
    ]:
        got = raw(mirroring, f"{method} {name} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert got.status == 405 and got.get("allow") == allow, name
    assert page(mirroring, "/drain")["draining"] is False


def test_large_slow_and_chunked_bodies(mirroring):
    with connect(mirroring.admin_port, timeout=10) as client:
        client.send(f"POST /mirror HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 4097\r\n\r\n".encode())
        got = client.read_final("POST")
        assert got.status == 413 and got.get("connection") == "close"
    got = raw(mirroring, f"POST /mirror HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
                         "0\r\n\r\n")
    assert got.status == 411
    # The longest that is taken, byte by byte.
    text = '{"action":"on"}'.ljust(4096)
    with connect(mirroring.admin_port, timeout=10) as client:
        client.send(f"POST /mirror HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 4096\r\n\r\n".encode())
        for start in range(0, 4096, 256):
            client.send(text[start:start + 256].encode())
            time.sleep(0.005)
        assert client.read_final("POST").status == 200
        # The connection goes on; the client that waits to be told is told.
        client.send(f"POST /mirror HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 15\r\n"
                    "Expect: 100-continue\r\n\r\n".encode())
        assert client.read_answer("POST").status == 100
        client.send(b'{"action":"on"}')
        assert client.read_final("POST").status == 200
    # A body that never comes: cut with 408, while others are served.
    with connect(mirroring.admin_port, timeout=15) as client:
        client.send(f"POST /mirror HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 15\r\n\r\n{{".encode())
        assert order(mirroring, action="on")["enabled"] is True
        assert client.read_final("POST").status == 408


def test_more_orders_than_slots_at_once(mirroring):
    """Each is carried out or refused, and none is lost."""
    clients = [connect(mirroring.admin_port, timeout=10) for _ in range(24)]
    body = b'{"action":"on"}'
    for client in clients:
        client.send(f"POST /mirror HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
                    .encode() + body)
    statuses = [client.read_final("POST").status for client in clients]
    for client in clients:
        client.close()
    assert set(statuses) <= {200, 503} and statuses.count(200) >= 8, statuses


def test_whoever_leaves_does_not_keep_a_slot(mirroring):
    body = b'{"action":"on"}'
    for _ in range(40):
        client = connect(mirroring.admin_port)
        client.send(f"POST /mirror HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
                    .encode() + body)
        client.abort()
    wait_for(lambda: post(mirroring, "/mirror", '{"action":"on"}').status == 200, "a free slot")


# Reload


def test_reload_by_the_api(steered, origin, shadow):
    order(steered, action="off", route="search", time="1h")
    order(steered, action="rate", rate=0.25, route="half")
    with Load(steered, "/search/reload", clients=2) as load:
        load.wait_more(20)
        steered.configure(dict(steered.config, limits={"idle_timeout": "61s"}))
        got = post(steered, "/reload")
        shown = json.loads(got.body)
        assert got.status == 200 and shown["reloaded"] is True and shown["generation"] == 2
        assert shown["took_ms"] > 0
        load.wait_more(20)
    steered.watch()
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])
    assert page(steered, "/config")["limits"]["idle_timeout"] == "61s"
    # Orders outlive it, with the time they have left.
    assert override(steered, "half") == {"action": "rate", "rate": 0.25, "seconds_left": None}
    assert override(steered, "search")["action"] == "off"
    count = len(shadow.seen("/search/after"))
    for _ in range(5):
        assert steered.ask("/search/after").status == 200
    settled(steered)
    assert len(shadow.seen("/search/after")) == count
    run = umbra(steered, "gateway", "reload")
    assert run.returncode == 0 and run.stdout.startswith("reloaded: configuration 3 serves"), run.stderr
    steered.watch()


def test_a_reload_that_is_refused(steered):
    steered.configure(dict(steered.config, limits={"feilds": 20}))
    got = post(steered, "/reload", "")
    shown = json.loads(got.body)
    assert got.status == 422 and shown["file"] == str(steered.file)
    assert [(f["path"], f["code"], f["remedy"]) for f in shown["findings"]] == [
        ("limits.feilds", "E002", "did you mean fields?")]
    assert shown["findings"][0]["line"] > 1 and shown["findings"][0]["column"] > 1
    run = umbra(steered, "gateway", "reload", timeout=15)
    # The command reads the same file to find the gateway, and says the same.
    assert run.returncode == 2 and "error[E002]: limits.feilds" in run.stderr
    run = subprocess.run([BINARY, "gateway", "reload", "--admin", f"127.0.0.1:{steered.admin_port}"],
                         capture_output=True, text=True, timeout=15)
    assert run.returncode == 2 and f"{steered.file}:" in run.stderr, run.stderr
    assert "error[E002]: limits.feilds: unknown key; did you mean fields?" in run.stderr
    assert steered.ask("/x").status == 200
    assert page(steered, "/config")["limits"]["fields"] == 128


def test_reloads_at_once_are_all_answered(steered):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(steered, "/reload").status))
               for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # One is carried out; those that come meanwhile are told so.
    assert len(answers) == 5 and set(answers) <= {200, 409} and 200 in answers, answers
    steered.watch()
    assert steered.ask("/x").status == 200


# Pages


def test_config_shows_what_runs_and_no_secret(run_gateway, origin, shadow):
    routes = [{"name": "a", "match": {"path_prefix": "/a", "headers": {"x-api-key": "hunter2"}},
               "target": "app"}]
    gateway = run_gateway(settings(origin, shadow, routes=routes, runtime={"workers": 2}))
    shown = page(gateway, "/config")
    assert shown["runtime"]["workers"] == 2 and shown["runtime"]["drain_timeout"] == "5s"
    assert shown["routes"][0]["match"] == {"path_prefix": "/a", "headers": {"x-api-key": "***"}}
    assert shown["routes"][1]["mirror"][0]["sample_rate"] == 1
    assert shown["traffic_mirror"]["shadows"][0]["limits"] == {"qps": 100000, "in_flight": 1000}
    assert "hunter2" not in json.dumps(shown)


def test_targets(mirroring, path):
    mirroring.ask(path)
    shown = page(mirroring, "/targets")["targets"]
    assert [(t["id"], t["used_as"]) for t in shown] == [("app", ["primary"]), ("next", ["shadow"])]
    endpoint = shown[0]["endpoints"][0]
    assert endpoint["requests"] >= 1 and endpoint["health"] is None and endpoint["connects"] >= 1
    assert endpoint["addresses"] == [endpoint["endpoint"]]


# Drain


def test_drain_lets_requests_end(steered, origin, path):
    go = threading.Event()

    def slow(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        go.wait(10)
        connection.send(b"world")

    origin.on(path, slow)
    clients = [steered.client() for _ in range(4)]
    for client in clients:
        client.send(request_bytes(path))
    origin.wait_seen(path, 4)
    steered.watch()
    got = post(steered, "/drain")
    shown = json.loads(got.body)
    assert got.status == 202 and shown["draining"] is True and shown["pid"] == steered.process.pid
    # Who asks again is told the same.
    assert post(steered, "/drain").status == 202
    wait_for(lambda: refused(steered.port), "the listener to close")
    assert page(steered, "/drain")["connections_open"] == 4
    go.set()
    for client in clients:
        answer = client.read_final("GET")
        assert answer.status == 200 and answer.body == b"helloworld"
        client.close()
    assert steered.process.wait(10) == 0, steered.text


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def test_a_broken_file_keeps_nobody_from_the_gateway(steered, path):
    """On a bad day the file is half-edited, and the switch is wanted all the same."""
    good = steered.file.read_text()
    broken = json.loads(good)
    broken["no_such_key"] = 1
    steered.file.write_text(json.dumps(broken))
    run = umbra(steered, "mirror", "off")
    assert run.returncode == 0 and run.stdout.startswith("mirroring is off"), run.stderr
    assert umbra(steered, "gateway", "status").returncode == 0
    run = umbra(steered, "gateway", "reload")
    assert run.returncode == 2 and "no_such_key" in run.stderr and "nothing has changed" in run.stderr
    # No YAML at all: the way out is named.
    steered.file.write_text("listen: [")
    run = umbra(steered, "mirror", "on")
    assert run.returncode == 2 and "--admin ADDR:PORT" in run.stderr, run.stderr
    run = subprocess.run([BINARY, "mirror", "on", "--admin", f"127.0.0.1:{steered.admin_port}"],
                         capture_output=True, text=True, timeout=15)
    assert run.returncode == 0, run.stderr
    # A listener that the file has moved.
    moved = dict(steered.config, admin={"listen": f"127.0.0.1:{free_port()}"})
    steered.file.write_text(json.dumps(moved))
    run = umbra(steered, "gateway", "reload")
    assert run.returncode == 1 and "names the old" in run.stderr, run.stderr
    steered.file.write_text(good)


def test_who_holds_every_admin_connection_keeps_nobody_out(steered):
    held = [connect(steered.admin_port) for _ in range(80)]
    try:
        for client in held[:40]:
            client.send(b"GET /healthz HTTP/1.1\r\n")
        assert umbra(steered, "mirror", "off").returncode == 0
        assert steered.admin("/healthz")[0] == 200
    finally:
        for client in held:
            client.close()


def test_stop_waits_until_it_is_gone(steered, origin, path):
    go = threading.Event()
    origin.on(path, lambda c, r: (go.wait(10), c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
    with steered.client() as client:
        client.send(request_bytes(path))
        origin.wait_seen(path)
        wait_for(lambda: page(steered, "/drain")["connections_open"] == 1, "the count of connections")
        steered.watch()
        stop = subprocess.Popen([BINARY, "gateway", "stop", "--policy-config", str(steered.file)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: any("Stopping" in line for line in steered.log), "the drain to begin")
        assert stop.poll() is None and steered.process.poll() is None
        assert "1 connection(s) open" in stop.stderr.readline()
        go.set()
        assert client.read_final("GET").body == b"ok"
    out, err = stop.communicate(timeout=15)
    assert stop.returncode == 0 and out == "stopped\n", err
    assert steered.process.wait(5) == 0
    assert umbra(steered, "gateway", "stop").returncode == 1


def test_a_second_signal_ends_at_once(steered, origin, path):
    go = threading.Event()
    origin.on(path, lambda c, r: go.wait(10))
    with steered.client() as client:
        client.send(request_bytes(path))
        origin.wait_seen(path)
        steered.watch()
        assert post(steered, "/drain").status == 202
        steered.signal(signal.SIGTERM)
        assert steered.process.wait(3) == 1
    go.set()
    wait_for(lambda: not any(pid in steered.children for pid in descendants(1)), "all to end")
