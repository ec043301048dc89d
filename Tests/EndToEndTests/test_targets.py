"""The forms of a request target, OPTIONS *, TRACE and Max-Forwards: RFC 9112, section 3.2."""

import contextlib
import pytest

from harness.gateway import exchange, request_bytes, settings


def test_absolute_form_is_sent_on_as_origin_form(gateway, origin, path):
    with gateway.client() as client:
        got = exchange(client, f"http://umbra.test{path}?a=b", host="umbra.test")
        assert got.status == 200
    assert origin.seen(path)[0].target == f"{path}?a=b"


def test_absolute_form_wins_over_host(gateway, origin, path):
    # RFC 9112, section 3.2.2: the Host received is ignored and replaced.
    with gateway.client() as client:
        client.send(request_bytes(f"http://right.test{path}", host="wrong.test"))
        status = client.read_final().status
    assert status in (200, 400)
    for request in origin.seen(path):
        assert request.get("host") != "wrong.test"
        assert "wrong.test" not in (request.get("x-forwarded-host") or "")


def test_absolute_form_without_path(gateway, origin):
    before = len(origin.seen("/"))
    with gateway.client() as client:
        assert exchange(client, "http://umbra.test").status == 200
        assert exchange(client, "http://umbra.test?only=query").status == 200
    assert [r.target for r in origin.seen("/")[before:]] == ["/", "/?only=query"]


@pytest.mark.parametrize("target", [
    "http://", "http:///x", "http://u@h/x", "http://h:port/x", "http://[::1/x", "https:/x",
    "://h/x", "x", "x/y", "?q", "h:80",
])
def test_ill_formed_targets_are_refused(gateway, origin, target):
    heads = len(origin.heads)
    with gateway.client() as client:
        client.send(request_bytes(target))
        assert client.read_final().status == 400
        client.wait_end()
    assert len(origin.heads) == heads


@pytest.mark.parametrize("target", [
    "/a//b/../c/./d", pytest.param("/%2e%2e/%2F%00", marks=pytest.mark.beyond_nginx), "/a?b=c&d=%20+/?x", "/;p=1;q", "/~!$&'()*+,;=:@-._",
    "/%C3%A9", "/" + "a" * 4000,
])
@pytest.mark.generic
def test_targets_are_passed_on_as_they_came(gateway, origin, path, target):
    with gateway.client() as client:
        assert exchange(client, path + target).status == 200
    assert origin.seen(path)[0].target == path + target


def test_options_asterisk(gateway, origin):
    with gateway.client() as client:
        got = exchange(client, "*", "OPTIONS")
        assert got.status in (200, 204)
        assert exchange(client, "/after-asterisk").status == 200
    assert [r.target for r in origin.requests if r.method == "OPTIONS"] in (["*"], [])


def test_options_absolute_form_without_path_becomes_asterisk(gateway, origin):
    # RFC 9112, section 3.2.4.
    count = len([r for r in origin.requests if r.method == "OPTIONS"])
    with gateway.client() as client:
        got = exchange(client, "http://umbra.test", "OPTIONS")
        assert got.status in (200, 204)
    rest = [r.target for r in origin.requests if r.method == "OPTIONS"][count:]
    assert rest in (["*"], [])


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_asterisk_is_for_options_only(gateway, origin, method):
    heads = len(origin.heads)
    with gateway.client() as client:
        client.send(request_bytes("*", method))
        assert client.read_final().status == 400
    assert len(origin.heads) == heads


def test_max_forwards_counts_down(gateway, origin, path):
    with gateway.client() as client:
        assert exchange(client, path, "OPTIONS", [("Max-Forwards", "5")]).status == 200
    assert origin.seen(path)[0].get("max-forwards") == "4"


def test_max_forwards_zero_is_answered_here(gateway, origin, path):
    with gateway.client() as client:
        assert exchange(client, path, "OPTIONS", [("Max-Forwards", "0")]).status in (200, 204)
        assert exchange(client, path + "/next").status == 200
    assert not [r for r in origin.seen(path, origin.heads) if r.method == "OPTIONS"]


def test_max_forwards_is_nothing_to_other_methods(gateway, origin, path):
    # RFC 9110, section 7.6.2: it MAY be ignored for other methods.
    with gateway.client() as client:
        assert exchange(client, path, "GET", [("Max-Forwards", "0")]).status == 200
    assert origin.seen(path)[0].get("max-forwards") in ("0", None)


def test_trace_is_refused(gateway, origin, path):
    with gateway.client() as client:
        assert exchange(client, path, "TRACE").status == 405
    assert not origin.seen(path, origin.heads)


def test_trace_is_passed_on_where_allowed(run_gateway, origin, path):
    gateway = run_gateway(settings(origin, forwarding={"allow_trace": True}))
    with gateway.client() as client:
        assert exchange(client, path, "TRACE").status == 200
        assert exchange(client, path, "TRACE", [("Max-Forwards", "2")]).status == 200
        zero = exchange(client, path, "TRACE", [("Max-Forwards", "0"), ("Cookie", "a=secret")])
        assert zero.status == 200 and b"secret" not in zero.body
    assert [r.get("max-forwards") for r in origin.seen(path)] == [None, "1"]
    gateway.stop()


@pytest.mark.parametrize("target", ["umbra.test:443", "127.0.0.1:22", "/x", "umbra.test"])
def test_connect_is_refused(gateway, origin, target):
    heads = len(origin.heads)
    with gateway.client() as client:
        client.send(request_bytes(target, "CONNECT"))
        assert client.read_final("GET").status in (400, 405, 501)
        # The gateway may have closed already: then there is nobody to send to.
        with contextlib.suppress(OSError):
            client.send(request_bytes("/through-the-tunnel"))
            client.half_close()
        client.wait_end()
    assert len(origin.heads) == heads


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "PROPFIND", "M-SEARCH", "get", "X!#"])
@pytest.mark.generic
@pytest.mark.beyond_nginx
def test_any_token_is_a_method(gateway, origin, path, method):
    with gateway.client() as client:
        assert exchange(client, path, method).status == 200
    assert origin.seen(path)[0].method == method
