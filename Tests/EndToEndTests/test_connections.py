"""Keep-alive, pipelining, HTTP/1.0, half-closed clients: RFC 9112, section 9."""

import time

import pytest

from harness.gateway import chunked, exchange, request_bytes
from harness.message import Incomplete
from harness.peer import answer
from harness.stream import send_slowly
from harness.waiting import wait_for

pytestmark = pytest.mark.generic


def test_one_connection_carries_many_requests(gateway, origin, path):
    with gateway.client() as client:
        for number in range(20):
            assert exchange(client, f"{path}/{number}").body == b"ok"
    assert [r.path for r in origin.seen(path)] == [f"{path}/{n}" for n in range(20)]


def test_upstream_connections_are_reused(gateway, origin, path):
    with gateway.client() as client:
        for _ in range(10):
            exchange(client, path)
    assert len({r.connection for r in origin.seen(path)}) == 1


def test_pipelined_answers_come_in_order(gateway, origin, path):
    def number(connection, request):
        which = int(request.path.rpartition("/")[2])
        # The first is the slowest, so an answer sent as it comes would overtake it.
        time.sleep(0.2 if which == 0 else 0)
        connection.send(answer(body=b"answer %d" % which))

    origin.on(path, number)
    with gateway.client() as client:
        client.send(b"".join(request_bytes(f"{path}/{n}") for n in range(12)))
        assert [client.read_final().body for _ in range(12)] == [
            b"answer %d" % n for n in range(12)]


def test_pipelined_requests_with_bodies_and_heads(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(answer(body=r.body) if r.method != "HEAD"
                                        else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"))
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", body=b"first")
                    + request_bytes(path, "HEAD")
                    + request_bytes(path, "POST", [("Transfer-Encoding", "chunked")],
                                    chunked(b"sec", b"ond"))
                    + request_bytes(path))
        assert client.read_final("POST").body == b"first"
        head = client.read_final("HEAD")
        assert head.get("content-length") == "9" and head.body == b""
        assert client.read_final("POST").body == b"second"
        assert client.read_final().body == b""


@pytest.mark.parametrize("behind", [-1, 0, 1, 16 << 10, 600_000])
def test_a_request_behind_a_body_that_ends_about_a_blocks_end(gateway, origin, path, behind):
    # The first block holds the head too; reads of the body are to stop where the body does.
    origin.on(path, lambda c, r: c.send(answer(body=r.body)))
    head_bytes = len(request_bytes(path, "POST", body=b"x" * 20_000)) - 20_000
    body = bytes(number % 251 for number in range((16 << 10) - head_bytes + behind))
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", body=body) * 2 + request_bytes(path))
        assert client.read_final("POST").body == body
        assert client.read_final("POST").body == body
        assert client.read_final().body == b""


def test_a_request_that_arrives_byte_by_byte(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(answer(body=r.body)))
    with gateway.client() as client:
        data = request_bytes(path, "POST", [("Transfer-Encoding", "chunked")],
                             chunked(b"hello", b" world"))
        send_slowly(client, data, len(data), 0.0005)
        assert client.read_final("POST").body == b"hello world"


def test_an_answer_that_arrives_byte_by_byte(gateway, origin, path):
    raw = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Kept: yes\r\n\r\n"
           + chunked(b"hello", b" world"))
    origin.on(path, lambda c, r: send_slowly(c, raw, len(raw), 0.0005) and None)
    with gateway.client() as client:
        got = exchange(client, path)
        assert (got.body, got.get("x-kept")) == (b"hello world", "yes")
        assert exchange(client, path + "/again").body == b"hello world"


def test_empty_lines_before_a_request_line_are_skipped(gateway, origin, path):
    with gateway.client() as client:
        client.send(b"\r\n" + request_bytes(path))
        assert client.read_final().status == 200


def test_connection_close_is_honoured(gateway, origin, path):
    with gateway.client() as client:
        got = exchange(client, path, fields=[("Connection", "close")])
        assert got.status == 200
        assert "close" in got.get("connection", "").lower()
        assert client.wait_end() == b""


def test_the_origins_connection_close_is_not_the_clients(gateway, origin, path):
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    origin.on(path, lambda c, r: c.send(raw) and "close")
    with gateway.client() as client:
        for _ in range(3):
            got = exchange(client, path)
            assert got.body == b"ok"
            assert "close" not in got.get("connection", "").lower()
    assert len({r.connection for r in origin.seen(path)}) == 3


def test_http_1_0_client_is_answered_and_closed(gateway, origin, path):
    with gateway.client() as client:
        client.send(request_bytes(path, version="HTTP/1.0"))
        got = client.read_final()
        assert (got.status, got.body) == (200, b"ok")
        assert client.wait_end() == b""


def test_http_1_0_client_never_gets_chunks(gateway, origin, path):
    origin.on(path, raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              + chunked(b"hello", b" world"))
    with gateway.client() as client:
        client.send(request_bytes(path, version="HTTP/1.0"))
        got = client.read_final()
        assert got.get("transfer-encoding") is None
        assert got.body == b"hello world"
        assert client.wait_end() == b""


def test_http_1_0_client_may_ask_for_keep_alive(gateway, origin, path):
    with gateway.client() as client:
        for _ in range(2):
            client.send(request_bytes(path, fields=[("Connection", "keep-alive")],
                                      version="HTTP/1.0"))
            got = client.read_final()
            assert got.body == b"ok"
            if "keep-alive" not in got.get("connection", "").lower():
                # Closing is allowed (RFC 9112, section 9.3), but then it must be done.
                assert client.wait_end() == b""
                return


def test_http_1_0_needs_no_host(gateway, origin, path):
    with gateway.client() as client:
        client.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert client.read_final().status == 200


def test_http_1_0_origin(gateway, origin, path):
    def old(connection, request):
        connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold but whole")
        return "close"

    origin.on(path, old)
    with gateway.client() as client:
        got = exchange(client, path)
        assert (got.status, got.version, got.body) == (200, "HTTP/1.1", b"old but whole")


@pytest.mark.parametrize("fields", [
    [("Content-Length", "1000")],
    [("Transfer-Encoding", "chunked")],
], ids=["length", "chunked"])
def test_head_answers_have_no_body(gateway, origin, path, fields):
    lines = "".join(f"{n}: {v}\r\n" for n, v in fields)
    origin.on(path, raw=f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())
    with gateway.client() as client:
        for _ in range(3):
            assert exchange(client, path, "HEAD").status == 200
        assert exchange(client, path + "x", "HEAD").get("content-length") in ("1000", None)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_bodyless_answers_keep_the_connection(gateway, origin, path, status):
    extra = "Content-Length: 7\r\n" if status.startswith("304") else ""
    origin.on(path, raw=f"HTTP/1.1 {status}\r\nETag: \"x\"\r\n{extra}\r\n".encode())
    with gateway.client() as client:
        for _ in range(3):
            got = exchange(client, path)
            assert f"{got.status}" == status[:3] and got.get("etag") == '"x"'


@pytest.mark.beyond_nginx
def test_a_half_closed_client_gets_its_answer(gateway, origin, path):
    def late(connection, request):
        time.sleep(0.2)
        connection.send(answer(body=b"late"))

    origin.on(path, late)
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", body=b"all of it"))
        client.half_close()
        assert client.read_final("POST").body == b"late"
        assert client.wait_end() == b""
    assert origin.seen(path)[0].body == b"all of it"


@pytest.mark.beyond_nginx
def test_a_half_closed_pipeline_is_answered_to_its_end(gateway, origin, path):
    with gateway.client() as client:
        client.send(b"".join(request_bytes(f"{path}/{n}") for n in range(5)))
        client.half_close()
        assert [client.read_final().body for _ in range(5)] == [b"ok"] * 5
        assert client.wait_end() == b""


def test_a_request_cut_by_a_half_close_never_completes(gateway, origin, path):
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", [("Content-Length", "100")]) + b"only some")
        client.half_close()
        client.wait_end()
    assert origin.seen(path) == []


def test_half_closed_origin_is_read_to_its_answers_end(gateway, origin, path):
    def half(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end")
        connection.half_close()
        connection.read_to_end()
        return "close"

    origin.on(path, half)
    with gateway.client() as client:
        assert exchange(client, path).body == b"to the end"


def test_a_client_that_goes_away_frees_the_origin(gateway, origin, path):
    gone = []

    def wait(connection, request):
        gone.append(connection.fill())
        return "close"

    origin.on(path, wait)
    client = gateway.client()
    client.send(request_bytes(path))
    origin.wait_seen(path)
    client.abort()
    wait_for(lambda: gone == [False], "the origin's connection to end with its client")


def test_no_answer_is_sent_to_an_idle_connection(gateway, origin, path):
    with gateway.client() as client:
        exchange(client, path)
        assert client.is_open(0.2)
        assert client.buffer == b""


def test_unfinished_head_is_no_request(gateway, origin, path):
    with gateway.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode())
        client.half_close()
        try:
            assert client.read_final().status == 400
        except Incomplete:
            pass
    assert origin.seen(path, origin.heads) == []
