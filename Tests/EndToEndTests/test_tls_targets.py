"""TLS at the back: targets and shadows have to prove who they are."""

import json
import os
import subprocess
import time

import pytest

from harness import nginx
from harness.gateway import BINARY, die_with_the_tests, exchange, settings
from harness.message import Incomplete
from harness.metrics import settled
from harness.peer import Peer, answer
from harness.ports import free_port
from harness.tls import V12, V13, TLSPeer, file, listener, pair, secure
from harness.waiting import wait_for

MIB = 1 << 20
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
CA = {"ca": file("ca.pem")}


@pytest.fixture
def make_peer():
    """Peers that end with the test."""
    made = []

    def make(*arguments, kind=TLSPeer, **options):
        made.append(kind(*arguments, **options))
        return made[-1]

    yield make
    for peer in made:
        peer.stop()
        assert not peer.faults, peer.faults[0]


def target(port, id="app", host="127.0.0.1", **tls):
    return {"id": id, "base_url": f"https://{host}:{port}", **({"tls": tls} if tls else {})}


def config(*targets, **over):
    result = settings(Port(0), **over)
    result["providers"]["targets"] = list(targets)
    return result


class Port:
    def __init__(self, port):
        self.port = port


def count(gateway, name, **labels):
    return gateway.metrics().sum(f"umbra_tls_{name}", **labels)


@VERSIONS
def test_a_target_that_proves_itself(run_gateway, make_peer, path, version):
    peer = make_peer(version=version)
    gateway = run_gateway(config(target(peer.port, **CA, server_name="site.test")))
    with gateway.client() as client:
        for _ in range(20):
            assert exchange(client, path).status == 200
    # One handshake for all, and the name that was asked for.
    assert len(peer.seen(path)) == 20
    assert (len(peer.connections), peer.names) == (1, ["site.test"])
    assert count(gateway, "handshakes_total", side="upstream", result="ok") == 1
    assert count(gateway, "versions_total", side="upstream",
                 version="1.3" if version == V13 else "1.2") == 1


def test_an_address_is_proven_too(run_gateway, make_peer, path):
    peer = make_peer()
    gateway = run_gateway(config(target(peer.port, **CA)))
    assert gateway.ask(path).status == 200
    assert peer.names == [None]


@pytest.mark.parametrize("certificate, tls, words", [
    ("site", {}, "unable to get local issuer certificate"),
    ("site", {"ca": file("clients.pem")}, "unable to get local issuer certificate"),
    ("site", {**CA, "server_name": "else.test"}, "hostname mismatch"),
    ("other", CA, "IP address mismatch"),
    ("wild", {**CA, "server_name": "a.b.wild.test"}, "hostname mismatch"),
    ("expired", CA, "certificate has expired"),
    ("alone", CA, "self-signed certificate"),
    ("client", {"ca": file("clients.pem"), "server_name": "alice"}, "certificate"),
])
def test_one_that_does_not(run_gateway, make_peer, path, certificate, tls, words):
    peer = make_peer(certificate=certificate)
    gateway = run_gateway(config(target(peer.port, **tls)))
    for _ in range(5):
        got = gateway.ask(path, "POST", body=b"secret")
        assert got.status == 502
        assert json.loads(got.body)["error"]["code"] == "upstream_tls_failed"
    assert not peer.heads
    assert count(gateway, "handshakes_total", side="upstream", result="failed") >= 5
    lines = [line for line in gateway.log if "TLS to target app failed" in line]
    # One line for all of them: a target with a bad certificate fails each request.
    assert len(lines) == 1 and words in lines[0], gateway.text


def test_one_that_speaks_no_tls(run_gateway, make_peer, path):
    def plain(connection):
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    peer = make_peer(kind=Peer)
    peer.accept = plain
    gateway = run_gateway(config(target(peer.port, **CA)))
    got = gateway.ask(path)
    assert (got.status, json.loads(got.body)["error"]["code"]) == (502, "upstream_tls_failed")


def test_one_that_stalls(run_gateway, make_peer, path):
    peer = make_peer(kind=Peer)
    peer.accept = lambda connection: connection.read_to_end()
    gateway = run_gateway(config(target(peer.port, **CA), limits={"connect_timeout": "500ms"}))
    assert gateway.ask(path).status == 504
    assert count(gateway, "handshakes_total", side="upstream", result="timeout") == 1


def test_nobody_is_trusted_unseen(run_gateway, make_peer, path):
    peer = make_peer(certificate="alone")
    gateway = run_gateway(config(target(peer.port, insecure_skip_verify=True)))
    assert gateway.ask(path).status == 200
    assert any("WARN" in line and "NOT CHECKED" in line for line in gateway.log), gateway.text
    assert count(gateway, "unverified_targets") == 1
    run = subprocess.run([BINARY, "policy", "lint", "--file", str(gateway.file)],
                         capture_output=True, timeout=15)
    assert b"W011" in run.stdout + run.stderr and run.returncode == 0


@VERSIONS
def test_our_own_certificate(run_gateway, make_peer, path, version):
    peer = make_peer(client_ca="clients", version=version)
    without = run_gateway(config(target(peer.port, **CA)))
    assert without.ask(path).status == 502
    gateway = run_gateway(config(target(peer.port, **CA, **pair("client"))))
    assert gateway.ask(path).status == 200
    subject = dict(part[0] for part in peer.subjects[-1]["subject"])
    assert subject["commonName"] == "alice, the first"
    assert len(peer.seen(path)) == 1


@VERSIONS
def test_sessions_are_taken_up(run_gateway, make_peer, path, version):
    peer = make_peer(version=version)
    peer.on(path, raw=answer(fields=[("Connection", "close")]))
    gateway = run_gateway(config(target(peer.port, **CA)))
    for _ in range(6):
        assert gateway.ask(path).status == 200
    assert peer.sessions == [False] + [True] * 5
    assert count(gateway, "resumed_total", side="upstream") == 5


def test_a_late_ticket_is_no_answer(run_gateway, make_peer, path):
    """TLS 1.3 sends tickets whenever it likes; an idle connection lives on past them."""
    peer = make_peer(version=V13)
    gateway = run_gateway(config(target(peer.port, **CA)))
    for _ in range(5):
        assert gateway.ask(path).status == 200
        time.sleep(0.1)
    assert len(peer.connections) == 1


@VERSIONS
@pytest.mark.parametrize("clean", [True, False])
def test_only_close_notify_ends_an_answer(run_gateway, make_peer, path, version, clean):
    peer = make_peer(version=version)
    peer.says_goodbye = clean

    def until_close(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nto the end")
        return "close"

    peer.on(path, until_close)
    gateway = run_gateway(config(target(peer.port, **CA)))
    if clean:
        assert gateway.ask(path).body == b"to the end"
    else:
        with pytest.raises(Incomplete):
            gateway.ask(path)


@VERSIONS
def test_a_mebibyte_both_ways_with_tls_on_both_sides(run_gateway, make_peer, path, version):
    peer = make_peer(version=version)
    peer.on(path, lambda connection, request: connection.send(answer(body=request.body)))
    gateway = run_gateway(config(target(peer.port, **CA), listen=[listener()]))
    body = os.urandom(MIB)
    with secure(gateway.port, timeout=30) as client:
        for _ in range(3):
            assert exchange(client, path, "POST", body=body).body == body
    assert len(peer.connections) == 1


def test_a_tunnel(run_gateway, make_peer, path):
    def echo(connection, request):
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                        b"Upgrade: websocket\r\n\r\n")
        while connection.buffer or connection.fill():
            connection.send(connection.take(len(connection.buffer)))
        return "close"

    peer = make_peer()
    peer.on(path, echo)
    gateway = run_gateway(config(target(peer.port, **CA), listen=[listener()]))
    with secure(gateway.port) as client:
        fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        assert exchange(client, path, fields=fields).status == 101
        data = os.urandom(100_000)
        client.send_and_read(data, count=len(data))
        assert client.take(len(data)) == data


# MARK: Several endpoints

def test_each_endpoint_has_its_own_name(run_gateway, make_peer, path):
    first, second = make_peer(), make_peer("second", certificate="site-rsa")
    gateway = run_gateway(config({
        "id": "app", "tls": CA, "endpoints": [
            {"url": f"https://127.0.0.1:{first.port}"},
            {"url": f"https://localhost:{second.port}"}]}))
    for _ in range(10):
        assert gateway.ask(path).status == 200
    assert (set(first.names), set(second.names)) == ({None}, {"localhost"})
    # A session with one proves nothing of the other.
    assert first.sessions[0] is False and second.sessions[0] is False
    assert (len(first.seen(path)), len(second.seen(path))) == (5, 5)


def test_an_endpoint_that_lies_costs_no_request(run_gateway, make_peer, path):
    good, bad = make_peer(), make_peer("bad", certificate="alone")
    gateway = run_gateway(config({
        "id": "app", "tls": CA, "endpoints": [
            {"url": f"https://127.0.0.1:{bad.port}"}, {"url": f"https://127.0.0.1:{good.port}"}]}))
    for _ in range(10):
        assert gateway.ask(path, "POST", body=b"secret").status == 200
    assert not bad.heads
    assert len(good.seen(path)) == 10


def test_endpoints_are_alike(tmp_path):
    broken = config({"id": "app", "endpoints": [
        {"url": "https://127.0.0.1:9443"}, {"url": "http://127.0.0.1:9001"}]})
    (tmp_path / "config.yaml").write_text(json.dumps(broken))
    run = subprocess.run([BINARY, "policy", "lint", "--file", str(tmp_path / "config.yaml")],
                         capture_output=True, timeout=15)
    assert run.returncode != 0
    assert b"the endpoints of one target are alike" in run.stdout + run.stderr


# MARK: Shadows

def mirrored(origin, *targets):
    base = settings(origin, Port(0))
    base["providers"]["targets"][1:] = list(targets)
    return base


@VERSIONS
def test_a_shadow_that_proves_itself(run_gateway, origin, make_peer, path, version):
    shadow = make_peer("shadow", version=version)
    gateway = run_gateway(mirrored(origin, target(shadow.port, "next", **CA)))
    for _ in range(20):
        assert gateway.ask(path).status == 200
    settled(gateway, sent=20)
    assert len(shadow.wait_seen(path, 20)) == 20
    assert count(gateway, "handshakes_total", side="shadow", result="ok") >= 1


@VERSIONS
def test_its_sessions_are_taken_up(run_gateway, origin, make_peer, path, version):
    shadow = make_peer("shadow", version=version)
    shadow.on(path, raw=answer(fields=[("Connection", "close")]))
    gateway = run_gateway(mirrored(origin, target(shadow.port, "next", **CA)))
    for sent in range(1, 5):
        assert gateway.ask(path).status == 200
        settled(gateway, sent=sent)
    assert shadow.sessions == [False] + [True] * 3


@pytest.mark.parametrize("certificate, tls", [
    ("site", {}), ("other", CA), ("expired", CA), ("alone", CA)])
def test_one_that_does_not_is_a_dropped_copy(run_gateway, origin, make_peer, path, certificate,
                                             tls):
    shadow = make_peer("shadow", certificate=certificate)
    gateway = run_gateway(mirrored(origin, target(shadow.port, "next", **tls)))
    for _ in range(3):
        assert gateway.ask(path).status == 200
        settled(gateway)
    metrics = settled(gateway, eligible=3)
    assert metrics.mirror()["sent"] == 0
    assert set(metrics.dropped()) <= {"tls_failed", "breaker_open"}
    assert metrics.dropped()["tls_failed"] >= 1
    assert not shadow.heads
    assert count(gateway, "handshakes_total", side="shadow", result="failed") >= 1


def test_its_certificate_goes_to_the_shadow_alone(run_gateway, make_peer, path):
    """With TLS on all three sides: the shadow gets our certificate, the primary is not asked."""
    primary, shadow = make_peer(), make_peer("shadow", client_ca="clients")
    base = config(target(primary.port, **CA), target(shadow.port, "next", **CA, **pair("client")),
                  listen=[listener()])
    base["traffic_mirror"] = {"enabled": True, "primary": "app", "shadow": "next",
                              "sample_rate": 1.0}
    gateway = run_gateway(base)
    with secure(gateway.port) as client:
        for _ in range(5):
            assert exchange(client, path).status == 200
    settled(gateway, sent=5)
    subject = dict(part[0] for part in shadow.subjects[-1]["subject"])
    assert subject["commonName"] == "alice, the first"


# MARK: Real peers

def test_nginx(run_gateway, tmp_path):
    server = nginx.Nginx(tmp_path, """
      server {{ listen 127.0.0.1:{port} ssl; root {root}/files;
        ssl_certificate %s; ssl_certificate_key %s; keepalive_requests 7; }}
    """ % (file("site.pem"), file("site.key")))
    try:
        body = os.urandom(MIB)
        (tmp_path / "files" / "large").write_bytes(body)
        gateway = run_gateway(config(target(server.port, **CA), listen=[listener()]))
        with secure(gateway.port, timeout=30) as client:
            for _ in range(20):
                assert exchange(client, "/large").body == body
        # Every seventh request is a connection's last; the next one takes the session up.
        assert count(gateway, "handshakes_total", side="upstream", result="ok") >= 2
        assert count(gateway, "resumed_total", side="upstream") >= 1
    finally:
        server.stop()


def test_openssl_s_server(run_gateway, tmp_path):
    port = free_port()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", str(port), "-cert", file("site.pem"), "-key",
         file("site.key"), "-www", "-quiet"], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_the_tests)
    try:
        gateway = run_gateway(config(target(port, **CA)))
        wait_for(lambda: gateway.ask("/").status == 200, "s_server to listen")
        assert b"Secure Renegotiation" in gateway.ask("/").body
    finally:
        server.kill()
        server.wait()
