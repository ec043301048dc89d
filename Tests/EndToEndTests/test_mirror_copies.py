"""What the shadow gets: whole requests, byte for byte, without what it should not have."""

import hashlib
import re
import threading
import uuid

import pytest

from harness.gateway import chunked, exchange, request_bytes
from harness.message import Incomplete
from harness.metrics import settled
from harness.peer import answer
from harness.waiting import wait_for

BODY_MAX = 1 << 20
SIZES = [0, 1, 100, 16383, 16384, 16385, 32768, 65536, 300_000, BODY_MAX]
MARKS = {b"x-umbra-shadow", b"x-umbra-shadow-id"}
# What each hop writes for itself.
OF_THE_HOP = {b"host", b"connection", b"via", b"content-length", b"transfer-encoding", b"te",
              b"keep-alive", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
              b"x-request-id", b"traceparent", b"tracestate"}


@pytest.fixture(scope="module")
def gateway_settings():
    return {"traffic_mirror": {
        "max_body_bytes": BODY_MAX, "breaker": {"failures": 1000},
        "safety": {"methods": ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"],
                   "strip_fields": ["x-house-secret"], "strip_query": ["house_key"]}}}


def sent_fields(message):
    return [(n, v) for n, v in message.fields if n.lower() not in OF_THE_HOP | MARKS]


def test_a_get_is_copied(mirroring, origin, shadow, path):
    fields = [("Accept", "*/*"), ("X-MiXed", "Kept"), ("X-Twice", "a"), ("X-Between", ""),
              ("X-Twice", "b"), ("X-Latin", "caf\xe9")]
    target = path + "/a%20b//c/../d?q=%C3%A9&x=1&x=2&empty=&flag"
    assert mirroring.ask(target, fields=fields).status == 200
    copy = shadow.wait_seen(path)[0]
    original = origin.seen(path)[0]
    assert (copy.method, copy.target) == (original.method, original.target) == ("GET", target)
    assert sent_fields(copy) == sent_fields(original) == [
        (n.encode(), v.encode("latin-1")) for n, v in fields]
    assert len(copy.all("host")) == 1


def test_a_copy_is_a_span_of_its_own(mirroring, origin, shadow, path):
    trace, span = "1" * 32, "2" * 16
    assert mirroring.ask(path, fields=[
        ("traceparent", f"00-{trace}-{span}-01"), ("tracestate", "vendor=a")]).status == 200
    copy = shadow.wait_seen(path)[0]
    original = origin.seen(path)[0]
    spans = [re.fullmatch(f"00-{trace}-([0-9a-f]{{16}})-01", message.get("traceparent"))[1]
             for message in (original, copy)]
    # One trace, and three spans: the client's, the hop to the primary, the copy.
    assert len({span, *spans}) == 3
    assert original.get("tracestate") == "vendor=a"
    assert copy.get("tracestate") == "umbra=shadow,vendor=a"


def test_marks(mirroring, origin, shadow, path):
    with mirroring.client() as client:
        for _ in range(3):
            exchange(client, path)
    copies = shadow.wait_seen(path, 3)
    assert [c.all("x-umbra-shadow") for c in copies] == [["true"]] * 3
    ids = [c.all("x-umbra-shadow-id") for c in copies]
    assert all(len(i) == 1 and uuid.UUID(i[0]) for i in ids) and len({i[0] for i in ids}) == 3
    for original in origin.seen(path):
        assert not {n.lower() for n, _ in original.fields} & MARKS
    # Copy and original can be joined.
    assert {c.get("x-request-id") for c in copies} == {
        r.get("x-request-id") for r in origin.seen(path)}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"])
def test_methods_that_are_mirrored(mirroring, shadow, path, method):
    assert mirroring.ask(path, method).status == 200
    assert shadow.wait_seen(path)[0].method == method


def test_methods_that_are_not_mirrored(mirroring, origin, shadow, path):
    before = settled(mirroring).mirror()
    assert mirroring.ask(path, "PATCH", body=b"x").status == 200
    assert settled(mirroring).mirror() == before
    assert not shadow.seen(path)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_is_copied_whole(mirroring, origin, shadow, path, size, framing):
    body = b"".join(n.to_bytes(4, "big") for n in range(size // 4 + 1))[:size]
    with mirroring.client() as client:
        if framing == "length":
            got = exchange(client, path, "POST", [("Content-Length", str(size))], body)
        else:
            pieces = [body[at:at + 5003] for at in range(0, size, 5003)]
            got = exchange(client, path, "POST", [("Transfer-Encoding", "chunked")],
                           chunked(*pieces))
    assert got.status == 200
    copy = shadow.wait_seen(path)[0]
    assert hashlib.sha256(copy.body).digest() == hashlib.sha256(body).digest()
    assert origin.seen(path)[0].body == body


def test_trailers_are_copied_without_secrets(mirroring, shadow, path):
    trailers = [(b"X-Check", b"abc"), (b"Authorization", b"Bearer t0psecret"),
                (b"Set-Cookie", b"t0psecret=1"), (b"X-House-Secret", b"t0psecret")]
    with mirroring.client() as client:
        got = exchange(client, path, "POST", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Check")],
                       chunked(b"hello", trailers=trailers))
        assert got.status == 200
    copy = shadow.wait_seen(path)[0]
    assert copy.body == b"hello"
    assert copy.trailer("x-check") in ("abc", None)
    assert "t0psecret" not in repr(copy.trailers) + repr(copy.fields)


def test_a_body_that_arrives_slowly_is_copied_whole(mirroring, shadow, path):
    with mirroring.client() as client:
        client.send(request_bytes(path, "POST", [("Transfer-Encoding", "chunked")]))
        for number in range(100):
            client.send(b"4\r\n%04d\r\n" % number)
        # Nothing of an unfinished request may be at the shadow as a message.
        assert not shadow.seen(path)
        client.send(b"0\r\n\r\n")
        assert client.read_final("POST").status == 200
    assert shadow.wait_seen(path)[0].body == b"".join(b"%04d" % n for n in range(100))


SECRETS = ["Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "cookie", "AUTHORIZATION",
           "Api-Key", "X-Auth-Token", "X-Access-Token", "X-CSRF-Token", "X-Amz-Security-Token",
           "X-House-Secret"]


@pytest.mark.parametrize("name", SECRETS)
def test_secret_fields_do_not_leave_with_the_copy(mirroring, origin, shadow, path, name):
    fields = [("X-Kept", "1"), (name, "t0psecret"), (name, "t0psecret2"), ("X-Also-Kept", "2")]
    with mirroring.client() as client:
        client.send(request_bytes(path, fields=fields))
        assert client.read_final().status == 200
    copy = shadow.wait_seen(path)[0]
    assert b"t0psecret" not in copy.head
    assert copy.get("x-kept") == "1" and copy.get("x-also-kept") == "2"
    if name.lower() != "proxy-authorization":
        assert b"t0psecret" in origin.seen(path)[0].head


@pytest.mark.parametrize("query", [
    "access_token=t0psecret", "api_key=t0psecret", "a=1&access_token=t0psecret&b=2",
    "apikey=t0psecret", "API_KEY=t0psecret", "token=t0psecret", "password=t0psecret",
    "client_secret=t0psecret", "X-Amz-Signature=t0psecret", "house_key=t0psecret",
    "access_token=t0psecret&access_token=t0psecret2", "access%5Ftoken=t0psecret",
    "b=2;access_token=t0psecret", "&&access_token=t0psecret&", "%61pi_key=t0psecret",
    "x=1&sig=t0psecret", "access_token=a=t0psecret", "code=t0psecret&state=1",
])
def test_secret_query_members_do_not_leave_with_the_copy(mirroring, origin, shadow, path, query):
    assert mirroring.ask(f"{path}?{query}").status == 200
    copy = shadow.wait_seen(path)[0]
    assert "t0psecret" not in copy.target
    assert origin.seen(path)[0].target == f"{path}?{query}"
    for member in ("a=1", "b=2", "x=1", "state=1"):
        if re.search(rf"(^|[&;]){member}($|[&;])", query):
            assert member in copy.target


def test_secrets_in_userinfo_or_referer_do_not_leave(mirroring, shadow, path):
    mirroring.ask(path, fields=[("Referer", "http://umbra.test/?access_token=t0psecret")])
    assert b"t0psecret" not in shadow.wait_seen(path)[0].head


def test_absolute_targets_are_copied_in_origin_form(mirroring, origin, shadow, path):
    with mirroring.client() as client:
        exchange(client, f"http://umbra.test{path}?access_token=t0psecret&a=1")
    copy = shadow.wait_seen(path)[0]
    assert copy.target.startswith(path) and "t0psecret" not in copy.target


def test_hop_by_hop_fields_are_not_copied(mirroring, shadow, path):
    mirroring.ask(path, fields=[("Connection", "X-Named"), ("X-Named", "1"), ("X-Kept", "2"),
                                ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "close")])
    copy = shadow.wait_seen(path)[0]
    assert copy.get("x-named") is None and copy.get("proxy-connection") is None
    assert copy.get("keep-alive") is None and copy.get("x-kept") == "2"


def test_a_client_cannot_set_the_marks_of_its_choice(mirroring, shadow, path):
    mirroring.ask(path, fields=[("X-Umbra-Shadow-Id", "mine")])
    for copy in shadow.seen(path):
        assert copy.all("x-umbra-shadow-id") != ["mine"]
        assert len(copy.all("x-umbra-shadow-id")) == 1


def test_a_copy_that_comes_back_is_not_mirrored_again(mirroring, origin, shadow, path):
    before = settled(mirroring).mirror()
    got = mirroring.ask(path, fields=[("X-Umbra-Shadow", "true"),
                                      ("X-Umbra-Shadow-Id", str(uuid.uuid4()))])
    assert got.status == 200 and len(origin.seen(path)) == 1
    assert settled(mirroring).mirror() == before
    assert not shadow.seen(path)


def test_a_larger_body_is_counted_and_not_copied(mirroring, origin, shadow, path):
    before = settled(mirroring).mirror()
    body = b"x" * (BODY_MAX + 1)
    assert mirroring.ask(path + "/length", "POST", body=body).status == 200
    pieces = [body[at:at + 60000] for at in range(0, len(body), 60000)]
    with mirroring.client() as client:
        assert exchange(client, path + "/chunked", "POST", [("Transfer-Encoding", "chunked")],
                        chunked(*pieces)).status == 200
    after = settled(mirroring, sampled=before["sampled"] + 2).mirror()
    assert after["dropped"].get("body_too_large", 0) == before["dropped"].get(
        "body_too_large", 0) + 2
    assert [r.body for r in origin.seen(path)] == [body, body]
    assert not shadow.seen(path, shadow.heads)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", ["close", "abort"])
def test_an_aborting_client_makes_no_message(mirroring, shadow, path, framing, how):
    before = settled(mirroring).mirror()
    client = mirroring.client()
    if framing == "length":
        client.send(request_bytes(path, "POST", [("Content-Length", "1000")]) + b"x" * 500)
    else:
        client.send(request_bytes(path, "POST", [("Transfer-Encoding", "chunked")])
                    + b"5\r\nhello\r\n")
    getattr(client, how)()
    # A later request's copy is there: the aborted one's would be too.
    mirroring.ask(path + "/later")
    shadow.wait_seen(path + "/later")
    after = settled(mirroring).mirror()
    assert [r.path for r in shadow.seen(path)] == [path + "/later"]
    assert not [r for r in shadow.seen(path, shadow.heads) if r.path == path]
    assert after["sent"] == before["sent"] + 1


def test_a_malformed_body_makes_no_message(mirroring, shadow, path):
    with mirroring.client() as client:
        client.send(request_bytes(path, "POST", [("Transfer-Encoding", "chunked")])
                    + b"5\r\nhello\r\nX\r\n")
        assert client.read_final("POST").status == 400
    settled(mirroring)
    assert not shadow.seen(path)


def test_a_whole_request_is_copied_though_the_client_leaves(mirroring, origin, shadow, path):
    # LLM gateways that inherit the caller's cancellation lose just the slow ones.
    gone = threading.Event()
    shadow.on(path, lambda c, r: gone.wait(10) and c.send(answer(body=b"late")))
    origin.on(path, lambda c, r: c.read_to_end() and "close" or "close")
    before = settled(mirroring).mirror()["results"]
    client = mirroring.client()
    client.send(request_bytes(path))
    shadow.wait_seen(path)
    client.abort()
    gone.set()
    after = settled(mirroring).mirror()["results"]
    assert after.get("ok", 0) == before.get("ok", 0) + 1


def test_the_copy_does_not_wait_for_the_primary(mirroring, origin, shadow, path):
    release = threading.Event()
    origin.on(path, lambda c, r: release.wait(10) and c.send(answer(body=b"end")))
    with mirroring.client() as client:
        client.send(request_bytes(path))
        try:
            shadow.wait_seen(path)
        finally:
            release.set()
        assert client.read_final().body == b"end"


def test_the_primary_gets_the_body_while_it_comes(mirroring, origin, path):
    first = []

    def peek(connection, request):
        wait_for(lambda: len(connection.buffer) >= 5 or not connection.fill(), "the first half")
        first.append(bytes(connection.buffer))
        connection.read_request_body(request)
        connection.send(answer(body=b"end"))

    origin.on_head(path, peek)
    with mirroring.client() as client:
        client.send(request_bytes(path, "POST", [("Content-Length", "10")], b"first"))
        wait_for(lambda: first, "the primary's first half")
        client.send(b"other")
        assert client.read_final("POST").body == b"end"


def test_shadow_connections_are_reused(mirroring, shadow, path):
    with mirroring.client() as client:
        for number in range(20):
            exchange(client, f"{path}/{number}")
            shadow.wait_seen(f"{path}/{number}")
    assert len({r.connection for r in shadow.seen(path)}) <= 3


@pytest.mark.parametrize("raw", [
    b"HTTP/1.1 500 Broken\r\nX-Shadow: yes\r\nContent-Length: 6\r\n\r\nshadow",
    b"HTTP/1.1 200 OK\r\nX-Shadow: yes\r\nSet-Cookie: shadow=1\r\nContent-Length: 6\r\n\r\nshadow",
    b"HTTP/1.1 103 Hints\r\nX-Shadow: yes\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nshadow",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shadow\r\nConnection: upgrade\r\n\r\nshadow",
], ids=["500", "200", "103", "101"])
def test_nothing_of_the_shadows_answer_reaches_the_client(mirroring, origin, shadow, path, raw):
    shadow.on(path, raw=raw)
    origin.on(path, raw=answer(body=b"primary"))
    with mirroring.client() as client:
        for number in range(5):
            got = exchange(client, f"{path}/{number}")
            assert (got.status, got.body, got.interim) == (200, b"primary", [])
            assert b"hadow" not in got.head
        shadow.wait_seen(path, 5)
        assert client.is_open() and client.buffer == b""


def test_no_bytes_of_bodies_are_copied_in_memory(mirroring, shadow, path):
    before = mirroring.metrics()
    assert "umbra_mirror_bytes_copied_total" in before.names()
    for number in range(3):
        mirroring.ask(f"{path}/{number}", "POST", body=b"x" * 100_000)
    shadow.wait_seen(path, 3)
    after = settled(mirroring)
    name = "umbra_mirror_bytes_copied_total"
    assert after.sum(name) == before.sum(name)


def test_pipelined_requests_are_each_copied(mirroring, shadow, path):
    with mirroring.client() as client:
        client.send(b"".join(request_bytes(f"{path}/{n}", "POST", body=b"body %d" % n)
                             for n in range(20)))
        for _ in range(20):
            assert client.read_final("POST").status == 200
    copies = shadow.wait_seen(path, 20)
    assert {c.path: c.body for c in copies} == {
        f"{path}/{n}": b"body %d" % n for n in range(20)}


def test_upgrades_are_not_mirrored(mirroring, origin, shadow, path):
    origin.on(path, raw=b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                        b"Upgrade: websocket\r\n\r\nhi")
    with mirroring.client() as client:
        got = exchange(client, path, fields=[("Connection", "Upgrade"), ("Upgrade", "websocket")])
        assert got.status == 101
        assert client.read_exactly(2) == b"hi"
    settled(mirroring)
    for copy in shadow.seen(path):
        assert copy.get("upgrade") is None


def test_refused_requests_are_not_mirrored(mirroring, shadow, path):
    before = settled(mirroring).mirror()
    with mirroring.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".encode())
        try:
            assert client.read_final().status == 400
        except Incomplete:
            pytest.fail("no answer")
    assert settled(mirroring).mirror() == before
    assert not shadow.seen(path, shadow.heads)


def test_expect_is_between_client_and_primary_only(mirroring, shadow, path):
    # The copy goes out whole: a shadow that waits to be asked for the body would wait for nothing.
    with mirroring.client() as client:
        client.send(request_bytes(path, "POST", [("Expect", "100-continue"),
                                                 ("Content-Length", "5")]))
        assert client.read_answer("POST").status == 100
        client.send(b"hello")
        assert client.read_final("POST").status == 200
    copy = shadow.wait_seen(path)[0]
    assert copy.body == b"hello" and copy.get("expect") is None
