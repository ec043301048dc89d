"""TLS for the tests: certificates, clients whose end says whether it was clean, and a scripted peer."""

import functools
import select
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from .peer import Peer
from .ports import free_port
from .stream import Stream
from .waiting import PROMPT_S

MAKE = Path(__file__).resolve().parents[2] / "Certificates" / "make"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@functools.cache
def certificates():
    """A folder with an authority and what it has signed; made once in a run."""
    folder = tempfile.mkdtemp(prefix="umbra-certificates-")
    subprocess.run(["sh", str(MAKE), folder], check=True, capture_output=True, timeout=60)
    return Path(folder)


def file(name):
    return str(certificates() / name)


def pair(name):
    return {"certificate": file(f"{name}.pem"), "key": file(f"{name}.key")}


def listener(port=None, **tls):
    """An entry of `listen` that speaks TLS."""
    return {"address": f"127.0.0.1:{port or free_port()}", "tls": tls or pair("site")}


def client_context(version=None, ca="ca", certificate=None, alpn=None, ciphers=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file(f"{ca}.pem"))
    if version:
        context.minimum_version = context.maximum_version = version
    if certificate:
        context.load_cert_chain(file(f"{certificate}.pem"), file(f"{certificate}.key"))
    if alpn:
        context.set_alpn_protocols(alpn)
    if ciphers:
        context.set_ciphers(ciphers)
    return context


class TLSStream(Stream):
    """Knows at its end whether the peer said that it is one (close_notify)."""
    cut = False

    def fill(self):
        try:
            return super().fill()
        except ssl.SSLEOFError:
            self.ended = self.cut = True
            return False

    def send_and_read(self, data, count):
        """Sends all and reads at least `count` bytes meanwhile and after it. In one thread: a
        session of Python's is none for two."""
        view = memoryview(data)
        deadline = time.monotonic() + self.timeout
        self.sock.setblocking(False)
        try:
            while view or len(self.buffer) < count:
                assert time.monotonic() < deadline, f"{len(view)} unsent, {len(self.buffer)} read"
                if not self.sock.pending():
                    select.select([self.sock], [self.sock] if view else [], [], 0.1)
                try:
                    if view:
                        view = view[self.sock.send(view[:65536]):]
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
                try:
                    if len(self.buffer) < count:
                        assert self.fill(), f"ended: {len(view)} unsent, {len(self.buffer)} read"
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
        finally:
            self.sock.settimeout(self.timeout)

    @property
    def ended_cleanly(self):
        return self.ended and not self.cut and not self.reset


def secure(port, context=None, name="site.test", session=None, timeout=PROMPT_S,
           receive_buffer=None):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(timeout)
    sock.connect(("127.0.0.1", port))
    context = context or client_context()
    try:
        return TLSStream(context.wrap_socket(
            sock, server_hostname=name, session=session, suppress_ragged_eofs=False), timeout)
    except BaseException:
        sock.close()
        raise


def s_client(port, *arguments, send=b"", timeout=PROMPT_S):
    """What `openssl s_client` prints, both streams, after it was sent this."""
    run = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", file("ca.pem"),
         *arguments], input=send, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=timeout)
    return run.stdout.decode(errors="replace")


class TLSPeer(Peer):
    """A scripted peer that speaks TLS. `says_goodbye` is whether its ends are clean."""

    def __init__(self, name="origin", certificate="site", client_ca=None, version=None, port=0):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(file(f"{certificate}.pem"), file(f"{certificate}.key"))
        if client_ca:
            self.context.load_verify_locations(file(f"{client_ca}.pem"))
            self.context.verify_mode = ssl.CERT_REQUIRED
        if version:
            self.context.minimum_version = self.context.maximum_version = version
        self.names = []
        self.context.sni_callback = lambda sock, name, _: self.names.append(name)
        self.sessions, self.refusals, self.subjects = [], [], []
        self.says_goodbye = True
        super().__init__(name, port)

    def _serve(self, connection):
        try:
            connection.sock = self.context.wrap_socket(
                connection.sock, server_side=True, suppress_ragged_eofs=False)
        except OSError as refusal:
            self.refusals.append(str(refusal))
            connection.close()
            return
        self.sessions.append(connection.sock.session_reused)
        self.subjects.append(connection.sock.getpeercert())
        super()._serve(connection)

    def _converse(self, connection):
        try:
            super()._converse(connection)
        finally:
            if self.says_goodbye and connection.sock.fileno() >= 0:
                try:
                    connection.sock.settimeout(2)
                    connection.sock.unwrap()
                except (OSError, ValueError):
                    pass
