"""Upgrade: a tunnel where the origin agrees, an ordinary exchange where it does not."""

import threading

import pytest

from harness.gateway import exchange, request_bytes
from harness.message import Incomplete
from harness.peer import answer
from harness.waiting import wait_for, wait_for_standstill

ASK = [("Connection", "Upgrade"), ("Upgrade", "websocket"),
       ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
AGREED = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


def echo_tunnel(connection, request):
    connection.send(AGREED)
    while connection.buffer or connection.fill():
        connection.send(connection.take(len(connection.buffer)))
    return "close"


@pytest.mark.generic
def test_bytes_pass_both_ways(gateway, origin, path):
    origin.on(path, echo_tunnel)
    with gateway.client() as client:
        got = exchange(client, path, fields=ASK)
        assert got.status == 101
        assert got.get("upgrade", "").lower() == "websocket"
        assert "upgrade" in got.get("connection", "").lower()
        # Neither HTTP nor text: nothing of it may be read as a message.
        data = bytes(range(256)) * 1000 + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        threading.Thread(target=client.send, args=(data,), daemon=True).start()
        assert client.read_exactly(len(data)) == data
    request = origin.seen(path)[0]
    assert request.get("upgrade", "").lower() == "websocket"
    assert "upgrade" in request.get("connection", "").lower()
    assert request.get("sec-websocket-key") == "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.generic
def test_bytes_sent_with_the_101_are_not_lost(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(AGREED + b"first frame") and c.read_to_end() and "close")
    with gateway.client() as client:
        assert exchange(client, path, fields=ASK).status == 101
        assert client.read_exactly(11) == b"first frame"


def test_half_close_passes_through_the_tunnel(gateway, origin, path):
    # A CLI-like protocol: the client says all, closes its half, and waits for the answer.
    def answer_at_end(connection, request):
        connection.send(AGREED)
        said = connection.read_to_end()
        connection.send(b"heard " + said)
        return "close"

    origin.on(path, answer_at_end)
    with gateway.client() as client:
        assert exchange(client, path, fields=ASK).status == 101
        client.send(b"all")
        client.half_close()
        assert client.wait_end() == b"heard all"


@pytest.mark.generic
def test_the_origins_end_ends_the_tunnel(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(AGREED + b"bye") and "close")
    with gateway.client() as client:
        assert exchange(client, path, fields=ASK).status == 101
        assert client.wait_end() == b"bye"


@pytest.mark.generic
def test_the_clients_end_ends_the_tunnel(gateway, origin, path):
    ended = threading.Event()

    def watch(connection, request):
        connection.send(AGREED)
        connection.read_to_end()
        ended.set()
        return "close"

    origin.on(path, watch)
    with gateway.client() as client:
        assert exchange(client, path, fields=ASK).status == 101
    wait_for(ended.is_set, "the tunnel's end at the origin")


@pytest.mark.generic
@pytest.mark.parametrize("status", ["200 OK", "426 Upgrade Required", "400 Bad Request"])
def test_an_origin_that_does_not_upgrade(gateway, origin, path, status):
    # What follows a refused upgrade is HTTP again, read by the proxy itself: a proxy that tunnels
    # on hope lets a client talk to the origin past every rule.
    origin.on(path, raw=answer(status, b"plain"))
    with gateway.client() as client:
        got = exchange(client, path, fields=ASK)
        assert (got.status, got.body) == (int(status[:3]), b"plain")
        assert exchange(client, path + "/next").status == int(status[:3])
    request = origin.seen(path + "/next")[0]
    assert request.get("upgrade") is None


def test_a_refused_upgrade_is_no_blind_pipe(gateway, origin, path):
    origin.on(path, raw=answer("426 Upgrade Required", b""))
    with gateway.client() as client:
        assert exchange(client, path, fields=ASK).status == 426
        client.send(b"GET " + path.encode() + b"/in HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert client.read_final().status == 400
    assert not origin.seen(path + "/in", origin.heads)


def test_a_101_that_nobody_asked_for_is_a_fault(gateway, origin, path):
    origin.on(path, raw=AGREED)
    with gateway.client() as client:
        client.send(request_bytes(path))
        try:
            assert client.read_final().status == 502
        except Incomplete as nothing:
            pytest.fail(f"no answer: {nothing}")


@pytest.mark.parametrize("fields", [
    [("Upgrade", "websocket")],
    [("Connection", "keep-alive"), ("Upgrade", "websocket")],
], ids=["no-connection", "not-named"])
def test_upgrade_without_connection_upgrade_is_no_upgrade(gateway, origin, path, fields):
    # RFC 9110, section 7.8: a sender of Upgrade MUST also send it as a connection option.
    with gateway.client() as client:
        assert exchange(client, path, fields=fields).status == 200
    assert origin.seen(path)[0].get("upgrade") is None


def test_h2c_is_not_passed_on(gateway, origin, path):
    # An HTTP/2 tunnel through a proxy that reads HTTP/1.1 only escapes all of its rules.
    fields = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
              ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")]
    with gateway.client() as client:
        client.send(request_bytes(path, fields=fields))
        assert client.read_final().status in (200, 400, 501)
    for request in origin.seen(path, origin.heads):
        assert "h2c" not in (request.get("upgrade") or "").lower()
        assert request.get("http2-settings") is None


def test_upgrade_is_not_passed_on_for_http_1_0(gateway, origin, path):
    with gateway.client() as client:
        client.send(request_bytes(path, fields=ASK, version="HTTP/1.0"))
        assert client.read_final().status == 200
    assert origin.seen(path)[0].get("upgrade") is None


def test_a_slow_tunnel_reader_holds_the_origin_back(gateway, origin, path):
    state = {"sent": 0}

    def pour(connection, request):
        connection.send(AGREED)
        for _ in range(400):
            connection.sock.sendall(b"x" * (1 << 18))
            state["sent"] += 1 << 18
        return "close"

    origin.on(path, pour)
    with gateway.client(receive_buffer=65536) as client:
        client.send(request_bytes(path, fields=ASK))
        assert client.read_final().status == 101
        wait_for(lambda: state["sent"], "the tunnel's first bytes")
        wait_for_standstill(lambda: state["sent"], "backpressure through the tunnel")
        assert state["sent"] < 64 << 20
        assert len(client.read_to_end()) == 400 << 18
