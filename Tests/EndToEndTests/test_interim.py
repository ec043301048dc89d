"""Expect: 100-continue, other 1xx answers, and answers that come before the request's end."""

import threading

import pytest

from harness.gateway import exchange, request_bytes
from harness.message import Incomplete
from harness.peer import answer
from harness.waiting import wait_for

EXPECT = ("Expect", "100-continue")


def test_expect_is_answered_before_the_body_is_sent(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(answer(body=r.body)))
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", [EXPECT, ("Content-Length", "5")]))
        assert client.read_answer("POST").status == 100
        client.send(b"hello")
        assert client.read_final("POST").body == b"hello"


def test_expect_works_where_the_origin_never_says_continue(gateway, origin, path):
    # RFC 9110, section 10.1.1: an origin may wait for the body without a word; some client that
    # does not wait for ever must still be served.
    def silent(connection, request):
        connection.read_body(request)
        connection.send(answer(body=request.body))

    origin.on_head(path, silent)
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", [EXPECT, ("Content-Length", "5")]))
        client.send(b"hello")
        got = client.read_final("POST")
        assert got.body == b"hello"
        assert len(got.interim) <= 1


def test_an_origin_that_refuses_the_expectation(gateway, origin, path):
    def refuse(connection, request):
        connection.send(answer("403 Forbidden", b"no"))
        return "close"

    origin.on_head(path, refuse)
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", [EXPECT, ("Content-Length", "500000")]))
        got = client.read_final("POST")
        assert (got.status, got.body) == (403, b"no")


def test_expect_on_a_request_without_body(gateway, origin, path):
    with gateway.client() as client:
        client.send(request_bytes(path, "GET", [EXPECT]))
        assert client.read_final().status == 200
        assert exchange(client, path).status == 200


def test_http_1_0_client_gets_no_interim_answer(gateway, origin, path):
    origin.on(path, raw=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(body=b"end"))
    with gateway.client() as client:
        client.send(request_bytes(path, version="HTTP/1.0"))
        first = client.read_answer()
        assert (first.status, first.body) == (200, b"end")


@pytest.mark.parametrize("hints", [1, 3])
def test_interim_answers_are_passed_on(gateway, origin, path, hints):
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    origin.on(path, raw=hint * hints + answer(body=b"end"))
    with gateway.client() as client:
        got = exchange(client, path)
        assert got.body == b"end"
        assert [a.status for a in got.interim] == [103] * hints
        assert got.interim[0].get("link") == "</style.css>; rel=preload"
        assert exchange(client, path + "/more").body == b"end"


def test_an_interim_answer_is_passed_on_at_once(gateway, origin, path):
    go = threading.Event()

    def hint_first(connection, request):
        connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        go.wait(10)
        connection.send(answer(body=b"end"))

    origin.on(path, hint_first)
    with gateway.client() as client:
        client.send(request_bytes(path))
        assert client.read_answer().status == 102
        go.set()
        assert client.read_answer().body == b"end"


def test_an_endless_row_of_interim_answers_is_cut(gateway, origin, path):
    def endless(connection, request):
        while connection.send(b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n" * 100):
            pass
        return "close"

    origin.on(path, endless)
    with gateway.client() as client:
        client.send(request_bytes(path))
        with pytest.raises((Incomplete, AssertionError)):
            for _ in range(20_000):
                assert client.read_answer().status == 102


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_early_answer_reaches_the_client(gateway, origin, path, framing):
    # The origin answers after the head and reads no more; RFC 9112, section 9.6.
    def early(connection, request):
        connection.send(answer("413 Content Too Large", b"enough"))
        connection.half_close()
        connection.read_to_end()
        return "close"

    origin.on_head(path, early)
    fields = [("Content-Length", "50000000")] if framing == "length" else [
        ("Transfer-Encoding", "chunked")]
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", fields))
        if framing == "chunked":
            client.send(b"5\r\nhello\r\n")
        else:
            client.send(b"x" * 1000)
        got = client.read_final("POST")
        assert (got.status, got.body) == (413, b"enough")


def test_after_an_early_answer_nothing_of_the_body_is_a_request(gateway, origin, path):
    def early(connection, request):
        connection.send(answer("200 OK", b"early"))
        connection.read_to_end()
        return "close"

    origin.on_head(path, early)
    inner = request_bytes(path + "/smuggled")
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", [("Content-Length", str(len(inner) + 10))]))
        assert client.read_final("POST").body == b"early"
        client.send(inner + b"0123456789")
        # Either the connection ends, or the body is read as the body it is.
        client.send(request_bytes(path + "/next"))
        client.half_close()
        client.wait_end()
    assert not [r for r in origin.heads if r.path == path + "/smuggled"]


def test_a_slow_uploader_still_gets_the_early_answer_while_sending(gateway, origin, path):
    def early(connection, request):
        connection.send(answer("401 Unauthorized", b"who?"))
        return "close"

    origin.on_head(path, early)
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", [("Content-Length", "100000000")]))
        wait_for(lambda: not client.send(b"x" * 16384) or _answered(client),
                 "an answer or an end while uploading")
        assert client.read_final("POST").status == 401


def _answered(client):
    client.sock.settimeout(0.01)
    try:
        return client.fill()
    except TimeoutError:
        return False
    finally:
        client.sock.settimeout(client.timeout)
