"""Fields: hop-by-hop ones removed, the rest passed on as they came, those of a proxy added."""

import json
import re

import pytest

from harness.gateway import exchange, request_bytes, settings
from harness.peer import answer

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def end_to_end(message, names):
    """The named fields in the order they came."""
    wanted = {n.lower().encode() for n in names}
    return [(n, v) for n, v in message.fields if n.lower() in wanted]


SENT = [("X-First", "1"), ("Accept", "*/*"), ("x-MiXed-Case", "Kept"), ("X-Twice", "a"),
        ("X-Between", "b"), ("X-Twice", "c"), ("X-Empty", ""), ("X-Latin", "caf\xe9 \xff"),
        ("X-Inner", "a  b\tc"), ("Cookie", "a=b; c=d"), ("Authorization", "Basic eDp5"),
        ("X-Long", "v" * 5000), ("X-Quoted", 'a="b, c"; d'), ("User-Agent", "e2e")]


def test_request_fields_arrive_as_they_were(gateway, origin, path):
    with gateway.client() as client:
        assert exchange(client, path, fields=SENT).status == 200
    got = end_to_end(origin.seen(path)[0], [n for n, _ in SENT])
    assert got == [(n.encode(), v.encode("latin-1")) for n, v in SENT]


def test_answer_fields_arrive_as_they_were(gateway, origin, path):
    sent = [("Server", "origin/1"), ("Set-Cookie", "a=1"), ("X-Mixed-CASE", "Kept"),
            ("Set-Cookie", "b=2; Path=/"), ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("X-Latin", "caf\xe9"), ("X-Empty", ""), ("ETag", '"x"'), ("Location", "/a?b")]
    lines = "".join(f"{n}: {v}\r\n" for n, v in sent).encode("latin-1")
    origin.on(path, raw=b"HTTP/1.1 200 Fine So Far\r\n" + lines + b"Content-Length: 0\r\n\r\n")
    got = gateway.ask(path)
    assert (got.status, got.reason) == (200, "Fine So Far")
    assert end_to_end(got, [n for n, _ in sent]) == [
        (n.encode(), v.encode("latin-1")) for n, v in sent]


@pytest.mark.parametrize("reason", ["", "OK", "caf\xe9 \u00ff", "  two  words "])
def test_reasons_are_passed_on(gateway, origin, path, reason):
    origin.on(path, raw=f"HTTP/1.1 200 {reason}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))
    assert gateway.ask(path).reason.strip() == reason.strip()


HOP_BY_HOP = [("Connection", "keep-alive, X-Named, x-other"), ("X-Named", "1"), ("X-Other", "2"),
              ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"), ("TE", "gzip"),
              ("Proxy-Authenticate", "Basic"), ("Proxy-Authorization", "Basic eDp5")]
REMOVED = ["X-Named", "X-Other", "Keep-Alive", "Proxy-Connection", "TE"]


def test_hop_by_hop_request_fields_are_removed(gateway, origin, path):
    assert gateway.ask(path, fields=HOP_BY_HOP + [("X-Kept", "3")]).status == 200
    request = origin.seen(path)[0]
    assert end_to_end(request, REMOVED) == []
    assert "x-named" not in (request.get("connection") or "").lower()
    assert request.get("x-kept") == "3"


def test_hop_by_hop_answer_fields_are_removed(gateway, origin, path):
    lines = "".join(f"{n}: {v}\r\n" for n, v in HOP_BY_HOP + [("X-Kept", "3")])
    origin.on(path, raw=f"HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n".encode())
    got = gateway.ask(path)
    assert end_to_end(got, ["X-Named", "X-Other", "Proxy-Connection"]) == []
    assert "x-named" not in (got.get("connection") or "").lower()
    assert "timeout=5" not in (got.get("keep-alive") or "")
    assert got.get("x-kept") == "3"


@pytest.mark.parametrize("name", ["Host", "Content-Length", "X-Forwarded-For", "Via", "X-Request-Id",
                                  "Transfer-Encoding"])
def test_connection_cannot_take_away_what_the_proxy_needs(gateway, origin, path, name):
    # A client that names Content-Length in Connection must not change the body's framing.
    fields = [("Connection", name)]
    if name == "Transfer-Encoding":
        fields.append((name, "chunked"))
        body = b"5\r\nhello\r\n0\r\n\r\n"
    else:
        body = b"hello"
    with gateway.client() as client:
        client.send(request_bytes(path, "POST", fields, body))
        status = client.read_final("POST").status
    assert status in (200, 400)
    for request in origin.seen(path):
        assert request.body == b"hello"
        assert request.get("host") is not None
        assert request.get("via") and request.get("x-request-id")
        assert request.get("x-forwarded-for")


def test_te_trailers_alone_may_be_passed_on(gateway, origin, path):
    gateway.ask(path, fields=[("TE", "trailers, gzip;q=0.5"), ("Connection", "TE")])
    assert (origin.seen(path)[0].get("te") or "trailers").strip() == "trailers"


def test_via_is_added(gateway, origin, path):
    origin.on(path, raw=answer(fields=[("Via", "1.0 inner")]))
    got = gateway.ask(path, fields=[("Via", "1.0 fred, 1.1 p.example")])
    via = origin.seen(path)[0].get("via")
    assert re.fullmatch(r"1\.0 fred, 1\.1 p\.example, 1\.1 \S+", via), via
    assert re.fullmatch(r"1\.0 inner, 1\.1 \S+", got.get("via")), got.get("via")


def test_via_names_the_clients_version(gateway, origin, path):
    with gateway.client() as client:
        client.send(request_bytes(path, version="HTTP/1.0"))
        client.read_final()
    assert re.fullmatch(r"1\.0 \S+", origin.seen(path)[0].get("via"))


def test_requests_go_on_as_http_1_1(gateway, origin, path):
    with gateway.client() as client:
        client.send(request_bytes(path, version="HTTP/1.0"))
        assert client.read_final().version == "HTTP/1.1"
    assert origin.seen(path)[0].version == "HTTP/1.1"


def test_host_is_passed_on(gateway, origin, path):
    gateway.ask(path, host="Some.Host.test:8080")
    request = origin.seen(path)[0]
    assert request.all("host") == ["Some.Host.test:8080"]


def test_forwarded_fields_are_appended_by_default(gateway, origin, path):
    gateway.ask(path, host="asked.test:99", fields=[
        ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.1")])
    request = origin.seen(path)[0]
    assert request.get("x-forwarded-for") == "203.0.113.9, 198.51.100.1, 127.0.0.1"


def test_forwarded_fields_are_made_where_missing(gateway, origin, path):
    gateway.ask(path, host="asked.test:99")
    request = origin.seen(path)[0]
    assert request.all("x-forwarded-for") == ["127.0.0.1"]
    assert request.all("x-forwarded-proto") == ["http"]
    assert request.all("x-forwarded-host") == ["asked.test:99"]


SPOOFED = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https"),
           ("X-Forwarded-Host", "evil.test")]


@pytest.fixture(scope="module")
def replacing(run_gateway, origin):
    return run_gateway(settings(origin, forwarding={"x_forwarded": "replace"}))


@pytest.fixture(scope="module")
def off(run_gateway, origin):
    return run_gateway(settings(origin, forwarding={"x_forwarded": "off"}))


@pytest.mark.parametrize("fields", [[], SPOOFED, SPOOFED + SPOOFED], ids=["none", "one", "two"])
def test_forwarded_fields_are_replaced(replacing, origin, path, fields):
    replacing.ask(path, host="asked.test", fields=fields)
    request = origin.seen(path)[0]
    assert request.all("x-forwarded-for") == ["127.0.0.1"]
    assert request.all("x-forwarded-proto") == ["http"]
    assert request.all("x-forwarded-host") == ["asked.test"]


def test_forwarded_fields_off_leaves_them_as_they_are(off, origin, path):
    off.ask(path)
    off.ask(path, fields=SPOOFED)
    first, second = origin.seen(path)
    names = [n for n, _ in SPOOFED]
    assert end_to_end(first, names) == []
    assert end_to_end(second, names) == [(n.encode(), v.encode()) for n, v in SPOOFED]


def test_a_request_id_is_kept(gateway, origin, path):
    gateway.ask(path, fields=[("X-Request-Id", "mine-42")])
    assert origin.seen(path)[0].all("x-request-id") == ["mine-42"]


def test_a_request_id_is_made_where_missing(gateway, origin, path):
    with gateway.client() as client:
        for _ in range(3):
            exchange(client, path)
    ids = [r.get("x-request-id") for r in origin.seen(path)]
    assert all(UUID.fullmatch(i) for i in ids), ids
    assert len(set(ids)) == 3


def test_a_trace_goes_on_with_a_span_of_its_own(gateway, origin, path):
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    gateway.ask(path, fields=[("traceparent", parent), ("tracestate", "a=b")])
    request = origin.seen(path)[0]
    assert request.get("traceparent")[:36] == parent[:36]
    assert request.get("traceparent")[36:52] != parent[36:52]
    assert request.get("tracestate") == "a=b"


def test_gateway_errors_are_json(gateway):
    with gateway.client() as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        got = client.read_final()
    error = json.loads(got.body)["error"]
    assert got.status == 400
    assert got.get("content-type", "").startswith("application/json")
    assert {"type", "message", "code"} <= set(error)
