"""Every limit answers with its status, and nobody holds a connection by being slow."""

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from harness.gateway import chunked, exchange, request_bytes, settings
from harness.message import Incomplete
from harness.peer import answer
from harness.ports import free_port
from harness.stream import connect
from harness.waiting import wait_for, wait_for_standstill

HEAD_BYTES, FIELDS, BODY_BYTES = 8192, 32, 1000
# Long enough that a busy machine does not run into one by itself.
SHORT_S, LATEST_S = 1.0, 8.0


@pytest.fixture(scope="module")
def full_listener():
    """A port whose accept queue is full: a connect to it hangs."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        waiting.append(sock)
    yield listener.getsockname()[1]
    for sock in waiting + [listener]:
        sock.close()


@pytest.fixture(scope="module")
def gateway_settings(origin, full_listener):
    def target(name, port):
        return {"id": name, "provider": "http", "base_url": f"http://127.0.0.1:{port}"}

    return {
        "limits": {"head_bytes": HEAD_BYTES, "fields": FIELDS, "body_bytes": BODY_BYTES,
                   "head_timeout": "1s", "body_timeout": "1s", "idle_timeout": "1s",
                   "connect_timeout": "500ms", "answer_timeout": "1s"},
        "providers": {"targets": [target("app", origin.port), target("full", full_listener),
                                  target("refused", free_port())]},
        "routes": [{"match": {"path_prefix": "/full"}, "target": "full"},
                   {"match": {"path_prefix": "/refused"}, "target": "refused"}],
    }


def status_of(gateway, raw, method="GET"):
    """The status, and that the connection is closed where the request was refused."""
    with gateway.client() as client:
        client.send(raw)
        got = client.read_final(method)
        if got.status >= 400:
            error = json.loads(got.body)["error"]
            assert {"type", "message", "code"} <= set(error)
        return got.status


@pytest.mark.parametrize("target_bytes,statuses", [(4000, {200}), (HEAD_BYTES * 2, {414})])
def test_long_targets(gateway, path, target_bytes, statuses):
    assert status_of(gateway, request_bytes(path + "?" + "a" * target_bytes)) in statuses


def test_an_endless_target(gateway, origin, path):
    with gateway.client() as client:
        client.send(f"GET {path}?".encode() + b"a" * 300_000)
        assert client.read_final().status == 414
        client.wait_end()


@pytest.mark.parametrize("value_bytes,statuses", [
    (HEAD_BYTES - 400, {200}), (HEAD_BYTES, {431}), (HEAD_BYTES * 40, {431})])
def test_large_fields(gateway, path, value_bytes, statuses):
    assert status_of(gateway, request_bytes(path, fields=[("X", "a" * value_bytes)])) in statuses


@pytest.mark.parametrize("count,status", [(FIELDS - 1, 200), (FIELDS, 431), (FIELDS * 5, 431)])
def test_many_fields(gateway, path, count, status):
    # Host is one of them.
    fields = [(f"X-{n}", "y") for n in range(count)]
    assert status_of(gateway, request_bytes(path, fields=fields)) == status


def test_an_endless_head(gateway, origin, path):
    with gateway.client() as client:
        client.send(request_bytes(path)[:-2])
        for _ in range(400):
            if not client.send(b"A: b\r\n" * 100):
                break
        assert client.read_final().status == 431
        client.wait_end()
    assert not origin.seen(path, origin.heads)


@pytest.mark.parametrize("size,status", [(BODY_BYTES, 200), (BODY_BYTES + 1, 413),
                                         (1 << 40, 413)])
def test_large_bodies_by_length(gateway, origin, path, size, status):
    body = b"x" * min(size, BODY_BYTES)
    raw = request_bytes(path, "POST", [("Content-Length", str(size))], body)
    assert status_of(gateway, raw, "POST") == status
    assert len(origin.seen(path, origin.heads)) == (1 if status == 200 else 0)


@pytest.mark.parametrize("size,status", [(BODY_BYTES, 200), (BODY_BYTES + 1, 413),
                                         (BODY_BYTES * 100, 413)])
def test_large_bodies_in_chunks(gateway, origin, path, size, status):
    pieces = [b"x" * min(300, size - at) for at in range(0, size, 300)]
    raw = request_bytes(path, "POST", [("Transfer-Encoding", "chunked")], chunked(*pieces))
    assert status_of(gateway, raw, "POST") == status
    assert len(origin.seen(path)) == (1 if status == 200 else 0)


def test_a_large_body_is_refused_before_it_is_sent(gateway, origin, path):
    fields = [("Content-Length", str(BODY_BYTES + 1)), ("Expect", "100-continue")]
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", fields))
        assert client.read_answer("POST").status == 413
    assert not origin.seen(path, origin.heads)


@pytest.mark.parametrize("value", ["200-ok", "100-continue-please", "x"])
def test_unknown_expectations(gateway, origin, path, value):
    raw = request_bytes(path, "POST", [("Expect", value)], b"x")
    assert status_of(gateway, raw, "POST") == 417
    assert not origin.seen(path, origin.heads)


def test_length_required(gateway, origin, path):
    # RFC 9110, section 15.5.12: a request that has content must say how much. Before HTTP/1.1
    # nothing but Content-Length can.
    raw = f"POST {path} HTTP/1.0\r\nHost: x\r\n\r\nsome content".encode()
    assert status_of(gateway, raw, "POST") == 411
    assert not origin.seen(path, origin.heads)


def test_post_without_body_in_http_1_1(gateway, origin, path):
    # RFC 9112, section 6.3: no framing at all means no content.
    assert status_of(gateway, request_bytes(path, "POST"), "POST") == 200
    assert origin.seen(path)[0].body == b""


@pytest.mark.parametrize("raw,status", [
    ("GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ("GET / HTTP/1.1\r\n\r\n", 400),
], ids=["505", "501", "400"])
def test_other_refusals(gateway, raw, status):
    assert status_of(gateway, raw.encode()) == status


def test_a_refused_connect(gateway):
    for _ in range(3):
        assert gateway.ask("/refused").status == 502


def test_a_hanging_connect(gateway):
    begin = time.monotonic()
    assert gateway.ask("/full").status == 504
    assert time.monotonic() - begin < LATEST_S


def test_a_hanging_answer(gateway, origin, path):
    origin.on(path, lambda c, r: c.read_to_end() and "close" or "close")
    begin = time.monotonic()
    with gateway.client() as client:
        assert exchange(client, path).status == 504
    assert 0.5 < time.monotonic() - begin < LATEST_S
    # What was asked of the origin is given up there too.
    wait_for(lambda: all(c.ended for c in origin.connections
                         if c.index == origin.seen(path)[0].connection), "the origin's end")


def test_an_interim_answer_is_no_answer(gateway, origin, path):
    def only_hints(connection, request):
        connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        connection.read_to_end()
        return "close"

    origin.on(path, only_hints)
    with gateway.client() as client:
        got = exchange(client, path)
        assert [a.status for a in got.interim] == [103]
        assert got.status == 504


def test_a_slow_head(gateway, origin, path):
    begin = time.monotonic()
    with gateway.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode())
        # Each byte comes in time; the head as a whole does not.
        while time.monotonic() - begin < LATEST_S and client.send(b"a"):
            if ended_or_answered(client):
                break
        assert client.read_final().status == 408
        assert client.wait_end() == b""
    assert 0.5 < time.monotonic() - begin < LATEST_S
    assert not origin.seen(path, origin.heads)


def ended_or_answered(client):
    client.sock.settimeout(0.1)
    try:
        client.fill()
        return True
    except TimeoutError:
        return False
    finally:
        client.sock.settimeout(client.timeout)


def test_a_client_that_says_nothing(gateway):
    with gateway.client() as client:
        left = client.wait_end(LATEST_S)
        assert left == b"" or left.startswith(b"HTTP/1.1 408 ")


def test_an_idle_client_is_let_go_in_silence(gateway, path):
    with gateway.client() as client:
        exchange(client, path)
        begin = time.monotonic()
        assert client.wait_end(LATEST_S) == b""
        assert time.monotonic() - begin > 0.5


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_slow_request_body(gateway, origin, path, framing):
    fields = [("Content-Length", "100")] if framing == "length" else [
        ("Transfer-Encoding", "chunked")]
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", fields))
        client.send(b"some" if framing == "length" else b"64\r\nsome")
        assert client.read_final("POST").status == 408
        assert client.wait_end() == b""
    assert not origin.seen(path)


@pytest.fixture(scope="module")
def patient(run_gateway, origin):
    """No bound on bodies, a short one on their standing still, a longer one on answers."""
    return run_gateway(settings(origin, limits={
        "body_timeout": "1s", "answer_timeout": "4s", "connect_timeout": "1s"}))


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_steady_request_body_is_served(patient, origin, path, framing):
    # Longer in all than body_timeout, but never still.
    piece, count = b"x" * 4096, 10
    fields = [("Content-Length", str(count * 4096))] if framing == "length" else [
        ("Transfer-Encoding", "chunked")]
    with patient.client() as client:
        client.send(request_bytes(path, "POST", fields))
        for _ in range(count):
            time.sleep(0.2)
            client.send(piece if framing == "length" else b"1000\r\n" + piece + b"\r\n")
        if framing == "chunked":
            client.send(b"0\r\n\r\n")
        assert client.read_final("POST").status == 200
    assert origin.seen(path)[0].body == piece * count


def test_a_trickling_request_body_is_cut(patient, origin, path):
    # A byte now and then is no progress: it would hold the connection for ever.
    begin = time.monotonic()
    with patient.client() as client:
        client.send(request_bytes(path, "POST", [("Content-Length", "100000")]))
        while time.monotonic() - begin < LATEST_S and client.send(b"x"):
            if ended_or_answered(client):
                break
        assert client.read_final("POST").status == 408
    assert not origin.seen(path)


def test_a_steady_answer_is_served(patient, origin, path):
    # Server-sent events: small, far apart, longer in all than every timeout.
    def events(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            time.sleep(0.5)
            connection.send(b"5\r\nevent\r\n")
        connection.send(b"0\r\n\r\n")

    origin.on(path, events)
    with patient.client() as client:
        assert exchange(client, path).body == b"event" * 10


def test_an_origin_that_never_reads_an_upload(patient, origin, path):
    release = threading.Event()
    origin.on_head(path, lambda c, r: release.wait(30) and "close")
    begin = time.monotonic()
    with patient.client() as client:
        client.send(request_bytes(path, "POST", [("Content-Length", "100000000")]))
        sender = threading.Thread(target=lambda: swallow_timeout(client, b"x" * 100_000_000), daemon=True)
        sender.start()
        client.sock.settimeout(15)
        try:
            assert client.read_final("POST").status in (408, 502, 504)
        except (Incomplete, ConnectionError):
            pass
        except TimeoutError:
            pytest.fail("the exchange hangs for ever")
        finally:
            release.set()
    assert time.monotonic() - begin < 15


def swallow_timeout(client, data):
    try:
        client.sock.sendall(data)
    except OSError:
        pass


@pytest.mark.parametrize("size", [20_000, 60_000])
def test_large_heads_pass_both_ways(patient, origin, path, size):
    # head_bytes is 64 KiB by default, for answers as for requests.
    origin.on(path, raw=b"HTTP/1.1 200 OK\r\nX-Large: " + b"b" * size
              + b"\r\nContent-Length: 2\r\n\r\nok")
    with patient.client() as client:
        for _ in range(3):
            got = exchange(client, path, "POST", [("X-Large", "a" * size)], b"body")
            assert (got.status, len(got.get("x-large") or "")) == (200, size)
    for request in origin.seen(path):
        assert len(request.get("x-large")) == size and request.body == b"body"


def test_many_large_heads_at_once(patient, origin, path):
    clients = [patient.client() for _ in range(40)]
    data = request_bytes(path, fields=[("X-Large", "a" * 30_000)])
    for client in clients:
        client.send(data[:-10])
    for client in clients:
        client.send(data[-10:])
    statuses = [client.read_final().status for client in clients]
    for client in clients:
        client.close()
    assert set(statuses) <= {200, 503} and statuses.count(200) >= 16, statuses
    # And afterwards all is as before.
    assert patient.ask(path, fields=[("X-Large", "a" * 30_000)]).status == 200


def test_a_slow_answer_body(gateway, origin, path):
    def stall(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        connection.read_to_end()
        return "close"

    origin.on(path, stall)
    with gateway.client() as client:
        with pytest.raises(Incomplete):
            exchange(client, path)


def test_a_slow_reader_is_cut(gateway, origin, path):
    ended = threading.Event()

    def pour(connection, request):
        try:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                connection.sock.sendall(b"x" * 65536)
        finally:
            ended.set()

    origin.on(path, pour)
    with connect(gateway.port, receive_buffer=4096) as client:
        client.send(request_bytes(path))
        wait_for(ended.is_set, "the end of what a slow reader held", LATEST_S)


def test_a_slow_reader_of_small_answers_is_cut(gateway, origin, path):
    # It pipelines without end and never reads: the answers are small, their sum is not.
    origin.on(path, raw=answer(body=b"x" * 60000))
    with connect(gateway.port, receive_buffer=4096) as client:
        client.sock.settimeout(0.5)
        begin = time.monotonic()
        data = request_bytes(path) * 20
        try:
            while time.monotonic() - begin < LATEST_S:
                client.sock.sendall(data)
        except TimeoutError:
            pass
        except OSError:
            return
        client.sock.settimeout(LATEST_S)
        count = len(origin.seen(path))
        assert count < 2000
        wait_for(lambda: not client.send(b"x"), "the end of a reader that never reads", LATEST_S)


def test_used_up_blocks_are_answered_503_and_come_back(run_gateway, origin, path):
    gateway = run_gateway(settings(origin, runtime={"blocks_per_worker": 64, "blocks_on_loan_max": 32}))
    held = []
    for _ in range(150):
        held.append(gateway.client())
        held[-1].send(f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode())
    statuses = set()
    for _ in range(5):
        try:
            statuses.add(gateway.ask(path).status)
        except Incomplete:
            statuses.add(None)
    assert statuses <= {200, 503}, statuses
    for client in held:
        client.close()
    wait_for(lambda: gateway.ask(path).status == 200, "blocks to come back")
    body = b"x" * 300_000
    origin.on(path, lambda c, r: c.send(answer(body=r.body)))
    assert gateway.ask(path, "POST", body=body).body == body
    assert gateway.stop() == 0


def test_slow_readers_do_not_take_all_blocks(run_gateway, origin, path):
    # Forty clients that ask for much and read nothing: what waits for them may use the memory that
    # is to spare, and nobody else's requests are refused for it.
    gateway = run_gateway(settings(
        origin, runtime={"blocks_per_worker": 512, "blocks_on_loan_max": 64}))
    size = 4 << 20
    origin.on(path, lambda c, r: c.send(answer(body=bytes([int(r.path[-1])]) * size)))
    clients = [connect(gateway.port, receive_buffer=4096, timeout=30) for _ in range(40)]
    for number, client in enumerate(clients):
        client.send(request_bytes(f"{path}/{number % 10}"))
    wait_for_standstill(lambda: moved_bytes(gateway), "everything to stand still")
    begin = time.monotonic()
    statuses = [gateway.ask("/t/small").status for _ in range(20)]
    body = b"y" * 100_000
    origin.on("/t/echo", lambda c, r: c.send(answer(body=r.body)))
    echoed = gateway.ask("/t/echo", "POST", body=body)
    assert set(statuses) == {200}, statuses
    assert echoed.body == body
    assert time.monotonic() - begin < 5
    # One who reads after all gets all of it, the right bytes.
    assert clients[7].read_final().body == bytes([7]) * size
    for client in clients:
        client.close()
    assert gateway.stop() == 0


def moved_bytes(gateway):
    """Bytes that every process of the gateway has read from and written to sockets and files."""
    total = 0
    for pid in gateway.watch() | {gateway.process.pid}:
        try:
            text = Path(f"/proc/{pid}/io").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines()[:2])
    return total


@pytest.fixture(scope="module")
def narrow(run_gateway, origin):
    """A gateway for 16 connections."""
    return run_gateway(settings(origin, runtime={"connections_per_worker": 16}))


def test_the_connection_limit(narrow, path):
    held = []
    try:
        for _ in range(16):
            held.append(narrow.client())
            assert exchange(held[-1], path).status == 200
        for _ in range(3):
            with narrow.client() as client:
                client.send(request_bytes(path))
                got = client.read_final()
                assert got.status == 503
                assert json.loads(got.body)["error"]["code"]
                client.wait_end()
        # Those that are in keep on being served.
        assert all(exchange(client, path).status == 200 for client in held)
        held.pop().close()
        wait_for(lambda: narrow.ask(path).status == 200, "a place that was freed")
    finally:
        for client in held:
            client.close()
    wait_for(lambda: narrow.ask(path).status == 200, "places that were freed")


def test_refused_connections_leave_nothing_behind(narrow, path):
    pid = narrow.pid("worker")
    count = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(200):
        with narrow.client() as client:
            client.send(b"nonsense\r\n\r\n")
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= count + 2,
             "descriptors to be given back")
    # Those that still wait in the listener's queue may fill the worker once more.
    wait_for(lambda: narrow.ask(path).status == 200, "a place for a user")
