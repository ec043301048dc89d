"""`cancel_with_client`: which copies end when a user goes, and which must not."""

import socket
import struct
import threading
import time

import pytest

from harness.gateway import exchange, settings
from harness.metrics import settled
from harness.peer import Peer
from harness.waiting import wait_for

RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def shadows():
    pair = Peer("first"), Peer("second")
    yield pair
    for peer in pair:
        peer.stop()


@pytest.fixture
def gate():
    """What answers wait for in the middle."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def mirrored(run_gateway, origin, shadows):
    def start(*cancels):
        config = settings(origin)
        config["providers"]["targets"] += [
            {"id": peer.name, "provider": "http", "base_url": f"http://127.0.0.1:{peer.port}"}
            for peer in shadows]
        config["traffic_mirror"] = {
            "primary": config["providers"]["targets"][0]["id"], "limits": {"qps": 10_000},
            "shadows": [{"shadow": peer.name, "cancel_with_client": cancels_}
                        for peer, cancels_ in zip(shadows, cancels)]}
        return run_gateway(config)
    return start


def in_two_parts(gate):
    def reply(connection, request):
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
        gate.wait(20)
        try:
            connection.sock.sendall(b"x" * 98)
        except OSError:
            pass
    return reply


def ask(gateway, path, line="GET", fields=""):
    sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    sock.sendall(f"{line} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
    return sock


def leave(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def test_only_the_shadow_that_is_to_and_only_their_copies(mirrored, origin, shadows, gate, path):
    for peer in (origin, *shadows):
        peer.on(path, in_two_parts(gate))
    gateway = mirrored(True, False)
    clients = [ask(gateway, f"{path}/{n}") for n in range(20)]
    assert all(client.recv(100) for client in clients)
    for peer in shadows:
        peer.wait_seen(path, 20)
    for client in clients[::2]:
        leave(client)
    wait_for(lambda: gateway.metrics().results(shadow="first") == {"cancelled": 10},
             lambda: f"ten that were cancelled: {gateway.metrics().results()}")
    gate.set()
    found = settled(gateway, sent=40)
    assert found.results(shadow="first") == {"cancelled": 10, "ok": 10}
    assert found.results(shadow="second") == {"ok": 20}


def test_who_has_the_whole_answer_cancels_nothing(mirrored, shadows, gate, path):
    for peer in shadows:
        peer.on(path, in_two_parts(gate))
    gateway = mirrored(True, True)
    for number in range(5):
        with gateway.client() as client:
            assert exchange(client, f"{path}/{number}").status == 200
    # Nor does the next request on the connection, which is not mirrored and never becomes whole.
    for number in range(5):
        client = ask(gateway, f"{path}/kept-{number}")
        assert client.recv(1000)
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc".encode())
        time.sleep(0.02)
        leave(client)
    for peer in shadows:
        peer.wait_seen(path, 10)
    assert gateway.metrics().results() == {}
    gate.set()
    assert settled(gateway, sent=20).results() == {"ok": 20}


def test_a_primary_that_breaks_is_no_client_that_left(mirrored, origin, shadows, gate, path):
    def breaks(connection, request):
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
        connection.sock.shutdown(socket.SHUT_RDWR)
    origin.on(path, breaks)
    for peer in shadows:
        peer.on(path, in_two_parts(gate))
    gateway = mirrored(True, True)
    with ask(gateway, path) as client, pytest.raises(ConnectionResetError):
        while client.recv(100):
            pass
    for peer in shadows:
        peer.wait_seen(path)
    assert gateway.metrics().results() == {}
    gate.set()
    assert settled(gateway, sent=2).results() == {"ok": 2}


def test_a_client_that_is_half_closed_still_reads(mirrored, origin, gate, path):
    origin.on(path, in_two_parts(gate))
    gateway = mirrored(True, True)
    with ask(gateway, path) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1000)
        gate.set()
        got = b""
        while piece := client.recv(1000):
            got += piece
    assert got.endswith(b"x" * 98)
    assert settled(gateway, sent=2).results() == {"ok": 2}
