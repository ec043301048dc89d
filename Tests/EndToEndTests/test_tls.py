"""TLS at the front: who the gateway is to its clients, and whom it lets in."""

import json
import os
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from harness.gateway import BINARY, exchange, listen_ports, request_bytes, settings
from harness.message import Incomplete
from harness.peer import answer
from harness.ports import free_port
from harness.tls import (V12, V13, certificates, client_context, file, listener, pair, s_client,
                         secure)
from harness.waiting import wait_for

MIB = 1 << 20
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])


@pytest.fixture(scope="module")
def gateway_settings():
    port = free_port()
    return {
        "listen": [
            listener(port, certificates=[
                {**pair("site"), "ocsp": file("site.ocsp")}, pair("site-rsa"), pair("wild"),
                pair("other")],
                hsts="8760h", client_certificates={"ca": file("clients.pem"), "mode": "optional"}),
            {"address": f"127.0.0.1:{free_port()}", "redirect_to_https": port},
            f"127.0.0.1:{free_port()}",
        ],
        "runtime": {"workers": 2},
        "limits": {"head_timeout": "1s"},
    }


def common_name(stream):
    return dict(pair[0] for pair in stream.sock.getpeercert()["subject"])["commonName"]


@VERSIONS
def test_a_request_is_served(gateway, origin, path, version):
    with secure(gateway.port, client_context(version)) as client:
        assert client.sock.version() == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
        for _ in range(3):
            assert exchange(client, path).status == 200
    seen = origin.seen(path)
    assert [r.get("x-forwarded-proto") for r in seen] == ["https"] * 3


def test_curl_trusts_it(gateway, path):
    run = subprocess.run(
        ["curl", "-sS", "--cacert", file("ca.pem"), "-w", "%{http_code} %{http_version}",
         f"https://localhost:{gateway.port}{path}"], capture_output=True, timeout=15)
    assert run.stdout.decode() == "ok200 1.1", run.stderr


@pytest.mark.parametrize("flag", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(gateway, flag):
    text = s_client(gateway.port, flag, "-cipher", "ALL:@SECLEVEL=0")
    assert "protocol version" in text, text
    assert "Cipher is (NONE)" in text, text


@pytest.mark.parametrize("name, expected", [
    ("site.test", "site.test"), ("SITE.test", "site.test"), ("a.wild.test", "wild"),
    ("other.test", "other.test"), ("unknown.test", "site.test"), ("a.b.wild.test", "site.test"),
    ("wild.test", "site.test"), (None, "site.test")])
@VERSIONS
def test_the_name_chooses_the_certificate(gateway, version, name, expected):
    context = client_context(version)
    context.check_hostname = False
    with secure(gateway.port, context, name=name) as client:
        assert common_name(client) == expected


@pytest.mark.parametrize("kind, key", [("ECDSA", "id-ecPublicKey"), ("RSA", "rsaEncryption")])
def test_ecdsa_and_rsa_stand_side_by_side(gateway, kind, key):
    context = client_context(V12, ciphers=f"ECDHE-{kind}-AES128-GCM-SHA256")
    with secure(gateway.port, context) as client:
        assert client.sock.cipher()[0] == f"ECDHE-{kind}-AES128-GCM-SHA256"
        der = client.sock.getpeercert(binary_form=True)
    text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-text"], input=der,
                          capture_output=True, check=True).stdout.decode()
    assert key in text


@pytest.mark.parametrize("offer, chosen", [
    (["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (None, None)])
def test_alpn(gateway, offer, chosen):
    with secure(gateway.port, client_context(alpn=offer)) as client:
        assert client.sock.selected_alpn_protocol() == chosen


def test_who_speaks_no_http1_is_told_so(gateway):
    with pytest.raises(ssl.SSLError, match="no application protocol|NO_APPLICATION_PROTOCOL"):
        secure(gateway.port, client_context(alpn=["h2"]))


@VERSIONS
def test_any_worker_takes_a_session_up(gateway, path, version):
    """Forty connections fall to both of two workers: each of them opens the first one's ticket."""
    context = client_context(version)
    before = gateway.metrics().by("umbra_connections_accepted_total", "worker")
    with secure(gateway.port, context) as client:
        assert not client.sock.session_reused
        assert exchange(client, path).status == 200
        session = client.sock.session
    for _ in range(40):
        with secure(gateway.port, context, session=session) as client:
            assert client.sock.session_reused
            assert exchange(client, path).status == 200
    after = gateway.metrics().by("umbra_connections_accepted_total", "worker")
    assert len(after) == 2
    assert all(after[worker] > before[worker] for worker in after), (before, after)


def test_an_ocsp_answer_is_stapled(gateway):
    text = s_client(gateway.port, "-status", "-servername", "site.test")
    assert "OCSP Response Status: successful" in text
    assert "Cert Status: good" in text
    assert "no response sent" in s_client(gateway.port, "-status", "-servername", "other.test")


# MARK: Clients' certificates

def test_the_subject_is_passed_on(gateway, origin, path):
    with secure(gateway.port, client_context(certificate="client")) as client:
        fields = [("X-Client-Subject", "CN=root"), ("X_Client_Subject", "CN=root")]
        assert exchange(client, path, fields=fields).status == 200
    request = origin.seen(path)[0]
    values = [v for n, v in request.fields if n.lower().replace(b"_", b"-") == b"x-client-subject"]
    assert values == [rb"CN=alice\, the first,O=Umbra"]


@pytest.mark.parametrize("place", [0, 2], ids=["TLS", "plain"])
def test_nobody_names_himself(gateway, origin, path, place):
    port = listen_ports(gateway.config)[place]
    fields = [("X-Client-Subject", "CN=root"), ("x_client-subject", "CN=root"), ("X-Other", "1")]
    with secure(port) if place == 0 else socket_stream(port) as client:
        assert exchange(client, path, fields=fields).status == 200
    names = [n.lower() for n, _ in origin.seen(path)[0].fields]
    assert b"x-other" in names
    assert not [n for n in names if b"subject" in n]


def socket_stream(port):
    from harness.stream import connect
    return connect(port)


@VERSIONS
def test_a_strangers_certificate_is_refused(gateway, path, version):
    with pytest.raises((ssl.SSLError, OSError, Incomplete)):
        with secure(gateway.port, client_context(version, certificate="stranger")) as client:
            exchange(client, path)


@VERSIONS
def test_where_a_certificate_is_required(run_gateway, origin, path, version):
    strict = run_gateway(settings(origin, listen=[listener(
        **pair("site"), client_certificates={"ca": file("clients.pem")})]))
    with pytest.raises((ssl.SSLError, OSError, Incomplete)):
        with secure(strict.port, client_context(version)) as client:
            exchange(client, path)
    context = client_context(version, certificate="client")
    with secure(strict.port, context) as client:
        assert exchange(client, path).status == 200
        session = client.sock.session
    # A ticket says who its holder is: it does as well as the certificate.
    with secure(strict.port, context, session=session) as client:
        assert client.sock.session_reused
        assert exchange(client, path).status == 200
    assert [r.get("x-client-subject") for r in origin.seen(path)] == [
        r"CN=alice\, the first,O=Umbra"] * 2


def test_the_chain_is_what_the_file_holds(run_gateway, origin):
    """And not what else can be found among the authorities of clients."""
    gateway = run_gateway(settings(origin, listen=[listener(
        **pair("site"), client_certificates={"ca": file("ca.pem"), "mode": "optional"})]))
    sent = s_client(gateway.port, "-showcerts").count("-----BEGIN CERTIFICATE-----")
    assert sent == (certificates() / "site.pem").read_text().count("-----BEGIN CERTIFICATE-----")


# MARK: Settings

def test_min_version_and_ciphers(run_gateway, origin, path):
    narrow = run_gateway(settings(origin, listen=[
        listener(**pair("site"), min_version="1.3", ciphersuites="TLS_AES_256_GCM_SHA384"),
        listener(**pair("site"), ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")]))
    first, second = listen_ports(narrow.config)
    with pytest.raises(ssl.SSLError):
        secure(first, client_context(V12))
    with secure(first, client_context()) as client:
        assert client.sock.cipher()[0] == "TLS_AES_256_GCM_SHA384"
    with secure(second, client_context(V12)) as client:
        assert client.sock.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize("own, expected", [
    ([], ["max-age=31536000"]), ([("strict-transport-Security", "max-age=1")], ["max-age=1"])])
def test_hsts(gateway, origin, path, own, expected):
    origin.on(path, raw=answer(fields=own))
    with secure(gateway.port) as client:
        got = exchange(client, path)
        refused = exchange(client, path, method="CONNECT")
    def policies(message):
        return [v.decode() for n, v in message.fields if n.lower() == b"strict-transport-security"]
    assert policies(got) == expected
    assert refused.status >= 400
    assert policies(refused) == ["max-age=31536000"]


def test_no_hsts_on_a_plain_listener(gateway, path):
    with socket_stream(listen_ports(gateway.config)[2]) as client:
        assert exchange(client, path).get("strict-transport-security") is None


@pytest.mark.parametrize("method, status", [("GET", 301), ("HEAD", 301), ("POST", 308),
                                            ("DELETE", 308)])
def test_redirects(gateway, origin, path, method, status):
    plain = listen_ports(gateway.config)[1]
    with socket_stream(plain) as client:
        body = b"x" * 10 if method == "POST" else b""
        got = exchange(client, f"{path}?q=1", method, body=body, host="site.test:81")
        assert got.status == status
        assert got.get("location") == f"https://site.test:{gateway.port}{path}?q=1"
    assert not origin.seen(path)


def test_a_redirect_keeps_the_connection_and_an_ipv6_address(gateway, path):
    with socket_stream(listen_ports(gateway.config)[1]) as client:
        for _ in range(2):
            assert exchange(client, path, host="[::1]:80").get("location") == (
                f"https://[::1]:{gateway.port}{path}")


# MARK: Faults

def test_plain_http_is_told_so(gateway):
    with socket_stream(gateway.port) as client:
        got = exchange(client, "/")
        assert got.status == 400
        assert json.loads(got.body)["error"]["code"] == "plain_http_on_tls"
        client.wait_end()


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_a_stalled_handshake_is_cut(gateway, start):
    before = gateway.metrics().sum(
        "umbra_tls_handshakes_total", side="client", result="timeout")
    with socket_stream(gateway.port) as client:
        client.send(start)
        client.wait_end()
    wait_for(lambda: gateway.metrics().sum(
        "umbra_tls_handshakes_total", side="client", result="timeout") > before, "the count")


@pytest.mark.parametrize("junk", [b"\x00" * 64, b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01"
                                  + b"\x00" * 64, b"\x16\x03\x03\xff\xff" + b"\x01" * 70000])
def test_junk_ends_its_connection_alone(gateway, path, junk):
    with socket_stream(gateway.port) as client:
        client.send(junk)
        client.wait_end()
    with secure(gateway.port) as client:
        assert exchange(client, path).status == 200


def test_renegotiation_is_refused(gateway):
    text = s_client(gateway.port, "-tls1_2", send=b"R\n")
    assert "RENEGOTIATING" in text
    assert "no renegotiation" in text, text


def test_a_handshake_that_ends_in_the_middle(gateway, path):
    before = gateway.metrics().sum("umbra_tls_handshakes_total", side="client", result="failed")
    for _ in range(50):
        with socket_stream(gateway.port) as client:
            client.send(hello()[0][:100])
    wait_for(lambda: gateway.metrics().sum(
        "umbra_tls_handshakes_total", side="client", result="failed") >= before + 50,
        "all fifty counted")
    with secure(gateway.port) as client:
        assert exchange(client, path).status == 200


def hello():
    """A client's first flight, and what is needed to go on with it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = client_context().wrap_bio(incoming, outgoing, server_hostname="site.test")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read(), session, incoming, outgoing


def test_slow_handshakes_by_the_hundred(run_gateway, origin, path):
    """Three hundred that are half through their first flight: a client among them is served at
    once, and each of them in the end."""
    gateway = run_gateway(settings(origin, listen=[listener()], limits={"head_timeout": "60s"}))
    slow = []
    for _ in range(300):
        first, *rest = hello()
        stream = socket_stream(gateway.port)
        stream.send(first[:150])
        slow.append((stream, first[150:], *rest))
    with secure(gateway.port) as client:
        assert exchange(client, path).status == 200
    for stream, left, session, incoming, outgoing in slow:
        stream.send(left)
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                stream.send(outgoing.read())
                assert stream.fill()
                incoming.write(stream.take(len(stream.buffer)))
        stream.send(outgoing.read())
        stream.close()
    wait_for(lambda: gateway.metrics().sum(
        "umbra_tls_handshakes_total", side="client", result="ok") == 301, "all served")


# MARK: Ends

@VERSIONS
def test_a_clean_end_says_so(gateway, path, version):
    with secure(gateway.port, client_context(version)) as client:
        assert exchange(client, path, fields=[("Connection", "close")]).status == 200
        client.wait_end()
        assert client.ended_cleanly


@VERSIONS
@pytest.mark.parametrize("head", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"])
def test_a_cut_answer_does_not_look_whole(gateway, origin, path, version, head):
    def cut(connection, request):
        connection.send(head)
        return "close"

    origin.on(path, cut)
    with secure(gateway.port, client_context(version)) as client:
        with pytest.raises(Incomplete):
            exchange(client, path)
        assert client.ended and not client.ended_cleanly


@VERSIONS
def test_a_mebibyte_both_ways_past_a_slow_reader(gateway, origin, path, version):
    body = os.urandom(MIB)

    def mirror(connection, request):
        connection.send(answer(body=request.body))

    origin.on(path, mirror)
    with secure(gateway.port, client_context(version), receive_buffer=8192, timeout=30) as client:
        sent = request_bytes(path, "POST", body=body)
        client.send_and_read(sent, count=20_000)
        # Slow at first: what comes has to wait at the gateway and at the origin.
        for _ in range(20):
            client.fill()
            time.sleep(0.02)
        assert client.read_final("POST").body == body
        # The connection goes on behind it.
        assert exchange(client, path, "POST", body=b"again").body == b"again"


@VERSIONS
def test_pipelined_requests_in_one_record(gateway, path, version):
    with secure(gateway.port, client_context(version)) as client:
        client.send(b"".join(request_bytes(f"{path}/{i}") for i in range(20)))
        assert [client.read_final().status for _ in range(20)] == [200] * 20


@VERSIONS
def test_a_head_byte_by_byte(gateway, path, version):
    with secure(gateway.port, client_context(version)) as client:
        for byte in request_bytes(path):
            client.send(bytes([byte]))
        assert client.read_final().status == 200


@VERSIONS
def test_a_tunnel(gateway, origin, path, version):
    def echo(connection, request):
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                        b"Upgrade: websocket\r\n\r\n")
        while connection.buffer or connection.fill():
            connection.send(connection.take(len(connection.buffer)))
        return "close"

    origin.on(path, echo)
    with secure(gateway.port, client_context(version)) as client:
        got = exchange(client, path, fields=[("Connection", "Upgrade"), ("Upgrade", "websocket")])
        assert got.status == 101
        data = os.urandom(300_000)
        client.send_and_read(data, count=len(data))
        assert client.take(len(data)) == data


# MARK: Key material

def memory_holds(pid, needles):
    """Which of these bytes a process's writable memory holds."""
    found = set()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not match:
                continue
            start, end = (int(part, 16) for part in match.groups())
            for at in range(start, end, 64 * MIB):
                try:
                    memory.seek(at)
                    data = memory.read(min(64 * MIB, end - at))
                except OSError:
                    continue
                found |= {needle for needle in needles if needle in data}
    return found


def test_keys_are_with_workers_alone(run_gateway, origin, shadow, path):
    config = settings(origin, shadow, listen=[listener()])
    config["providers"]["targets"][0]["health"] = {"path": "/"}
    gateway = run_gateway(config)
    with secure(gateway.port) as client:
        assert exchange(client, path).status == 200
    text = Path(file("site.key")).read_text()
    scalar = bytes.fromhex("".join(re.search(
        r"priv:\n((?:\s+[0-9a-f:]+\n)+)", subprocess.run(
            ["openssl", "ec", "-in", file("site.key"), "-noout", "-text"], capture_output=True,
            check=True).stdout.decode())[1].split()).replace(":", ""))
    scalar = scalar.lstrip(b"\0")
    needles = {text.splitlines()[1].encode(), scalar, scalar[::-1]}
    # The worker has to have it: what the search does not find there proves nothing elsewhere.
    assert memory_holds(gateway.pid("worker"), needles)
    for role in ["shadow", "admin", "health"]:
        pid = gateway.pid(role)
        assert not memory_holds(pid, needles), role
        links = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        assert not [link for link in links if "umbra-keys" in link or "umbra-tickets" in link], role


def test_a_worker_started_later_uses_what_was_checked(run_gateway, origin, path, tmp_path):
    for name in ["site.pem", "site.key"]:
        (tmp_path / name).write_bytes(Path(file(name)).read_bytes())
    gateway = run_gateway(settings(origin, listen=[listener(
        certificate=str(tmp_path / "site.pem"), key=str(tmp_path / "site.key"))]))
    context = client_context()
    with secure(gateway.port, context) as client:
        assert exchange(client, path).status == 200
        session = client.sock.session
    (tmp_path / "site.pem").write_text("broken")
    (tmp_path / "site.key").unlink()
    old = gateway.pid("worker")
    os.kill(old, 9)
    wait_for(lambda: gateway.pid("worker") not in (0, None, old), "another worker")
    # The supervisor holds the socket: the connection waits for the next worker. Its ticket keys
    # outlive the worker too.
    with secure(gateway.port, context, session=session) as client:
        assert common_name(client) == "site.test"
        assert client.sock.session_reused
        assert exchange(client, path).status == 200


FAULTS = [
    ({"certificate": "site.pem", "key": "missing.key"}, "E014", "cannot open"),
    ({"certificate": "site.pem", "key": "other.key"}, "E016", "is not the key"),
    ({"certificate": "site.pem", "key": "locked.key"}, "E016", "passphrase"),
    ({"certificate": "site.key", "key": "site.key"}, "E016", "holds no certificate"),
    ({"certificate": "site.pem", "key": "site.pem"}, "E016", "holds no private key"),
    ({"certificate": "site.pem", "key": "site.key", "ocsp": "site.pem"}, "E016", "OCSP"),
    ({"certificate": "site.pem", "key": "site.key", "ciphers": "NONSENSE"}, "E016", "cipher"),
    ({"certificate": "expired.pem", "key": "expired.key"}, "W012", "has ended"),
]


@pytest.mark.parametrize("tls, code, words", FAULTS, ids=[f[2] for f in FAULTS])
def test_lint_finds(origin, tmp_path, tls, code, words):
    text = lint(origin, tmp_path, tls)
    assert code in text and words in text, text


def lint(origin, folder, tls):
    for source in certificates().iterdir():
        target = folder / source.name
        target.write_bytes(source.read_bytes())
        target.chmod(0o600)
    (folder / "config.yaml").write_text(json.dumps(settings(origin, listen=[
        {"address": "127.0.0.1:41443", "tls": tls}])))
    run = subprocess.run([BINARY, "policy", "lint", "--file", str(folder / "config.yaml")],
                         capture_output=True, timeout=15)
    return run.stdout.decode() + run.stderr.decode()


def test_a_key_that_everyone_can_read_is_a_warning(origin, tmp_path):
    tls = {"certificate": "site.pem", "key": "site.key"}
    assert "W010" not in lint(origin, tmp_path, tls)
    (tmp_path / "site.key").chmod(0o644)
    run = subprocess.run([BINARY, "policy", "lint", "--file", str(tmp_path / "config.yaml")],
                         capture_output=True, timeout=15)
    assert "W010" in run.stdout.decode() + run.stderr.decode()
    assert run.returncode == 0
