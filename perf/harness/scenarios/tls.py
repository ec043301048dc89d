"""TLS at the front: CPU of a keep-alive request, of a new connection, full and resumed, and memory of
an idle one. The generator fixes version, cipher and group, so that all proxies do the same work."""

import socket
import ssl
import subprocess
import time

from .. import statistics
from ..processes import Fault, memory
from ..report import Result
from .common import add_round, best_of

OFFERS = {
    "1.3": ["--tls-version", "1.3", "--tls-ciphers", "TLS_AES_128_GCM_SHA256", "--tls-groups", "P-256"],
    "1.2": ["--tls-version", "1.2", "--tls-ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256",
            "--tls-groups", "P-256"],
}
HANDSHAKE_CONNECTIONS = 16
IDLE_CONNECTIONS = 1_000
SETTLE_SECONDS = 1.0
# Handshakes of each kind in memory, a round.
LIBRARY_HANDSHAKES = 300
LIBRARY = "libssl alone"
KEEP_ALIVE = "CPU per keep-alive request, TLS 1.3"
IDLE = "memory per idle connection, after one request each"


def handshake(version, resumed):
    return f"CPU per {'resumed' if resumed else 'full'} handshake, TLS {version}"


def run(bench, kinds):
    # Envoy brings a TLS library of its own: it is no measure of how well OpenSSL is used.
    kinds = [kind for kind in kinds if kind != "envoy"]
    result = Result("tls", "TLS: keep-alive requests, handshakes and idle connections; P-256, AES-128-GCM")
    certificate = make_certificate(bench.work / "run")
    origin = bench.origin()
    proxies = [bench.proxy(kind, origin, certificate=certificate) for kind in kinds]
    sent = 0
    for index in range(bench.rounds):
        for proxy in bench.order(proxies, index):
            origin.check()
            sent += round_of(bench, result, proxy, f"round {index + 1}/{bench.rounds}")
        library(result, certificate)
    bench.finish(result, proxies, [origin], expected=sent)
    idle(bench, result, kinds, certificate)
    judge(result, kinds)
    result.notes += [
        "a handshake: CPU of a connection with one request, less that of a keep-alive request in the same round; "
        "accepting and closing are in it. The client closes, and offers what is named above alone.",
        "in TLS 1.3 a resumed handshake makes a new key exchange all the same (psk_dhe_ke, RFC 8446 §2.2): only the "
        "signature and the certificate are saved.",
        f"{LIBRARY}: the server's side of the same handshakes in memory, without a socket or a proxy, by Python's "
        f"ssl module ({ssl.OPENSSL_VERSION}): about the least that a server built on it can take.",
        "sessions: tickets as each proxy has them by default; umbra sends one on a full handshake in TLS 1.3, OpenSSL two."]
    return result


def make_certificate(folder):
    """One file with a self-signed P-256 certificate and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate, both = (folder / f"tls.{kind}" for kind in ("key", "crt", "pem"))
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=bench.test",
         "-addext", "subjectAltName=DNS:bench.test,IP:127.0.0.1"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Fault(f"openssl makes no certificate: {done.stderr.strip()[-300:]}")
    both.touch(mode=0o600)
    both.write_text(certificate.read_text() + key.read_text())
    return both


def round_of(bench, result, proxy, what):
    """All measures of one proxy; the requests that were sent."""
    sent = 0
    for version, offer in OFFERS.items():
        done = bench.measure(proxy, result, f"{what}, keep-alive {version}", expect_bytes=1024, tls=offer)
        sent += done.sent
        request_us = done.cpu_us
        if version == "1.3":
            add_round(result, proxy.kind, done, with_split=False)
            result.figure(KEEP_ALIVE, "µs", proxy.kind).values.append(request_us)
        for resumed in (False, True):
            done = bench.measure(
                proxy, result, f"{what}, {'resumed' if resumed else 'full'} {version}", reconnect=True,
                connections=HANDSHAKE_CONNECTIONS, expect_bytes=1024,
                tls=offer + (["--tls-resume"] if resumed else []))
            sent += done.sent
            check_resumption(result, proxy, version, resumed, done.load)
            value = done.cpu_us - request_us
            result.figure(handshake(version, resumed), "µs", proxy.kind).values.append(value)
    return sent


def check_resumption(result, proxy, version, resumed, load):
    # The first connections of a run have no session yet.
    full = load.connections_made - load.resumed
    if (full > HANDSHAKE_CONNECTIONS) if resumed else load.resumed > 0:
        text = f"{proxy.label}, TLS {version}: {load.resumed} of {load.connections_made} handshakes were resumed"
        (result.faults if proxy.kind == "umbra" else result.notes).append(text)


# What the library costs by itself

def library(result, certificate):
    """The median of a server's time in handshakes in memory, full and resumed, of each version."""
    for version in OFFERS:
        server, client = library_contexts(version, certificate)
        times = {False: [], True: []}
        for _ in range(LIBRARY_HANDSHAKES):
            took, session = shake_hands(server, client, None)
            times[False].append(took)
            times[True].append(shake_hands(server, client, session)[0])
        for resumed, values in times.items():
            result.figure(handshake(version, resumed), "µs", LIBRARY).values.append(
                statistics.median(values) / 1000)


def library_contexts(version, certificate):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (server, client):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[f"TLSv{version.replace('.', '_')}"]
        context.set_ecdh_curve("prime256v1")
        if version == "1.2":
            context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    return server, client


def shake_hands(server_context, client_context, session):
    """(nanoseconds in the server's calls, the client's session) of one connection with one byte each way."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="bench.test", session=session)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waits = {client, server}
    spent = 0
    for _ in range(8):
        for side in (client, server):
            start = time.perf_counter_ns()
            try:
                if side in waits:
                    side.do_handshake()
                    waits.remove(side)
            except ssl.SSLWantReadError:
                pass
            if side is server:
                spent += time.perf_counter_ns() - start
        if not waits:
            break
    client.write(b"?")
    start = time.perf_counter_ns()
    server.read(1)
    server.write(b"!")
    spent += time.perf_counter_ns() - start
    if client.read(1) != b"!" or client.session_reused != (session is not None):
        raise Fault(f"a handshake in memory was {'not resumed' if session else 'resumed'}")
    return spent, client.session


def judge(result, kinds):
    if "umbra" not in kinds:
        return
    peers = [kind for kind in kinds if kind != "umbra"]

    def row(name, measure, bar):
        peer = best_of(result, measure, peers)
        if peer:
            values = statistics.ratios(result.values(measure, "umbra"), result.values(measure, peer))
            result.row(f"{name}, umbra / {peer} (the better)", "", values, bar)

    row("CPU per keep-alive request", KEEP_ALIVE, 0.85)
    for version in OFFERS:
        row(f"CPU per full handshake, TLS {version}", handshake(version, False), 1.0)
    for version, bar in (("1.2", 0.5), ("1.3", None)):
        row(f"CPU per resumed handshake, TLS {version}", handshake(version, True), None)
        for subject, what, limit in (("umbra", "", bar), (LIBRARY, f", {LIBRARY}", None)):
            ratio = statistics.ratios(
                result.values(handshake(version, True), subject),
                result.values(handshake(version, False), subject))
            result.row(f"resumed / full handshake, TLS {version}{what}", "", ratio, limit)
    result.row("KiB per idle TLS connection, after one request each", "KiB", result.values(IDLE, "umbra"), 24)


# Idle connections

def idle(bench, result, kinds, certificate):
    origin = bench.origin()
    for index in range(max(1, min(3, bench.rounds))):
        for kind in bench.order(kinds, index):
            proxy = bench.proxy(kind, origin, label=f"{kind}-idle-{index}", certificate=certificate)
            bench.progress(f"tls: idle, round {index + 1}: {kind}")
            # Warm: buffers, pools and code that the first requests bring in are not the connections'.
            bench.measure(proxy, result, "warm-up", seconds=1.0, tls=OFFERS["1.3"])
            time.sleep(SETTLE_SECONDS)
            before = memory(proxy.tree()).pss
            clients = open_connections(proxy.port)
            time.sleep(SETTLE_SECONDS)
            grown = memory(proxy.tree()).pss - before
            result.figure(IDLE, "KiB", kind).values.append(grown / IDLE_CONNECTIONS)
            for client in clients:
                client.close()
            proxy.end()
    bench.finish(result, [], [origin])


def open_connections(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    clients = []
    while len(clients) < IDLE_CONNECTIONS:
        client = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=5))
        client.sendall(b"GET /idle HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < 1024:
            data = client.recv(65536)
            if not data:
                raise Fault("a connection was closed that should have stayed open")
            answer += data
        clients.append(client)
    return clients
