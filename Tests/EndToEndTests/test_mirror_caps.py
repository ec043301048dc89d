"""What bounds the shadow's load: QPS cap, in-flight bound, timeout, breaker, cool-down; and that
the sums hold in each case."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.gateway import exchange, settings
from harness.metrics import settled
from harness.peer import Peer, answer
from harness.ports import free_port
from harness.waiting import wait_for


@pytest.fixture
def mirrored(run_gateway, origin):
    """Starts a gateway with a shadow of its own; both end with the test."""
    peers, gateways = [], []

    def start(mirror=None, shadow_port=None, **over):
        shadow = Peer("shadow") if shadow_port is None else None
        if shadow:
            peers.append(shadow)
        config = settings(origin, shadow or _At(shadow_port), traffic_mirror=mirror or {}, **over)
        gateways.append(run_gateway(config))
        return gateways[-1], shadow

    yield start
    for gateway in gateways:
        if gateway.process.poll() is None:
            settled(gateway)
            assert gateway.stop() == 0
    for peer in peers:
        peer.stop()
        assert not peer.faults, peer.faults[0]


class _At:
    def __init__(self, port):
        self.port = port


def ask_many(gateway, path, count, **options):
    with gateway.client() as client:
        for number in range(count):
            assert exchange(client, f"{path}/{number}", **options).status == 200


def offer(gateway, path, seconds, clients=4, gap_s=0.005):
    """Requests from several connections at once for some seconds; how many were answered."""
    end, counts = time.monotonic() + seconds, [0] * clients

    def work(which):
        with gateway.client() as client:
            while time.monotonic() < end:
                assert exchange(client, f"{path}/{which}/{counts[which]}").status == 200
                counts[which] += 1
                time.sleep(gap_s)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 20)
        assert not thread.is_alive()
    return sum(counts)


def most_within(times, window):
    times, first, most = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


# The cap holds for the times of sending; a copy may take this long to be seen by a Python server on a
# busy machine, so arrivals are judged in a window that is shorter by as much.
ARRIVAL_JITTER_S = 0.25


def test_the_cap_holds_in_every_sliding_second(mirrored, path):
    gateway, shadow = mirrored({"limits": {"qps": 20}}, runtime={"workers": 2})
    begin = time.monotonic()
    answered = offer(gateway, path, 3.0)
    took = time.monotonic() - begin
    metrics = settled(gateway, eligible=answered)
    arrivals = [r.at for r in shadow.seen(path)]
    assert most_within(arrivals, 1.0 - ARRIVAL_JITTER_S) <= 20
    assert len(arrivals) <= 20 * (int(took + ARRIVAL_JITTER_S) + 1)
    # And it is a cap, not a ban: each second's allowance is used.
    assert len(arrivals) >= 40
    assert metrics.dropped()["qps_cap"] == answered - len(arrivals)


def test_a_fractional_cap(mirrored, path):
    gateway, shadow = mirrored({"limits": {"qps": 0.5}})
    answered = offer(gateway, path, 3.0, clients=1, gap_s=0.02)
    settled(gateway, eligible=answered)
    arrivals = sorted(r.at for r in shadow.seen(path))
    assert len(arrivals) == 2
    assert arrivals[1] - arrivals[0] >= 2.0 - ARRIVAL_JITTER_S


def test_a_cap_of_zero_sends_nothing(mirrored, path):
    gateway, shadow = mirrored({"limits": {"qps": 0}})
    ask_many(gateway, path, 50)
    metrics = settled(gateway, eligible=50)
    assert metrics.dropped() == {"qps_cap": 50}
    assert not shadow.connections


def test_a_reload_changes_the_cap(mirrored, path):
    gateway, shadow = mirrored({"limits": {"qps": 0}})
    ask_many(gateway, path + "/before", 5)
    settled(gateway, eligible=5)
    config = dict(gateway.config)
    config["traffic_mirror"] = dict(config["traffic_mirror"], limits={"qps": 1000})
    gateway.configure(config)
    gateway.reload()

    def mirrors_now():
        assert gateway.ask(path + "/after").status == 200
        return shadow.seen(path + "/after")

    wait_for(mirrors_now, "copies after the reload", every=0.1)
    assert not shadow.seen(path + "/before")


def test_the_in_flight_bound(mirrored, path):
    release = threading.Event()
    gateway, shadow = mirrored({"limits": {"qps": 10000, "in_flight": 3}, "timeout_ms": 60000})
    shadow.on(path, lambda c, r: release.wait(20) and c.send(answer()))
    try:
        ask_many(gateway, path, 20)
        shadow.wait_seen(path, 3)
        # Everything that can be sent has been: the rest waits or was dropped, and is not there.
        wait_for(lambda: gateway.metrics().dropped().get("in_flight_limit") == 17, "17 drops")
        assert gateway.metrics().sum("umbra_mirror_in_flight") == 3
        assert len(shadow.seen(path, shadow.heads)) == 3
    finally:
        release.set()
    metrics = settled(gateway, eligible=20)
    assert metrics.results() == {"ok": metrics.sum("umbra_mirror_sent_total")}
    assert metrics.dropped().get("in_flight_limit", 0) + metrics.sum(
        "umbra_mirror_sent_total") == 20


def test_a_hung_shadow_runs_into_the_timeout(mirrored, path):
    gateway, shadow = mirrored({"timeout_ms": 300, "breaker": {"failures": 1000}})
    shadow.on(path, lambda c, r: c.read_to_end() and None)
    begin = time.monotonic()
    ask_many(gateway, path, 10)
    # Nobody waited for it.
    assert time.monotonic() - begin < 3
    metrics = settled(gateway, eligible=10)
    assert metrics.results() == {"timeout": 10}


def test_a_shadow_that_never_accepts(run_gateway, origin, path):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    gateway = run_gateway(settings(origin, _At(listener.getsockname()[1]), traffic_mirror={
        "timeout_ms": 300, "breaker": {"failures": 1000}}))
    begin = time.monotonic()
    ask_many(gateway, path, 20)
    assert time.monotonic() - begin < 3
    metrics = settled(gateway, eligible=20)
    assert "ok" not in metrics.results()
    gateway.stop()
    listener.close()


def test_a_refusing_shadow_costs_few_connects(mirrored, path):
    port = free_port()
    gateway, _ = mirrored(shadow_port=port)
    # What is on its way before the first refusal is known may be refused, too.
    ask_many(gateway, path, 20)
    first = settled(gateway, eligible=20).dropped()
    assert first["connect_failed"] >= 5 and sum(first.values()) == 20, first
    ask_many(gateway, path, 200)
    dropped = settled(gateway, eligible=220).dropped()
    assert sum(dropped.values()) == 220
    # Now only probes are: one a second at most.
    assert dropped["connect_failed"] - first["connect_failed"] <= 20, (first, dropped)
    # Once it listens, copies come again by themselves.
    shadow = Peer("late shadow", port=port)
    try:
        def mirrors_now():
            assert gateway.ask(path + "/late").status == 200
            return shadow.seen(path + "/late")

        wait_for(mirrors_now, "copies after the breaker", timeout=15, every=0.1)
        settled(gateway)
    finally:
        shadow.stop()


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_shadow_that_hangs_up_costs_few_connects(mirrored, path, how):
    gateway, shadow = mirrored()
    shadow.accept = lambda connection: getattr(connection, how)()
    for number in range(10):
        # Copies that are under way together fail together: the breaker knows of them afterwards.
        ask_many(gateway, f"{path}/{number}", 20)
        metrics = settled(gateway, eligible=20 * (number + 1))
    assert "ok" not in metrics.results()
    assert metrics.dropped()["breaker_open"] >= 100, metrics.mirror()
    assert len(shadow.connections) <= 80


@pytest.mark.parametrize("status", ["500 Broken", "503 Busy", "404 Nothing"])
def test_failing_answers_are_counted(mirrored, path, status):
    gateway, shadow = mirrored()
    shadow.on("/", raw=answer(status, b"no"))
    ask_many(gateway, path, 30)
    metrics = settled(gateway, eligible=30)
    assert set(metrics.results()) == {"ok" if status.startswith("4") else "error"}


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_retry_after_is_a_cool_down(mirrored, path, status):
    gateway, shadow = mirrored()
    shadow.on(path + "/busy", raw=answer(status, b"", [("Retry-After", "2")]))
    begin = time.monotonic()
    gateway.ask(path + "/busy")
    shadow.wait_seen(path + "/busy")
    settled(gateway, eligible=1)
    ask_many(gateway, path + "/cool", 20)
    metrics = settled(gateway, eligible=21)
    if time.monotonic() - begin < 1.5:
        assert metrics.dropped() == {"cool_down": 20}
        assert not shadow.seen(path + "/cool")

    def mirrors_now():
        assert gateway.ask(path + "/later").status == 200
        return shadow.seen(path + "/later")

    wait_for(mirrors_now, "copies after the cool-down", every=0.1)
    assert time.monotonic() - begin > 1.5


def test_a_full_queue_drops_and_counts(mirrored, path):
    # The shadow process stands still, so that nothing leaves the ring.
    gateway, shadow = mirrored(runtime={"ring_depth": 16})
    pid = gateway.pid("shadow")
    os.kill(pid, signal.SIGSTOP)
    try:
        ask_many(gateway, path, 100)
    finally:
        os.kill(pid, signal.SIGCONT)
    metrics = settled(gateway, eligible=100)
    assert sum(metrics.dropped().values()) >= 100 - 16 - 1, metrics.mirror()
    assert set(metrics.dropped()) <= {"queue_full", "capture_limit", "stale", "shadow_restarted"}


def test_loans_are_bounded(mirrored, path):
    gateway, shadow = mirrored(
        {"safety": {"methods": ["POST"]}, "timeout_ms": 60000},
        runtime={"blocks_on_loan_max": 16})
    pid = gateway.pid("shadow")
    os.kill(pid, signal.SIGSTOP)
    try:
        ask_many(gateway, path, 40, method="POST", body=b"x" * 50_000)
    finally:
        os.kill(pid, signal.SIGCONT)
    metrics = settled(gateway, eligible=40)
    assert metrics.dropped().get("loan_limit", 0) >= 20, metrics.mirror()
    # What was lent has come back: later copies have room again.
    for number in range(5):
        ask_many(gateway, f"{path}/later/{number}", 1, method="POST", body=b"y" * 50_000)
        shadow.wait_seen(f"{path}/later/{number}")
        settled(gateway)


def test_the_shadow_process_sleeps_between_seldom_copies(mirrored, path):
    gateway, shadow = mirrored()
    pid = gateway.pid("shadow")
    rounds, pause = 20, 0.05

    def switches():
        with open(f"/proc/{pid}/status") as file:
            return int(file.read().split("\nvoluntary_ctxt_switches:")[1].split()[0])

    def woken():
        return gateway.metrics().sum("umbra_mirror_wakes_total")

    begun, woken_before = switches(), woken()
    for number in range(rounds):
        assert gateway.ask(f"{path}/{number}").status == 200
        shadow.wait_seen(f"{path}/{number}")
        time.sleep(pause)
    # Awake for the copy, for the connection and for the answer; a look each millisecond would be some
    # 50 for each copy.
    assert switches() - begun <= 8 * rounds
    # A machine short of time may bring two copies close together.
    assert rounds / 2 < woken() - woken_before <= rounds
    settled(gateway, eligible=rounds)


def test_small_copies_share_blocks(mirrored, path):
    gateway, shadow = mirrored({"timeout_ms": 60000})
    pid = gateway.pid("shadow")
    # Heads of every length, so that one that lies behind another begins anywhere.
    told = {f"{path}/{number}": f"{number}," * (1 + number % 100) for number in range(200)}
    os.kill(pid, signal.SIGSTOP)
    try:
        for target, value in told.items():
            assert gateway.ask(target, fields=[("X-Told", value)]).status == 200
        metrics = gateway.metrics()
        assert metrics.sum("umbra_mirror_blocks_on_loan") == len(told), metrics.mirror()
        # 200 to 600 bytes each: more than a dozen to a block of 16 KiB.
        taken = metrics.sum("umbra_blocks_taken")
        assert 1 < taken < len(told) / 10, taken
    finally:
        os.kill(pid, signal.SIGCONT)
    copies = shadow.wait_seen(path, len(told))
    assert {copy.target: copy.all("x-told") for copy in copies} == {
        target: [value] for target, value in told.items()}
    settled(gateway, eligible=len(told))
    # What is left holds the CRLF that ends trailers.
    wait_for(lambda: gateway.metrics().sum("umbra_blocks_taken") <= 1, "the blocks to be given back")


@pytest.mark.parametrize("block", ["4KiB", "16KiB"])
def test_heads_stay_whole_while_copies_come_and_go(mirrored, path, block):
    # Some copies end at once and others late, so that blocks are written on, begun again and left in turn.
    gateway, shadow = mirrored(runtime={"block_bytes": block})
    told = {f"{path}/{number}": f"{number}," * (1 + 37 * number % 300) for number in range(600)}

    def late(connection, request):
        number = int(request.path.rsplit("/", 1)[1])
        if number % 7 == 0:
            time.sleep(0.002 * (number % 50))
        connection.send(answer(body=b"seen"))

    shadow.on(path, late)

    def ask(targets):
        with gateway.client() as client:
            for target in targets:
                assert exchange(client, target, fields=[("X-Told", told[target])]).status == 200

    targets = list(told)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [targets[start::8] for start in range(8)]))
    metrics = settled(gateway, eligible=len(told))
    copies = shadow.wait_seen(path, int(metrics.sum("umbra_mirror_sent_total")))
    assert len(copies) > len(told) / 2, metrics.mirror()
    for copy in copies:
        assert copy.all("x-told") == [told[copy.target]]


def test_several_shadows_each_with_its_own_bounds(run_gateway, origin, path):
    fast, capped, dead = Peer("fast"), Peer("capped"), free_port()
    config = settings(origin, fast)
    targets = config["providers"]["targets"]
    for name, port in (("capped", capped.port), ("dead", dead)):
        targets.append({"id": name, "provider": "http", "base_url": f"http://127.0.0.1:{port}"})
    config["traffic_mirror"] = {"enabled": True, "primary": "app", "shadows": [
        {"shadow": "next", "limits": {"qps": 100000, "in_flight": 1000}},
        {"shadow": "capped", "sample_rate": 0.5, "limits": {"qps": 10}},
        {"shadow": "dead", "sample_rate": 0.25}]}
    gateway = run_gateway(config)
    ask_many(gateway, path, 100)
    metrics = settled(gateway)
    assert metrics.mirror(shadow="next") == {
        "eligible": 100, "sampled": 100, "not_sampled": 0, "sent": 100, "dropped": {},
        "results": {"ok": 100}}
    part = metrics.mirror(shadow="capped")
    assert part["eligible"] == 100 and abs(part["sampled"] - 50) <= 1
    assert 10 <= part["sent"] == len(capped.seen(path))
    assert part["dropped"] == {"qps_cap": part["sampled"] - part["sent"]}
    part = metrics.mirror(shadow="dead")
    assert part["eligible"] == 100 and abs(part["sampled"] - 25) <= 1 and part["sent"] == 0
    assert len(fast.seen(path)) == 100
    gateway.stop()
    fast.stop()
    capped.stop()


def test_ready_means_that_the_first_request_is_mirrored(run_gateway, origin, path):
    # The line says that all of it works, the shadow process included.
    shadow = Peer("shadow")
    for number in range(6):
        gateway = run_gateway(settings(origin, shadow))
        assert gateway.ask(f"{path}/{number}").status == 200
        assert settled(gateway, eligible=1).dropped() == {}
        assert gateway.stop() == 0
    assert len(shadow.seen(path)) == 6
    shadow.stop()
