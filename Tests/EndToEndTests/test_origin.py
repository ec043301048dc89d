"""Who a request comes from: trusted proxies, Forwarded, and traces on both sides."""

import json
import re
import socket

import pytest

from harness.gateway import exchange, settings
from harness.stream import Stream
from harness.waiting import wait_for

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
CLAIMS = [("X-Forwarded-For", "9.9.9.9, 1.1.1.1, 127.0.0.7"), ("X-Forwarded-Proto", "https"),
          ("X-Forwarded-Host", "outside.test"), ("Forwarded", "for=9.9.9.9")]


def logged(gateway, path):
    found = []

    def look():
        found[:] = [json.loads(line) for line in list(gateway.log)
                    if line.startswith("{") and path in line]
        return found

    wait_for(look, "the access log's line")
    return found[0]


def test_a_trusted_proxy_is_believed(run_gateway, origin, path):
    gateway = run_gateway(settings(
        origin, access_log={"path": "-"},
        forwarding={"trusted_proxies": ["127.0.0.0/8"], "forwarded": "append"}))
    assert gateway.ask(path, fields=CLAIMS).status == 200
    request = origin.seen(path)[0]
    assert request.get("x-forwarded-for") == "9.9.9.9, 1.1.1.1, 127.0.0.7, 127.0.0.1"
    assert request.get("x-forwarded-proto") == "https"
    assert request.get("x-forwarded-host") == "outside.test"
    assert request.get("forwarded") == "for=9.9.9.9, for=127.0.0.1;host=umbra.test;proto=http"
    assert logged(gateway, path)["client"] == "1.1.1.1"


def test_anybody_else_is_not(run_gateway, origin, path):
    gateway = run_gateway(settings(
        origin, access_log={"path": "-"},
        forwarding={"trusted_proxies": ["10.0.0.0/8"], "forwarded": "append"}))
    assert gateway.ask(path, fields=CLAIMS).status == 200
    request = origin.seen(path)[0]
    assert request.get("x-forwarded-for") == "127.0.0.1"
    assert request.get("x-forwarded-proto") == "http"
    assert request.get("x-forwarded-host") == "umbra.test"
    assert request.get("forwarded") == "for=127.0.0.1;host=umbra.test;proto=http"
    assert logged(gateway, path)["client"] == "127.0.0.1"


def test_the_shadow_gets_a_span_of_its_own(run_gateway, origin, shadow, path):
    gateway = run_gateway(settings(origin, shadow, access_log={"path": "-"}))
    fields = [("traceparent", PARENT), ("tracestate", "a=1,b=2")]
    assert gateway.ask(path, fields=fields).status == 200
    wait_for(lambda: shadow.seen(path), "the copy")
    spans = {"b7ad6b7169203331"}
    for peer in (origin, shadow):
        trace, span, flags = re.fullmatch(
            r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})",
            peer.seen(path)[0].get("traceparent")).groups()
        assert (trace, flags) == (TRACE, "01")
        spans.add(span)
    assert len(spans) == 3
    assert origin.seen(path)[0].get("tracestate") == "a=1,b=2"
    assert shadow.seen(path)[0].get("tracestate") == "umbra=shadow,a=1,b=2"
    assert logged(gateway, path)["trace_id"] == TRACE


@pytest.mark.parametrize("fields", [
    [("traceparent", PARENT[:-1]), ("tracestate", "a=1")],
    [("traceparent", PARENT.upper()), ("tracestate", "a=1")],
    [("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "a=1")],
    [("tracestate", "a=1")],
])
def test_a_broken_trace_goes_nowhere(mirroring, origin, shadow, path, fields):
    assert mirroring.ask(path, fields=fields).status == 200
    wait_for(lambda: shadow.seen(path), "the copy")
    for peer in (origin, shadow):
        assert peer.seen(path)[0].get("traceparent") is None
        assert peer.seen(path)[0].get("tracestate") is None


def test_a_trace_is_begun_where_asked(run_gateway, origin, shadow, path):
    gateway = run_gateway(settings(
        origin, shadow, access_log={"path": "-"}, forwarding={"trace": "always"}))
    assert gateway.ask(path).status == 200
    wait_for(lambda: shadow.seen(path), "the copy")
    ids = {peer.seen(path)[0].get("traceparent")[3:35] for peer in (origin, shadow)}
    assert ids == {logged(gateway, path)["trace_id"]}
    assert shadow.seen(path)[0].get("tracestate") == "umbra=shadow"
    assert origin.seen(path)[0].get("tracestate") is None


@pytest.mark.parametrize("trusted, client", [("unix", "1.1.1.1"), ("10.0.0.0/8", "unknown")])
def test_a_unix_peer_can_be_trusted(run_gateway, origin, path, tmp_path, trusted, client):
    address = f"unix:{tmp_path}/umbra.sock"
    gateway = run_gateway(settings(
        origin, access_log={"path": "-"}, forwarding={"trusted_proxies": [trusted]}),
        arguments=["--listen", address])
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(10)
    link.connect(address.removeprefix("unix:"))
    with Stream(link, 10) as stream:
        assert exchange(stream, path, fields=[("X-Forwarded-For", "1.1.1.1")]).status == 200
    assert logged(gateway, path)["client"] == client
