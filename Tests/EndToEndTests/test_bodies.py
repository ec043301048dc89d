"""Bodies both ways: length, chunked with trailers, close-delimited; streamed with backpressure."""

import hashlib
import threading
import time

import pytest

from harness.gateway import chunked, exchange, request_bytes, resident_during
from harness.message import Incomplete
from harness.peer import answer
from harness.stream import connect
from harness.waiting import wait_for, wait_for_standstill

MIB = 1 << 20
SIZES = [0, 1, 2, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 100_000, MIB]


def pattern(size, seed=0):
    """Bytes in which no two blocks are alike, so that a lost or doubled one shows."""
    words = b"".join(n.to_bytes(4, "big") for n in range(seed, seed + size // 4 + 1))
    return words[:size]


def echo(connection, request):
    connection.send(answer(body=request.body))


@pytest.mark.generic
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_upload_arrives_whole(gateway, origin, path, size, framing):
    body = pattern(size)
    origin.on(path, echo)
    with gateway.client() as client:
        if framing == "length":
            got = exchange(client, path, "POST", [("Content-Length", str(size))], body)
        else:
            pieces = [body[at:at + 7001] for at in range(0, size, 7001)]
            got = exchange(client, path, "POST", [("Transfer-Encoding", "chunked")],
                           chunked(*pieces))
        assert got.status == 200 and got.body == body
        assert origin.seen(path)[0].body == body
        # Nothing of the body is left over to disturb the next request.
        assert exchange(client, path + "/next").status == 200


@pytest.mark.generic
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_download_arrives_whole(gateway, origin, path, size, framing):
    body = pattern(size, seed=7)

    def send(connection, request):
        if framing == "length":
            connection.send(answer(body=body))
        elif framing == "chunked":
            pieces = [body[at:at + 9001] for at in range(0, size, 9001)]
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                            + chunked(*pieces))
        else:
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            return "close"

    origin.on(path, send)
    with gateway.client() as client:
        got = exchange(client, path)
        assert got.status == 200 and got.body == body
    assert len(origin.seen(path)) == 1


@pytest.mark.generic
def test_a_close_delimited_answer_does_not_cost_the_client_its_connection(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(b"HTTP/1.1 200 OK\r\n\r\nto the end") and "close")
    with gateway.client() as client:
        for _ in range(3):
            got = exchange(client, path)
            assert got.body == b"to the end"
            assert got.framing == "chunked"


def test_trailers_reach_the_origin(gateway, origin, path):
    with gateway.client() as client:
        fields = [("Transfer-Encoding", "chunked"), ("Trailer", "X-Check")]
        got = exchange(client, path, "POST", fields,
                       chunked(b"hello", trailers=[(b"X-Check", b"abc")]))
        assert got.status == 200
    request = origin.seen(path)[0]
    assert (request.body, request.trailer("x-check")) == (b"hello", "abc")


def test_trailers_reach_the_client(gateway, origin, path):
    origin.on(path, raw=b"HTTP/1.1 200 OK\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n"
              + chunked(b"hello", trailers=[(b"X-Check", b"abc")]))
    with gateway.client() as client:
        got = exchange(client, path, fields=[("TE", "trailers"), ("Connection", "TE")])
        assert (got.body, got.trailer("x-check")) == (b"hello", "abc")
        assert exchange(client, path + "/next").body == b"hello"


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Host", "Connection"])
def test_framing_fields_in_trailers_change_nothing(gateway, origin, path, name):
    # RFC 9110, section 6.5.1: such a trailer is refused or dropped, never merged or obeyed.
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", [("Transfer-Encoding", "chunked")],
                                  chunked(b"hello", trailers=[(name.encode(), b"99")])))
        got = client.read_final("POST")
        assert got.status in (200, 400)
    for request in origin.seen(path):
        assert request.body == b"hello" and request.trailer(name) is None


@pytest.mark.generic
def test_chunks_are_streamed_to_the_client(gateway, origin, path):
    go = threading.Event()

    def two(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        go.wait(10)
        connection.send(b"6\r\nsecond\r\n0\r\n\r\n")

    origin.on(path, two)
    with gateway.client() as client:
        client.send(request_bytes(path))
        wait_for(lambda: b"first" in client.buffer or not client.fill(), "the first chunk")
        assert b"second" not in client.buffer
        go.set()
        assert client.read_final().body == b"firstsecond"


@pytest.mark.generic
def test_an_upload_is_streamed_to_the_origin(gateway, origin, path):
    arrived = []

    def first_half(connection, request):
        wait_for(lambda: len(connection.buffer) >= 5 or connection.fill() is False, "half")
        arrived.append(bytes(connection.buffer))
        connection.read_request_body(request)
        connection.send(answer(body=request.body))

    origin.on_head(path, first_half)
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", [("Content-Length", "10")]) + b"first")
        wait_for(lambda: arrived, "the first half at the origin before the second is sent")
        assert arrived == [b"first"]
        client.send(b"other")
        assert client.read_final("POST").body == b"firstother"


@pytest.mark.generic
def test_chunk_extensions_are_no_data(gateway, origin, path):
    origin.on(path, echo)
    with gateway.client() as client:
        got = exchange(client, path, "POST", [("Transfer-Encoding", "chunked")],
                       b'5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n')
        assert got.body == b"hello"


@pytest.mark.generic
@pytest.mark.parametrize("size", [b"00005", b"5", b"0005"])
def test_chunk_sizes_may_be_padded_and_in_either_case(gateway, origin, path, size):
    origin.on(path, echo)
    with gateway.client() as client:
        data = size + b"\r\nhello\r\n" + b"A\r\n0123456789\r\n" + b"a\r\n0123456789\r\n"
        got = exchange(client, path, "POST", [("Transfer-Encoding", "chunked")],
                       data + b"000\r\n\r\n")
        assert got.body == b"hello" + b"0123456789" * 2


@pytest.mark.generic
def test_a_slow_reader_holds_the_origin_back_and_costs_no_memory(gateway, origin, path):
    size, sent = 200 * MIB, {}

    def pour(connection, request):
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        data = pattern(1 << 18)
        for at in range(0, size, len(data)):
            connection.sock.sendall(data)
            sent["bytes"] = at + len(data)

    origin.on(path, pour)
    children = sorted(gateway.watch())

    def whole():
        with connect(gateway.port, receive_buffer=65536) as client:
            client.send(request_bytes(path))
            wait_for(lambda: sent.get("bytes"), "the answer's begin")
            wait_for_standstill(lambda: sent["bytes"], "backpressure at the origin")
            assert sent["bytes"] < 64 * MIB, sent
            client.read_head()
            digest = hashlib.sha256()
            got = len(client.buffer)
            digest.update(client.take(got))
            while got < size:
                data = client.sock.recv(1 << 20)
                assert data, f"cut at {got}"
                digest.update(data)
                got += len(data)
            return got, digest.hexdigest()

    before = sum_resident(children)
    most, (got, digest) = resident_during(children, whole)
    expected = hashlib.sha256(pattern(1 << 18) * (size >> 18)).hexdigest()
    assert (got, digest) == (size, expected)
    assert most - before < 24 * MIB, f"RSS grew by {(most - before) >> 20} MiB"


def sum_resident(pids):
    return resident_during(pids, lambda: time.sleep(0.1))[0]


@pytest.mark.generic
def test_a_slow_origin_holds_the_uploader_back_and_costs_no_memory(gateway, origin, path):
    size, state = 100 * MIB, {"sent": 0}
    go, digest = threading.Event(), hashlib.sha256()

    def swallow(connection, request):
        state["head"] = True
        go.wait(20)
        left = size - len(connection.buffer)
        digest.update(connection.take(len(connection.buffer)))
        while left:
            data = connection.sock.recv(min(left, 1 << 20))
            if not data:
                raise Incomplete("the upload was cut")
            digest.update(data)
            left -= len(data)
        connection.send(answer(body=b"all"))

    origin.on_head(path, swallow)
    children = sorted(gateway.watch())
    before = sum_resident(children)

    def upload():
        client = gateway.client(timeout=30)
        client.send(request_bytes(path, "POST", [("Content-Length", str(size))]))
        data = pattern(1 << 18)

        def push():
            for _ in range(size >> 18):
                client.sock.sendall(data)
                state["sent"] += len(data)

        sender = threading.Thread(target=push, daemon=True)
        sender.start()
        wait_for(lambda: state.get("head"), "the head at the origin")
        wait_for_standstill(lambda: state["sent"], "backpressure at the client")
        assert state["sent"] < 64 * MIB, state
        go.set()
        sender.join(60)
        with client:
            return client.read_final("POST").body

    most, got = resident_during(children, upload)
    assert got == b"all"
    assert digest.hexdigest() == hashlib.sha256(pattern(1 << 18) * (size >> 18)).hexdigest()
    assert most - before < 24 * MIB, f"RSS grew by {(most - before) >> 20} MiB"


@pytest.mark.generic
def test_large_bodies_both_ways_at_once(gateway, origin, path):
    # The origin answers with each byte as it comes; a proxy that waits for the whole request, or
    # fills up one direction before it serves the other, stands still.
    size = 8 * MIB

    def reflect(connection, request):
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        left = size
        while left:
            if not connection.buffer:
                connection.fill()
            data = connection.take(min(left, len(connection.buffer)))
            connection.sock.sendall(data)
            left -= len(data)

    origin.on_head(path, reflect)
    body = pattern(size)
    with gateway.client(timeout=20) as client:
        client.send(request_bytes(path, "POST", [("Content-Length", str(size))]))
        sender = threading.Thread(target=client.send, args=(body,), daemon=True)
        sender.start()
        got = client.read_final("POST")
        sender.join(20)
        assert got.body == body
