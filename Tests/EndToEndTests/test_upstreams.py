"""Targets of several endpoints: who gets a request, and what becomes of it where one fails."""

import time
from collections import Counter

import pytest

from harness.gateway import settings
from harness.metrics import counted
from harness.peer import OK, Peer, answer
from harness.ports import free_port
from harness.waiting import wait_for


@pytest.fixture
def peers():
    made = [Peer(f"endpoint {index}") for index in range(3)]
    yield made
    for peer in made:
        peer.stop()
        assert not peer.faults, peer.faults[0]


@pytest.fixture
def balanced(run_gateway, peers):
    """A gateway over the three peers; `target` lays further keys over its target."""
    def start(endpoints=None, **target):
        config = settings(peers[0])
        config["providers"]["targets"] = [{
            "id": "app", "endpoints": endpoints or [
                {"url": f"http://127.0.0.1:{peer.port}"} for peer in peers], **target}]
        return run_gateway(config)
    return start


def ask_many(gateway, path, count, fields=lambda index: (), method="GET", body=b""):
    """Statuses of `count` requests, one after the other."""
    return Counter(
        gateway.ask(path, method=method, fields=fields(index), body=body).status
        for index in range(count))


def seen(peers, path):
    return [len(peer.seen(path)) for peer in peers]


def test_weights_are_exact(balanced, peers, path):
    gateway = balanced([
        {"url": f"http://127.0.0.1:{peer.port}", "weight": weight}
        for peer, weight in zip(peers, (5, 2, 1))])
    assert ask_many(gateway, path, 80) == {200: 80}
    assert seen(peers, path) == [50, 20, 10]
    counted(gateway, 80, code="2xx")


def test_least_requests_avoids_a_slow_endpoint(balanced, peers, path):
    gateway = balanced(balance="least_requests")
    release = []
    peers[0].on(path + "/slow", lambda connection, request: (
        wait_for(lambda: release, "the release", 20), connection.send(OK)))
    # Several long requests, as many as it takes for the first endpoint to hold some.
    clients = []
    for _ in range(24):
        client = gateway.client()
        client.send(f"GET {path}/slow HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        clients.append(client)
        if len([h for h in peers[0].heads if h.path.startswith(path)]) >= 4:
            break
        time.sleep(0.02)
    held = len([h for h in peers[0].heads if h.path.startswith(path)])
    assert held >= 1
    assert ask_many(gateway, path + "/fast", 60) == {200: 60}
    # The busy one is drawn against an idle one and loses each time.
    assert seen(peers, path + "/fast")[0] == 0
    release.append(True)
    for client in clients:
        assert client.read_final("GET").status == 200
        client.close()


def test_a_hash_is_sticky_and_moves_only_what_it_must(balanced, peers, path):
    gateway = balanced(
        balance={"hash": "header:x-user"}, ejection={"failures": 1, "time": "30s"},
        retries={"attempts": 1, "on": ["connect"]})
    def places():
        found = {}
        for user in range(60):
            mark = f"{path}/{time.monotonic_ns()}"
            assert gateway.ask(mark, fields=[("X-User", user)]).status == 200
            found[user] = next(i for i, peer in enumerate(peers) if peer.seen(mark))
        return found
    first = places()
    assert set(first.values()) == {0, 1, 2}
    assert places() == first
    peers[1].stop()
    after = places()
    assert all(after[user] == place for user, place in first.items() if place != 1)
    assert all(after[user] != 1 for user in first)


def test_an_endpoint_that_dies_costs_no_client_an_error(balanced, peers, path):
    gateway = balanced()
    assert ask_many(gateway, path, 6) == {200: 6}
    peers[2].stop()
    assert ask_many(gateway, path, 60) == {200: 60}
    # Five refusals in a row, then it is left alone.
    metrics = gateway.metrics()
    assert metrics.sum("umbra_endpoint_ejections_total") == 1
    assert metrics.sum("umbra_endpoint_connect_failures_total") == 5
    assert sum(seen(peers, path)) == 66


def test_posts_are_sent_once_and_go_on_where_nothing_was_sent(balanced, peers, path):
    gateway = balanced()
    peers[0].on(path, raw=answer("503 No", b"no"))
    statuses = ask_many(gateway, path, 9, method="POST", body=b"x=1")
    assert statuses == {200: 6, 503: 3}
    assert seen(peers, path) == [3, 3, 3]
    # A refused connection has got nothing: the next endpoint takes the request.
    peers[1].stop()
    assert ask_many(gateway, path + "/b", 12, method="POST", body=b"x=1")[502] == 0


def test_answers_503_are_tried_elsewhere_within_the_budget(balanced, peers, path):
    gateway = balanced(ejection="off")
    for peer in peers:
        peer.on(path, raw=answer("503 No", b"overloaded"))
    assert ask_many(gateway, path, 100) == {503: 100}
    sent = sum(seen(peers, path))
    # A fifth of the requests, and ten more.
    assert 100 + 10 <= sent <= 100 + 20 + 10
    metrics = counted(gateway, 100)
    assert metrics.sum("umbra_target_retries_total", after="status") == sent - 100
    assert metrics.sum("umbra_target_retries_refused_total", reason="over_budget") == 200 - sent
    assert metrics.sum("umbra_target_retried_requests_total", result="failed") == sent - 100


def test_no_retry_after_a_byte_of_the_answer(balanced, peers, path):
    gateway = balanced()
    for peer in peers:
        peer.on(path, lambda connection, request: (
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), "close")[1])
    for _ in range(3):
        with gateway.client() as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            with pytest.raises(Exception):
                client.read_final("GET")
    assert sum(seen(peers, path)) == 3


def test_many_waiting_requests_leave_room_for_a_slow_reader(run_gateway, peers, path):
    # Each is kept for a retry, in a block that it shares: blocks do not bound how many there are.
    config = settings(peers[0], runtime={"blocks_per_worker": 64})
    config["providers"]["targets"] = [{
        "id": "app", "endpoints": [{"url": f"http://127.0.0.1:{peer.port}"} for peer in peers]}]
    gateway = run_gateway(config)
    release, body = [], b"x" * 8_000_000
    for peer in peers:
        peer.on(path + "/waits", lambda connection, request: (
            wait_for(lambda: release, "the release", 40, every=0.1), connection.send(OK))[1])
        peer.on(path + "/large", raw=answer(body=body))
    clients = [gateway.client() for _ in range(300)]
    for client in clients:
        client.send(f"GET {path}/waits HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    wait_for(lambda: sum(len(peer.heads) for peer in peers) == 300, "all requests to wait", 20)
    with gateway.client() as slow:
        slow.send(f"GET {path}/large HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        time.sleep(1)
        assert slow.read_final("GET").body == body
    release.append(True)
    for client in clients:
        assert client.read_final("GET").status == 200
        client.close()


def test_connection_limits_pass_to_the_next_and_then_answer_503(balanced, peers, path):
    gateway = balanced([
        {"url": f"http://127.0.0.1:{peer.port}", "connections": 1} for peer in peers])
    release = []
    for peer in peers:
        peer.on(path, lambda connection, request: (
            wait_for(lambda: release, "the release", 20), connection.send(OK))[1])
    clients = [gateway.client() for _ in range(3)]
    for client in clients:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    wait_for(lambda: all(len(peer.heads) for peer in peers), "one request at each")
    refused = gateway.ask(path + "/more")
    assert refused.status == 503 and b"upstream_saturated" in refused.body
    release.append(True)
    for client in clients:
        assert client.read_final("GET").status == 200
        client.close()
    assert gateway.ask(path + "/again").status == 200


def test_ipv6_and_unix_endpoints(run_gateway, peers, tmp_path, path):
    import http.server
    import socketserver
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("X-Family", self.server.label)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words):
            pass

        def address_string(self):
            return "peer"

    class UnixServer(socketserver.ThreadingUnixStreamServer):
        label = "unix"

    class SixServer(socketserver.ThreadingTCPServer):
        import socket as _socket
        address_family = _socket.AF_INET6
        label = "ipv6"

    port = free_port()
    socket_path = str(tmp_path / "app.sock")
    servers = [UnixServer(socket_path, Handler), SixServer(("::1", port), Handler)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    config = settings(peers[0])
    config["providers"]["targets"] = [{"id": "app", "endpoints": [
        {"url": f"http+unix://{socket_path}"}, {"url": f"http://[::1]:{port}"}]}]
    gateway = run_gateway(config)
    try:
        found = Counter(gateway.ask(path).get("x-family") for _ in range(10))
        assert found == {"unix": 5, "ipv6": 5}
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
