"""Clients whose TLS breaks: each costs its own connection, and no other's."""

import ssl

import pytest

from harness.gateway import exchange, request_bytes, settings
from harness.stream import connect
from harness.tls import V12, V13, client_context, listener, s_client, secure
from harness.waiting import wait_for

VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
STALLED = 300


@pytest.fixture(scope="module")
def gateway_settings():
    return {"listen": [listener()], "limits": {"head_timeout": "1s", "body_timeout": "1s"}}


def handshakes(gateway, result):
    return gateway.metrics().sum("umbra_tls_handshakes_total", side="client", result=result)


class Raw:
    """A client whose records go through our hands."""

    def __init__(self, port, version=None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = client_context(version).wrap_bio(
            self.incoming, self.outgoing, server_hostname="site.test")
        self.stream = connect(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def handshake(self, send=None):
        """`send` gets each flight's bytes."""
        send = send or self.stream.send
        while True:
            try:
                self.session.do_handshake()
                break
            except ssl.SSLWantReadError:
                send(self.outgoing.read())
                assert self.stream.fill(), "ended in the handshake"
                self.incoming.write(self.stream.take(len(self.stream.buffer)))
        send(self.outgoing.read())

    def record(self, data):
        """The record that carries `data`."""
        self.session.write(data)
        return self.outgoing.read()

    def read(self, count):
        """`count` bytes of content, or fewer and an error where the session ends before."""
        got = b""
        while len(got) < count:
            try:
                got += self.session.read(count - len(got))
            except ssl.SSLWantReadError:
                assert self.stream.fill(), f"ended after {got!r}"
                self.incoming.write(self.stream.take(len(self.stream.buffer)))
        return got


def spoiled(record):
    return record[:-1] + bytes([record[-1] ^ 1])


def plain_bytes(_):
    return b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def too_long(record):
    return record[:3] + b"\x48\x00" + b"\x00" * 0x4800


def unknown_type(record):
    return b"\x63" + record[1:]


def an_alert(record):
    return b"\x15" + record[1:3] + b"\x00\x02\x02\x28"


FAULTS = [spoiled, plain_bytes, too_long, unknown_type, an_alert]


@VERSIONS
@pytest.mark.parametrize("fault", FAULTS, ids=[f.__name__ for f in FAULTS])
def test_a_bad_record_ends_its_connection(gateway, origin, path, version, fault):
    """In place of a request's second half: nothing of it is served."""
    request = request_bytes(path, "POST", body=b"x" * 64)
    with Raw(gateway.port, version) as client, secure(gateway.port) as other:
        client.handshake()
        client.stream.send(client.record(request[:-32]))
        origin_heads = lambda: [h for h in origin.heads if h.path == path]  # noqa: E731
        wait_for(origin_heads, "the first half at the origin")
        client.stream.send(fault(client.record(request[-32:])))
        client.stream.wait_end()
        assert exchange(other, path + "/other").status == 200
    assert not [r for r in origin.seen(path) if r.path == path]


@VERSIONS
def test_a_truncated_record_is_no_request(gateway, origin, path, version):
    """The connection ends within the record that has the request's last bytes."""
    with Raw(gateway.port, version) as client:
        client.handshake()
        client.stream.send(client.record(request_bytes(path))[:-8])
        client.stream.half_close()
        client.stream.wait_end()
    with secure(gateway.port) as other:
        assert exchange(other, path + "/other").status == 200
    assert not [h for h in origin.heads if h.path == path]


@VERSIONS
def test_a_record_that_stalls_is_cut(gateway, origin, path, version):
    with Raw(gateway.port, version) as client:
        client.handshake()
        client.stream.send(client.record(request_bytes(path))[:-8])
        client.stream.wait_end()
    assert not [h for h in origin.heads if h.path == path]


@VERSIONS
def test_records_byte_by_byte(gateway, path, version):
    """Nothing is wrong with them."""
    def each_byte(data):
        for place in range(len(data)):
            client.stream.send(data[place:place + 1])

    with Raw(gateway.port, version) as client:
        client.handshake(send=each_byte)
        each_byte(client.record(request_bytes(path)))
        assert client.read(15) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("cipher", [
    "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "DHE-RSA-AES128-GCM-SHA256",
    "AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"])
def test_no_shared_cipher(gateway, path, cipher):
    """CBC, finite-field DH, no forward secrecy, and a good one for a key that this site has not."""
    before = handshakes(gateway, "failed")
    text = s_client(gateway.port, "-tls1_2", "-cipher", cipher)
    assert "handshake failure" in text, text
    wait_for(lambda: handshakes(gateway, "failed") == before + 1, "the count")
    with secure(gateway.port) as other:
        assert exchange(other, path).status == 200


def test_no_shared_group(gateway):
    text = s_client(gateway.port, "-groups", "ffdhe2048")
    assert "handshake failure" in text, text


def test_no_early_data(gateway):
    """A request that can be replayed by whoever recorded it is never taken (RFC 8446 §8)."""
    text = s_client(gateway.port, "-tls1_3", send=request_bytes("/", fields=[("Connection", "close")]))
    assert "Max Early Data: 0" in text, text


def test_stalled_handshakes_by_the_hundred(run_gateway, origin, path):
    """Hundreds stall in the middle of their first flight: a client among them is served at once, and
    each of them is cut."""
    gateway = run_gateway(settings(origin, listen=[listener()], limits={"head_timeout": "3s"}))
    stalled = []
    for _ in range(STALLED):
        client = Raw(gateway.port)
        with pytest.raises(ssl.SSLWantReadError):
            client.session.do_handshake()
        client.stream.send(client.outgoing.read()[:120])
        stalled.append(client)
    with secure(gateway.port) as other:
        assert exchange(other, path).status == 200
    assert handshakes(gateway, "timeout") == 0
    for client in stalled:
        client.stream.wait_end()
    wait_for(lambda: handshakes(gateway, "timeout") == STALLED, "all counted")
    wait_for(lambda: gateway.metrics().sum("umbra_connections_open") == 0, "all closed")
