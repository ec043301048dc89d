"""Routes by host, path, method and field; per-route target; prefix rewrite; first match wins."""

import pytest

from harness.gateway import settings
from harness.peer import Peer


def target(peer, path=""):
    return {"id": peer.name, "provider": "http",
            "base_url": f"http://127.0.0.1:{peer.port}{path}"}


@pytest.fixture(scope="module")
def peers():
    made = {name: Peer(name) for name in ("app", "one", "two", "three")}
    for peer in made.values():
        peer.default = lambda c, r, peer=peer: c.send(
            f"HTTP/1.1 200 OK\r\nX-Peer: {peer.name}\r\nX-Target: {r.target}\r\n"
            "Content-Length: 0\r\n\r\n".encode("latin-1"))
    yield made
    for peer in made.values():
        peer.stop()


@pytest.fixture(scope="module")
def gateway(run_gateway, peers):
    return run_gateway(settings(peers["app"], providers={"targets": [
        target(peers["app"]), target(peers["one"]), target(peers["two"]),
        target(peers["three"], "/base")]}, routes=[
            {"match": {"path": "/exact"}, "target": "one"},
            {"match": {"path_prefix": "/prefix/"}, "target": "one"},
            {"match": {"path_prefix": "/prefix/late"}, "target": "two"},
            {"match": {"host": "one.test"}, "target": "one"},
            {"match": {"host": "*.wild.test"}, "target": "two"},
            {"match": {"methods": ["DELETE", "PATCH"]}, "target": "two"},
            {"match": {"headers": {"x-to": "one"}}, "target": "one"},
            {"match": {"headers": {"x-any": None}}, "target": "two"},
            {"match": {"path_prefix": "/both", "methods": ["POST"]}, "target": "two"},
            {"match": {"path_prefix": "/api/"}, "target": "one", "rewrite_prefix": "/v2/"},
            {"match": {"path_prefix": "/cut/"}, "target": "one", "rewrite_prefix": "/"},
            {"match": {"path_prefix": "/based"}, "target": "three"},
            {"match": {"path_prefix": "/bothrw/"}, "target": "three", "rewrite_prefix": "/x/"},
        ]))


@pytest.mark.parametrize("asked,options,peer,sent", [
    ("/", {}, "app", "/"),
    ("/exact", {}, "one", "/exact"),
    ("/exact?query=1", {}, "one", "/exact?query=1"),
    ("/exact/", {}, "app", "/exact/"),
    ("/exactly", {}, "app", "/exactly"),
    ("/Exact", {}, "app", "/Exact"),
    ("/prefix/", {}, "one", "/prefix/"),
    ("/prefix/a/b?c", {}, "one", "/prefix/a/b?c"),
    ("/prefix", {}, "app", "/prefix"),
    ("/prefix/late", {}, "one", "/prefix/late"),
    ("/?/prefix/", {}, "app", "/?/prefix/"),
    ("/x", {"host": "one.test"}, "one", "/x"),
    ("/x", {"host": "ONE.test:8080"}, "one", "/x"),
    ("/x", {"host": "none.test"}, "app", "/x"),
    ("/x", {"host": "xone.test"}, "app", "/x"),
    ("/x", {"host": "a.wild.test"}, "two", "/x"),
    ("/x", {"host": "a.b.wild.test"}, "two", "/x"),
    ("/x", {"host": "wild.test"}, "app", "/x"),
    ("/x", {"host": "awild.test"}, "app", "/x"),
    ("http://one.test/x", {"host": "one.test"}, "one", "/x"),
    ("/x", {"method": "DELETE"}, "two", "/x"),
    ("/x", {"method": "PATCH"}, "two", "/x"),
    ("/x", {"method": "delete"}, "app", "/x"),
    ("/x", {"fields": [("X-To", "one")]}, "one", "/x"),
    ("/x", {"fields": [("x-to", "  one ")]}, "one", "/x"),
    ("/x", {"fields": [("X-To", "One")]}, "app", "/x"),
    ("/x", {"fields": [("X-To", "ones")]}, "app", "/x"),
    ("/x", {"fields": [("X-Any", "")]}, "two", "/x"),
    ("/x", {"fields": [("X-Any", "y"), ("X-To", "one")]}, "one", "/x"),
    ("/both", {"method": "POST"}, "two", "/both"),
    ("/both", {}, "app", "/both"),
    ("/api/", {}, "one", "/v2/"),
    ("/api/users?x=/api/", {}, "one", "/v2/users?x=/api/"),
    ("/api", {}, "app", "/api"),
    ("/cut/a", {}, "one", "/a"),
    ("/cut/", {}, "one", "/"),
    ("/cut/?q", {}, "one", "/?q"),
    ("/based/a", {}, "three", "/base/based/a"),
    ("/bothrw/a?b", {}, "three", "/base/x/a?b"),
])
def test_route(gateway, asked, options, peer, sent):
    got = gateway.ask(asked, **options)
    assert (got.get("x-peer"), got.get("x-target")) == (peer, sent)


@pytest.mark.parametrize("asked", ["http://one.test/x"])
def test_the_host_of_an_absolute_target_counts(gateway, asked):
    got = gateway.ask(asked, host="none.test")
    assert got.status == 400 or got.get("x-peer") == "one"


def test_without_routes_the_first_target_serves_all(run_gateway, peers, path):
    plain = run_gateway(settings(peers["one"]))
    assert plain.ask(path).get("x-peer") == "one"
    plain.stop()


def test_without_routes_the_primary_serves_all(run_gateway, peers, path):
    config = settings(peers["app"], peers["one"])
    config["traffic_mirror"].update(primary="next", shadow="app")
    plain = run_gateway(config)
    assert plain.ask(path).get("x-peer") == "one"
    plain.stop()
