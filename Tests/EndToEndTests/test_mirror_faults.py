"""Whatever the shadow does, clients are served as if it were not there, memory stays bounded, and
the sums hold."""

import threading
import time

import pytest

from harness.gateway import descendants, exchange, resident_during, settings
from harness.metrics import settled
from harness.peer import OK, Peer, answer

MIB = 1 << 20


def endless(connection, request):
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n"):
        pass
    return "close"


def endless_head(connection, request):
    connection.send(b"HTTP/1.1 200 OK\r\n")
    while connection.send(b"A: b\r\n" * 1000):
        pass
    return "close"


def endless_hints(connection, request):
    while connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000):
        pass
    return "close"


def trickle(connection, request):
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while connection.send(b"x"):
        time.sleep(0.05)
    return "close"


def trickling_head(connection, request):
    for byte in b"HTTP/1.1 200 OK\r\nA: " + b"b" * 10000:
        if not connection.send(bytes([byte])):
            break
        time.sleep(0.05)
    return "close"


def hang(connection, request):
    connection.read_to_end()
    return "close"


def never_read(connection, request):
    time.sleep(2)
    return "close"


def raw(data):
    def send(connection, request):
        connection.send(data)
        connection.read_to_end()
        return "close"
    return send


def hang_up(connection, request):
    return "close"


def abort(connection, request):
    connection.abort()


def keep_talking(connection, request):
    connection.send(OK + OK + OK + b"garbage")


FAULTS = {
    "endless": endless, "endless-head": endless_head, "endless-hints": endless_hints,
    "trickle": trickle, "trickling-head": trickling_head, "hang": hang, "close": hang_up,
    "abort": abort, "never-read": never_read, "keep-talking": keep_talking,
    "garbage": raw(b"\x00\xff\x00garbage" * 1000), "no-http": raw(b"hello\r\n\r\n"),
    "two-framings": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "bad-chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "cut": lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!") and "close",
    "upgrade": raw(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nmore"),
    "early-413": raw(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    "huge-length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nx"),
}
OK_RESULT = {"keep-talking", "early-413"}


@pytest.fixture(scope="module")
def gateway_settings():
    return {"traffic_mirror": {
        "timeout_ms": 500, "max_answer_bytes": "1MiB", "breaker": {"failures": 1000},
        "safety": {"methods": ["GET", "POST"]}}}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(mirroring, origin, shadow, path, fault):
    origin.on(path, lambda c, r: c.send(answer(body=r.body or b"primary")))
    shadow.on_head(path, FAULTS[fault])
    before = settled(mirroring).mirror()
    children = descendants(mirroring.process.pid)
    count = 12

    def work():
        begin = time.monotonic()
        with mirroring.client() as client:
            for number in range(count // 2):
                got = exchange(client, f"{path}/{number}")
                assert (got.status, got.body) == (200, b"primary")
                body = b"%d" % number * 100_000
                assert exchange(client, f"{path}/{number}", "POST", body=body).body == body
        assert time.monotonic() - begin < 4, "clients waited"
        return settled(mirroring, eligible=before["eligible"] + count).mirror()

    held = resident_during(children, lambda: time.sleep(0.05))[0]
    most, after = resident_during(children, work)
    assert most - held < 48 * MIB
    got = {k: after["results"].get(k, 0) - before["results"].get(k, 0)
           for k in ("ok", "error", "timeout", "cancelled")}
    assert sum(got.values()) == count, (got, after)
    if fault not in OK_RESULT:
        assert got["ok"] == 0, got
    # The next copies are served as if nothing had been.
    mirroring.ask(path.replace("/t/", "/u/"))
    shadow.wait_seen(path.replace("/t/", "/u/"))


def test_a_slow_shadow_slows_nobody(mirroring, origin, shadow, path):
    shadow.on(path, lambda c, r: time.sleep(0.2) or c.send(OK))
    begin = time.monotonic()
    with mirroring.client() as client:
        for number in range(50):
            assert exchange(client, f"{path}/{number}").status == 200
    assert time.monotonic() - begin < 3
    settled(mirroring)


def test_a_hung_shadow_under_load_costs_bounded_memory(run_gateway, origin, path):
    hung = Peer("hung")
    hung.accept = lambda connection: connection.read_to_end()
    gateway = run_gateway(settings(origin, hung, traffic_mirror={"timeout_ms": 60000}))
    children = descendants(gateway.process.pid)

    def work():
        errors = []

        def client_work():
            try:
                with gateway.client() as client:
                    for number in range(150):
                        assert exchange(client, f"{path}/{number}",
                                        fields=[("X-Pad", "p" * 4000)]).status == 200
            except BaseException as fault:
                errors.append(fault)

        threads = [threading.Thread(target=client_work, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return errors

    held = resident_during(children, lambda: time.sleep(0.1))[0]
    most, errors = resident_during(children, work)
    assert not errors
    assert most - held < 48 * MIB, f"RSS grew by {(most - held) >> 20} MiB"
    assert gateway.metrics().sum("umbra_mirror_eligible_total") == 1200
    hung.stop()
    settled(gateway, timeout=15)
    gateway.stop()
