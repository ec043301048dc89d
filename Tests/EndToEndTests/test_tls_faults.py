"""Clients whose TLS breaks: each costs its own connection, and no other's."""

import ctypes
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

    def read_rest(self):
        """The rest of an answer whose content is `ok`."""
        got = b""
        while not got.endswith(b"\r\n\r\nok"):
            got += self.read(1)


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
@pytest.mark.parametrize("fault", FAULTS, ids=[f.__name__ for f in FAULTS])
def test_a_bad_record_behind_a_head_ends_its_upload(gateway, origin, path, version, fault):
    """It comes together with the head and the first of the body, which fill a block: the read behind
    them, before anything was sent on, meets it."""
    block = 16 << 10
    request = request_bytes(path, "POST", body=b"x" * 4 * block)
    with Raw(gateway.port, version) as client, secure(gateway.port) as other:
        client.handshake()
        client.stream.send(
            client.record(request[:block]) + fault(client.record(request[block:2 * block])))
        client.stream.wait_end()
        assert exchange(other, path + "/other").status == 200
    assert not [r for r in origin.seen(path) if r.path == path]
    wait_for(lambda: gateway.metrics().sum("umbra_blocks_taken") <= 1, "the blocks to be given back")


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
    text = s_client(gateway.port, "-tls1_3", "-ign_eof",
                    send=request_bytes("/", fields=[("Connection", "close")]))
    assert "Max Early Data: 0" in text, text


class Endless:
    """A client that changes its keys over and over (RFC 8446 §4.6.3), many records in one `send`.
    Python's ssl cannot: this is OpenSSL itself."""

    def __init__(self, port):
        self.library = ctypes.CDLL("libssl.so.3")
        crypto = ctypes.CDLL("libcrypto.so.3")
        pointer = ctypes.c_void_p
        for owner, name in [(self.library, "TLS_client_method"), (self.library, "SSL_CTX_new"),
                            (self.library, "SSL_new"), (crypto, "BIO_s_mem"), (crypto, "BIO_new")]:
            getattr(owner, name).restype = pointer
        self.crypto = crypto
        self.context = pointer(self.library.SSL_CTX_new(pointer(self.library.TLS_client_method())))
        self.session = pointer(self.library.SSL_new(self.context))
        self.incoming, self.outgoing = (
            pointer(crypto.BIO_new(pointer(crypto.BIO_s_mem()))) for _ in range(2))
        self.library.SSL_set_bio(self.session, self.incoming, self.outgoing)
        self.stream = connect(port)
        while self.library.SSL_connect(self.session) != 1:
            self.stream.send(self.made())
            assert self.stream.fill(), "ended in the handshake"
            data = self.stream.take(len(self.stream.buffer))
            assert crypto.BIO_write(self.incoming, data, len(data)) == len(data)
        self.stream.send(self.made())

    def made(self):
        data = b""
        buffer = ctypes.create_string_buffer(1 << 16)
        while (count := self.crypto.BIO_read(self.outgoing, buffer, len(buffer))) > 0:
            data += buffer.raw[:count]
        return data

    def key_updates(self, count):
        for _ in range(count):
            assert self.library.SSL_key_update(self.session, 0) == 1
            assert self.library.SSL_do_handshake(self.session) == 1
        return self.made()

    def close(self):
        self.stream.close()
        self.library.SSL_free(self.session)
        self.library.SSL_CTX_free(self.context)


def test_key_updates_without_content_are_cut(run_gateway, origin, path):
    """A few between requests are a client's right. Thousands are a way to make the worker busy with
    one connection; no time limit would end it."""
    gateway = run_gateway(settings(origin, listen=[listener()], limits={"head_timeout": "60s"}))
    client = Endless(gateway.port)
    try:
        client.stream.send(client.key_updates(8))
        assert client.stream.is_open()
        client.stream.send(client.key_updates(8) + client.key_updates(20_000))
        client.stream.wait_end()
    finally:
        client.close()
    with secure(gateway.port) as other:
        assert exchange(other, path).status == 200


def test_stalled_handshakes_by_the_hundred(run_gateway, origin, path):
    """Hundreds stall in the middle of their first flight: a client among them is served at once, and
    each of them is cut."""
    gateway = run_gateway(settings(origin, listen=[listener()], limits={"head_timeout": "6s"}))
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
        client.stream.wait_end(timeout=30)
    wait_for(lambda: handshakes(gateway, "timeout") == STALLED, "all counted")
    wait_for(lambda: gateway.metrics().sum("umbra_connections_open") == 0, "all closed")


@VERSIONS
def test_many_small_records(gateway, origin, path, version):
    """A head and a body in records of a few bytes each, all at once: more than one read takes."""
    body = bytes(range(256)) * 16
    request = request_bytes(path, "POST", body=body, fields=[("X-Filler", "f" * 600)])
    with Raw(gateway.port, version) as client:
        client.handshake()
        for step in (1, 3, 7):
            client.stream.send(b"".join(
                client.record(request[at:at + step]) for at in range(0, len(request), step)))
            assert client.read(40).startswith(b"HTTP/1.1 200 OK")
            client.read_rest()
    assert [r.body == body for r in origin.seen(path)] == [True] * 3
