"""Descriptors: what happens where they run out, and ten thousand connections that do nothing."""

import ctypes
import os
import resource
import select
import socket
import time
from pathlib import Path

import pytest

from harness.gateway import (Gateway, descendants, exchange, memory_bytes, request_bytes,
                             settings)
from harness.message import Incomplete
from harness.stream import Stream
from harness.waiting import wait_for

PR_CAPBSET_DROP, CAP_SYS_RESOURCE = 24, 24
_libc = ctypes.CDLL(None, use_errno=True)
CLOCK_TICK = os.sysconf("SC_CLK_TCK")


class NarrowGateway(Gateway):
    """One that has `limit` descriptors a process, and no right to more."""

    def __init__(self, directory, config, limit):
        super().__init__(directory, config)
        self.limit = limit

    def prepare(self):
        super().prepare()
        # Root would get a higher limit for the asking.
        _libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit, self.limit))


@pytest.fixture
def narrow(tmp_path, origin):
    gateway = NarrowGateway(tmp_path / "gateway", settings(origin), 128).start()
    try:
        yield gateway
        assert gateway.stop() == 0
    finally:
        gateway.kill()


def cpu_s(pid):
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / CLOCK_TICK


def said(gateway, text):
    return [line for line in list(gateway.log) if text in line]


def test_the_start_says_that_the_limit_is_low(narrow):
    assert said(narrow, "WARN umbra::gateway The limit of open files (nofile) is 128")


def test_exhaustion_pauses_recovers_and_says_so(narrow, path):
    before = descendants(narrow.process.pid)
    worker = narrow.pid("worker")
    held = [narrow.client() for _ in range(200)]
    try:
        wait_for(lambda: narrow.metrics().sum("umbra_accepts_paused_total") >= 1, "a pause")
        wait_for(lambda: said(narrow, "worker 0: out of file descriptors (nofile 128)"), "a line")
        open_count = wait_for_rest(narrow)
        # Those who are in are served: descriptors are kept for their upstreams.
        assert 50 < open_count < 128
        for client in held[:20]:
            assert exchange(client, path).status == 200
        # While it lasts the loop rests, and nothing is said again.
        turns, cpu = narrow.metrics().sum("umbra_loop_turns_total"), cpu_s(worker)
        time.sleep(2)
        turns = narrow.metrics().sum("umbra_loop_turns_total") - turns
        assert turns < 200 and cpu_s(worker) - cpu < 0.5, f"{turns} turns in 2 s"
        assert len(said(narrow, "out of file descriptors")) == 1
        assert narrow.metrics().sum("umbra_connections_open") == open_count
        # Most go: whoever waited in the queue is served then.
        for client in held[:150]:
            client.close()
        assert exchange(held[-1], path).status == 200
        wait_for(lambda: said(narrow, "worker 0: accepting again"), "a line")
    finally:
        for client in held:
            client.close()
    wait_for(lambda: narrow.metrics().sum("umbra_connections_open") == 0, "all to be gone")
    assert narrow.ask(path).status == 200
    assert descendants(narrow.process.pid) == before
    assert not said(narrow, "died")


def wait_for_rest(gateway):
    last = [-1]

    def same():
        now = gateway.metrics().sum("umbra_connections_open")
        before, last[0] = last[0], now
        return now == before and now

    return wait_for(same, "accepting to rest", every=0.3)


def test_the_endpoint_is_not_blamed(narrow, origin, path):
    # More requests at one time than descriptors are left for: 503 for those beyond, and no fault
    # of the target's.
    release = []
    origin.on(path, lambda c, r: wait_for(lambda: release, "the release", 20) and c.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    held = [narrow.client() for _ in range(70)]
    try:
        for client in held:
            client.send(request_bytes(path))
        wait_for(lambda: narrow.metrics().sum("umbra_gateway_answers_total") > 0, "answers 503")
        metrics = narrow.metrics()
        assert metrics.sum("umbra_upstream_connect_failures_total") == 0
        release.append(True)
        statuses = []
        for client in held:
            try:
                statuses.append(client.read_final().status)
            except (Incomplete, TimeoutError):
                statuses.append(None)
        assert set(statuses) == {200, 503} and statuses.count(200) > 5, statuses
    finally:
        release.append(True)
        for client in held:
            client.close()
    wait_for(lambda: narrow.ask("/t/after").status == 200, "service again")


IDLE = 10_000


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * IDLE - 4_000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the hard limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections(run_gateway, origin, path, many_descriptors):
    gateway = run_gateway(settings(origin, limits={"idle_timeout": "25s", "head_timeout": "25s"}))
    worker = gateway.pid("worker")
    for _ in range(20):
        gateway.ask(path)
    before = memory_bytes(worker)
    held, begin = [], time.monotonic()
    poller = select.epoll()
    try:
        for number in range(IDLE):
            # Some addresses, so that no pair of addresses runs out of ports.
            sock = socket.socket()
            sock.bind((f"127.0.0.{2 + number % 8}", 0))
            sock.connect(("127.0.0.1", gateway.port))
            held.append(sock)
            # Every other one has had an answer: both kinds of idle.
            if number % 2:
                sock.sendall(request_bytes(path))
                assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        wait_for(lambda: gateway.metrics().sum("umbra_connections_open") == IDLE,
                 lambda: f"{IDLE}, {gateway.metrics().sum('umbra_connections_open'):g} are open")
        each = (memory_bytes(worker) - before) / IDLE
        # What a connection costs the process: its place in the slab, a timer, its turn in a list.
        assert each < 2_048, f"{each:.0f} bytes a connection"
        assert gateway.metrics().sum("umbra_blocks_taken") < 64
        # New ones are served as before, and old ones go on.
        for _ in range(20):
            assert gateway.ask(path).status == 200
        with Stream(held.pop()) as client:
            assert exchange(client, path).status == 200
        cpu = cpu_s(worker)
        time.sleep(1)
        assert cpu_s(worker) - cpu < 0.5
        # The idle timeout ends every one of them.
        for sock in held:
            poller.register(sock, select.EPOLLRDHUP)
        ended, deadline = set(), time.monotonic() + 60
        while len(ended) < len(held) and time.monotonic() < deadline:
            for fd, _ in poller.poll(1, IDLE):
                ended.add(fd)
                poller.unregister(fd)
        assert len(ended) == len(held), f"{len(ended)} of {len(held)} ended"
        print(f"{each:.0f} bytes a connection, {time.monotonic() - begin:.0f} s in all")
    finally:
        poller.close()
        for sock in held:
            sock.close()
    metrics = gateway.metrics()
    assert metrics.sum("umbra_connections_open") == 0
    # Half of them never sent a byte: those had the time of a head.
    assert metrics.sum("umbra_timeouts_total", kind="idle") >= IDLE // 2 - 1
    assert metrics.sum("umbra_requests_refused_total") == 0
