"""The origin's answers are judged as strictly as requests: malformed → 502, cut off → the client
can tell, bytes behind a message never become the next client's answer."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from harness.waiting import wait_for
from harness.gateway import chunked, exchange, request_bytes
from harness.message import Incomplete
from harness.peer import OK, answer

H = b"HTTP/1.1 200 OK\r\n"

MALFORMED = [pytest.param(raw, id=name) for name, raw in [
    ("garbage", b"\x00\x01\x02 not http at all\r\n\r\n"),
    ("text", b"hello there\r\n\r\n"),
    ("ftp", b"220 ready\r\n\r\n"),
    ("lower-case", b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("version-2", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("version-0.9", b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-word", b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-two-digits", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-four-digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-099", b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-600", b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("two-spaces", b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("space-first", b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("no-status", b"HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"),
    ("reason-nul", b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok"),
    ("reason-cr", b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok"),
    ("bare-lf", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    ("bare-lf-one", H + b"A: b\nContent-Length: 2\r\n\r\nok"),
    ("bare-cr", H + b"A: b\rc\r\nContent-Length: 2\r\n\r\nok"),
    ("folded", H + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\nok"),
    ("space-before-colon", H + b"Content-Length : 2\r\n\r\nok"),
    ("no-colon", H + b"nonsense\r\nContent-Length: 2\r\n\r\nok"),
    ("empty-name", H + b": x\r\nContent-Length: 2\r\n\r\nok"),
    ("name-space", H + b"A B: x\r\nContent-Length: 2\r\n\r\nok"),
    ("nul-in-value", H + b"A: b\0c\r\nContent-Length: 2\r\n\r\nok"),
    ("length-conflict", H + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
    ("length-list-conflict", H + b"Content-Length: 2, 3\r\n\r\nok!"),
    ("length-minus", H + b"Content-Length: -2\r\n\r\nok"),
    ("length-plus", H + b"Content-Length: +2\r\n\r\nok"),
    ("length-hex", H + b"Content-Length: 0x2\r\n\r\nok"),
    ("length-overflow", H + b"Content-Length: 99999999999999999999\r\n\r\nok"),
    ("length-empty", H + b"Content-Length:\r\n\r\nok"),
    ("length-and-coding", H + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("coding-unknown", H + b"Transfer-Encoding: gzip\r\n\r\nok"),
    ("coding-gzip-chunked", H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("coding-twice", H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("coding-prefixed", H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("coding-1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("head-endless", H + b"A: b\r\n" * 20000),
    ("head-large", H + b"A: " + b"b" * 200000 + b"\r\n\r\n"),
    ("interim-malformed", b"HTTP/1.1 103\r\nA : b\r\n\r\n" + OK),
]]


@pytest.mark.parametrize("raw", MALFORMED)
def test_malformed_answers_become_502(gateway, origin, path, raw):
    origin.on(path, lambda c, r: c.send(raw) and c.read_to_end() and "close")
    with gateway.client() as client:
        got = exchange(client, path)
        assert got.status == 502, got.head
        assert json.loads(got.body)["error"]["type"] == "upstream_error"
        # The client did nothing wrong: its connection serves on, or is closed properly.
        if "close" not in got.get("connection", "").lower():
            assert exchange(client, path.replace("/t/", "/u/")).status == 200
    assert len({r.connection for r in origin.seen(path, origin.heads)}) == 1


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Le"],
                         ids=["nothing", "status", "head"])
def test_an_answer_cut_in_its_head_becomes_502(gateway, origin, path, raw):
    origin.on(path, lambda c, r: (raw and c.send(raw), "close")[1])
    assert gateway.ask(path, "POST", body=b"x").status == 502
    assert len(origin.seen(path)) == 1


def test_a_reset_becomes_502(gateway, origin, path):
    origin.on(path, lambda c, r: c.abort())
    assert gateway.ask(path, "POST", body=b"x").status == 502


CUT = [pytest.param(raw, id=name) for name, raw in [
    ("length", H + b"Content-Length: 100\r\n\r\nonly some"),
    ("length-nothing", H + b"Content-Length: 100\r\n\r\n"),
    ("chunked-in-data", H + b"Transfer-Encoding: chunked\r\n\r\n64\r\nonly some"),
    ("chunked-after-chunk", H + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"),
    ("chunked-in-size", H + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n1"),
    ("chunked-in-end", H + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\n"),
    ("chunked-in-trailers", H + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\nA: b\r\n"),
]]
BROKEN = [pytest.param(H + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n" + rest, id=name)
          for name, rest in [
    ("size-word", b"xyz\r\nmore\r\n0\r\n\r\n"),
    ("size-plus", b"+4\r\nmore\r\n0\r\n\r\n"),
    ("size-hex", b"0x4\r\nmore\r\n0\r\n\r\n"),
    ("size-overflow", b"FFFFFFFFFFFFFFFFFF\r\nmore\r\n0\r\n\r\n"),
    ("size-lf", b"4\nmore\r\n0\r\n\r\n"),
    ("data-longer", b"4\r\nmore!\r\n0\r\n\r\n"),
    ("data-without-crlf", b"4\r\nmore0\r\n\r\n"),
    ("trailer-bad", b"0\r\nno colon\r\n\r\n"),
    ("extension-flood", b"4;" + b"e" * 100000 + b"\r\nmore\r\n0\r\n\r\n"),
]]


def reads_incomplete(client, path):
    """Whether the client can tell that the message is not whole."""
    try:
        got = exchange(client, path)
    except Incomplete:
        return True
    return got.status == 502


@pytest.mark.parametrize("raw", CUT)
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_cut_answer_stays_incomplete(gateway, origin, path, raw, how):
    def cut(connection, request):
        connection.send(raw)
        if how == "abort":
            connection.abort()
        return "close"

    origin.on(path, cut)
    with gateway.client() as client:
        assert reads_incomplete(client, path)
    assert len(origin.seen(path)) == 1


def test_a_reset_inside_a_close_delimited_answer_is_no_clean_end(gateway, origin, path):
    def cut(connection, request):
        connection.send(H + b"\r\nonly some")
        # Once the client has it, so that the reset cannot overtake it.
        go.wait(10)
        connection.abort()

    go = threading.Event()
    origin.on(path, cut)
    with gateway.client() as client:
        client.send(request_bytes(path))
        while b"only some" not in client.buffer and client.fill():
            pass
        go.set()
        try:
            got = client.read_final()
            # Without chunks only a reset can say that something is missing.
            assert got.framing == "close" and client.reset
        except Incomplete:
            pass


@pytest.mark.parametrize("raw", BROKEN)
def test_a_broken_chunked_answer_stays_incomplete(gateway, origin, path, raw):
    origin.on(path, lambda c, r: c.send(raw) and c.read_to_end() and "close")
    with gateway.client() as client:
        assert reads_incomplete(client, path)


INJECTED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX-Injected: yes\r\n\r\ninjected"

EXTRA = [pytest.param(method, raw + INJECTED, id=name) for name, method, raw in [
    ("after-length", "GET", OK),
    ("after-chunked", "GET", H + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"ok")),
    ("after-204", "GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ("after-204-with-length", "GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
    ("after-304", "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ("after-head", "HEAD", H + b"Content-Length: 5\r\n\r\n"),
    ("head-with-body", "HEAD", OK),
    ("empty-body", "GET", H + b"Content-Length: 0\r\n\r\n"),
]]


@pytest.mark.parametrize("method,raw", EXTRA)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_bytes_behind_an_answer_never_answer_the_next(gateway, origin, path, method, raw, apart):
    sent = threading.Event()

    def send(connection, request):
        if apart:
            connection.send(raw[:-len(INJECTED)])
            connection.send(INJECTED)
        else:
            connection.send(raw)
        sent.set()

    origin.on(path, send)
    origin.on(path + "/next", raw=answer(body=b"mine"))
    with gateway.client() as client:
        for _ in range(5):
            sent.clear()
            first = exchange(client, path, method)
            assert first.get("x-injected") is None
            # Bytes that come after the next request was sent cannot be told from its answer.
            assert sent.wait(10)
            second = exchange(client, path + "/next")
            assert (second.status, second.body) == (200, b"mine")
            assert second.get("x-injected") is None
    # And no other client gets them either.
    for _ in range(5):
        assert gateway.ask(path + "/next").body == b"mine"


def test_an_answer_before_any_request_is_not_the_next_ones(gateway, origin, path):
    # An origin that talks while its pooled connection is idle: the connection is given up.
    talk, talked = threading.Event(), threading.Event()

    def later(connection, request):
        connection.send(OK)
        talk.wait(5)
        connection.send(INJECTED)
        talked.set()

    origin.on(path, later)
    origin.on(path + "/next", raw=answer(body=b"mine"))
    with gateway.client() as client:
        assert exchange(client, path).body == b"ok"
        talk.set()
        assert talked.wait(10)
        for _ in range(10):
            got = exchange(client, path + "/next")
            assert (got.body, got.get("x-injected")) == (b"mine", None)


@pytest.mark.parametrize("order", ["injected-first", "request-first"])
def test_bytes_that_wait_beside_the_next_request_are_not_its_answer(gateway, origin, path, order):
    # The worker stands still while both arrive, so that one wake-up brings it both.
    talk, talked = threading.Event(), threading.Event()

    def later(connection, request):
        connection.send(OK)
        talk.wait(5)
        connection.send(INJECTED)
        talked.set()

    origin.on(path, later)
    origin.on(path + "/next", raw=answer(body=b"mine"))
    workers = [p for p in gateway.watch() if is_worker(p)] or [gateway.process.pid]
    with gateway.client() as client:
        assert exchange(client, path).body == b"ok"
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        # Stopped for sure: a worker that is just waking would take the first of the two alone, and
        # what comes after that look is a race that no proxy of HTTP/1.1 can win.
        wait_for(lambda: all(is_stopped(pid) for pid in workers), "the workers to stand still")
        try:
            steps = [lambda: (talk.set(), talked.wait(10)),
                     lambda: client.send(request_bytes(path + "/next"))]
            for step in steps if order == "injected-first" else reversed(steps):
                step()
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        got = client.read_final()
        assert (got.status, got.body, got.get("x-injected")) == (200, b"mine", None)


def is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def is_worker(pid):
    return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_repeated_equal_lengths_are_one_or_a_fault(gateway, origin, path):
    # RFC 9110, section 8.6 lets a recipient choose between one value and a refusal.
    origin.on(path, raw=H + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok")
    got = gateway.ask(path)
    assert got.status == 502 or got.body == b"ok"


@pytest.mark.parametrize("raw", [
    b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 299 Unheard Of\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 599 X\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nA:b\r\nB:\t c \r\nContent-Length:2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
], ids=["empty-reason", "299", "599", "1.0", "odd-space", "case"])
def test_odd_but_valid_answers_pass(gateway, origin, path, raw):
    origin.on(path, lambda c, r: c.send(raw) and (b"1.0" in raw[:9] and "close" or None))
    with gateway.client() as client:
        client.send(request_bytes(path))
        assert client.read_final().body == b"ok"
