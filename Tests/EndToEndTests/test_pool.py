"""Upstream connections: kept, found dead, tried again where that is safe and only there."""

import threading

import pytest

from harness.gateway import exchange, request_bytes, settings
from harness.peer import OK, Peer, answer
from harness.waiting import wait_for


def end_when_asked_again(reset):
    """Reads the first request under `/retry` and ends without a word, as a server does whose idle
    timeout fires at the same moment; answers everything else."""
    tries = []

    def handle(connection, request):
        if not request.path.endswith("/retry"):
            connection.send(OK)
            return None
        tries.append(connection.served)
        if len(tries) > 1:
            connection.send(answer(body=b"fresh"))
            return None
        if reset:
            connection.abort()
        return "close"
    return handle


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_get_is_tried_again_on_a_fresh_connection(gateway, origin, path, reset):
    origin.on(path, end_when_asked_again(reset))
    with gateway.client() as client:
        assert exchange(client, path).body == b"ok"
        got = exchange(client, path + "/retry")
        assert (got.status, got.body) == (200, b"fresh")
    tries = origin.seen(path + "/retry")
    assert len(tries) == 2 and tries[0].connection != tries[1].connection


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("method,body", [("POST", b"once"), ("PATCH", b"once"), ("POST", b"")])
def test_post_is_never_sent_twice(gateway, origin, path, reset, method, body):
    origin.on(path, end_when_asked_again(reset))
    with gateway.client() as client:
        assert exchange(client, path).body == b"ok"
        fields = [] if body else [("Content-Length", "0")]
        assert exchange(client, path + "/retry", method, fields, body).status == 502
    assert len(origin.seen(path + "/retry", origin.heads)) == 1


def test_a_retry_is_made_once_at_most_for_each_dead_connection(gateway, origin, path):
    origin.on(path, lambda c, r: "close")
    with gateway.client() as client:
        assert exchange(client, path).status == 502
    # A fresh connection that ends without an answer is no stale one: no further try.
    assert len(origin.seen(path)) <= 2


@pytest.mark.parametrize("method,body", [("GET", b""), ("POST", b"body")])
def test_a_connection_that_died_idle_costs_nobody_anything(gateway, origin, path, method, body):
    ended = []

    def end_idle(connection, request):
        connection.send(OK)
        connection.half_close()
        connection.read_to_end()
        ended.append(request)
        return "close"

    origin.on(path, end_idle)
    with gateway.client() as client:
        for number in range(5):
            assert exchange(client, f"{path}/{number}", method, body=body).status == 200
            wait_for(lambda: len(ended) == number + 1, "the gateway's end of a dead connection")
    assert len(origin.seen(path)) == 5


def test_a_partial_answer_is_never_tried_again(gateway, origin, path):
    origin.on(path + "/cut", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nContent-Le") and "close")
    with gateway.client() as client:
        exchange(client, path)
        assert exchange(client, path + "/cut").status == 502
    assert len(origin.seen(path + "/cut")) == 1


def test_concurrent_requests_use_connections_of_their_own(gateway, origin, path):
    together = threading.Barrier(8, timeout=10)

    def meet(connection, request):
        together.wait()
        connection.send(answer(body=request.path.encode()))

    origin.on(path, meet)
    clients = [gateway.client() for _ in range(8)]
    for number, client in enumerate(clients):
        client.send(request_bytes(f"{path}/{number}"))
    for number, client in enumerate(clients):
        assert client.read_final().body == f"{path}/{number}".encode()
        client.close()
    assert len({r.connection for r in origin.seen(path)}) == 8


def test_an_aborted_exchange_does_not_go_back_to_the_pool(gateway, origin, path):
    go = threading.Event()

    def late(connection, request):
        go.wait(10)
        connection.send(answer(body=b"for the one who left"))

    origin.on(path + "/late", late)
    origin.on(path + "/mine", raw=answer(body=b"mine"))
    client = gateway.client()
    client.send(request_bytes(path + "/late"))
    origin.wait_seen(path + "/late")
    client.abort()
    go.set()
    for _ in range(10):
        assert gateway.ask(path + "/mine").body == b"mine"


def test_an_origin_that_comes_back_is_used_again(run_gateway, path):
    first = Peer("first")
    gateway = run_gateway(settings(first))
    assert gateway.ask(path).status == 200
    first.stop()
    wait_for(lambda: gateway.ask(path).status == 502, "502 while it is away")
    again = Peer("again", port=first.port)
    try:
        wait_for(lambda: gateway.ask(path).status == 200, "the origin's return")
    finally:
        again.stop()
        gateway.stop()
