"""The health process: endpoints that die, flap, are slow and come back; names whose addresses
change; DNS servers that lie; and the process's own death. Every request is counted on both sides."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter

import pytest

from harness.dns import A, AAAA, NXDOMAIN, REFUSED, SERVFAIL, DNSServer, wire_name
from harness.gateway import BINARY, exchange, settings
from harness.load import Load
from harness.metrics import counted, settled
from harness.peer import OK, Peer, answer
from harness.ports import free_port
from harness.tls import TLSPeer, file
from harness.waiting import wait_for

UP = "/up"
NO = answer("503 No", b"no")
CHECK = {"path": UP, "interval": "50ms", "timeout": "1s", "healthy": 2, "unhealthy": 3}
# As long as a look-up may take to be seen on this machine: TTL 1 s, and a tenth.
LOOKUP_S = 30


@pytest.fixture
def peers():
    made = [Peer(f"endpoint {index}") for index in range(3)]
    yield made
    for peer in made:
        peer.stop()
        assert not peer.faults, peer.faults[0]


@pytest.fixture
def checked(run_gateway, peers):
    """A gateway over the three peers with checks; `target` lays further keys over its target."""
    started = []

    def start(endpoints=None, check=None, resolver=None, **target):
        config = settings(peers[0], **({"resolver": resolver} if resolver else {}))
        config["providers"]["targets"] = [{
            "id": "app", "endpoints": endpoints or [
                {"url": f"http://127.0.0.1:{peer.port}"} for peer in peers],
            "health": {**CHECK, **(check or {})}, "ejection": "off", "retries": "off", **target}]
        started.append(run_gateway(config))
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process.poll() is None:
            assert gateway.stop() == 0, gateway.text


@pytest.fixture
def dns():
    server = DNSServer()
    yield server
    server.stop()


def endpoints(gateway, target=0):
    """What `gateway status` says of a target's endpoints."""
    return gateway.status()["targets"][target]["endpoints"]


def wait_health(gateway, *wanted):
    wait_for(lambda: tuple(e["health"] for e in endpoints(gateway)) == wanted,
             lambda: f"{wanted}, not {[e['health'] for e in endpoints(gateway)]}; "
                     f"log:\n{gateway.text}", 20, every=0.05)


def ask_many(gateway, path, count):
    return Counter(gateway.ask(path).status for _ in range(count))


def seen(peers, path):
    return [len(peer.seen(path)) for peer in peers]


# MARK: Endpoints

def test_an_endpoint_that_fails_its_checks_gets_nothing(checked, peers, path):
    gateway = checked()
    wait_health(gateway, "healthy", "healthy", "healthy")
    assert ask_many(gateway, path, 30) == {200: 30}
    assert seen(peers, path) == [10, 10, 10]
    peers[1].on(UP, raw=NO)
    wait_health(gateway, "healthy", "unhealthy", "healthy")
    assert ask_many(gateway, path + "/b", 30) == {200: 30}
    assert seen(peers, path + "/b") == [15, 0, 15]
    metrics = counted(gateway, 60)
    health = [metrics.sum("umbra_upstream_health", endpoint=f"127.0.0.1:{p.port}") for p in peers]
    assert health == [1, 0, 1]
    sick = f"127.0.0.1:{peers[1].port}"
    assert metrics.sum("umbra_upstream_checks_total", endpoint=sick, result="status") >= 3
    assert metrics.sum("umbra_upstream_checks_total", endpoint=sick, result="timeout") == 0
    assert metrics.sum("umbra_upstream_health_changes_total") == 1
    assert any("is unhealthy (last check: status 503)" in line for line in gateway.log)
    state = endpoints(gateway)[1]
    assert (state["last_check"], state["last_status"]) == ("status", 503)
    # Back, after two good checks.
    peers[1].on(UP, raw=OK)
    wait_health(gateway, "healthy", "healthy", "healthy")
    assert ask_many(gateway, path + "/c", 30) == {200: 30}
    assert seen(peers, path + "/c") == [10, 10, 10]
    counted(gateway, sum(seen(peers, path)))


def test_one_that_dies_under_load_and_comes_back(checked, peers, path):
    gateway = checked(retries={"attempts": 2})
    wait_health(gateway, "healthy", "healthy", "healthy")
    with Load(gateway, path, own_paths=False) as load:
        load.wait_more(100)
        peers[2].stop()
        wait_health(gateway, "healthy", "healthy", "unhealthy")
        dead = len(peers[2].seen(path))
        load.wait_more(100)
        assert len(peers[2].seen(path)) == dead
        peers[2].listen()
        wait_health(gateway, "healthy", "healthy", "healthy")
        wait_for(lambda: len(peers[2].seen(path)) > dead, "requests at the one that came back", 20)
    assert not load.faults, load.faults
    assert set(load.statuses) == {200}
    # What was cut off when it died was sent again: no client saw it, and the peers saw both.
    total = load.answered
    checks = counted(gateway, total)
    assert total <= sum(seen(peers, path)) <= total + 4
    assert checks.sum("umbra_upstream_checks_total", result="connect") >= 3


def test_flapping_changes_nothing(checked, peers, path):
    gateway = checked(check={"healthy": 2, "unhealthy": 2})
    turns = []

    def flap(connection, request):
        turns.append(len(turns))
        connection.send(OK if len(turns) % 2 else NO)

    wait_health(gateway, "healthy", "healthy", "healthy")
    peers[0].on(UP, flap)
    wait_for(lambda: len(turns) >= 12, "twelve checks", 20)
    assert ask_many(gateway, path, 30) == {200: 30}
    assert seen(peers, path) == [10, 10, 10]
    assert gateway.metrics().sum("umbra_upstream_health_changes_total") == 0


def test_a_slow_one_fails_by_timeout_and_starts_slowly(checked, peers, path):
    gateway = checked(check={"timeout": "200ms", "interval": "200ms", "healthy": 1},
                      slow_start="1h")
    wait_health(gateway, "healthy", "healthy", "healthy")
    slow = threading.Event()
    slow.set()
    peers[0].on(UP, lambda connection, request: (
        wait_for(lambda: not slow.is_set(), "the end of slowness", 60), connection.send(OK))[1])
    wait_health(gateway, "unhealthy", "healthy", "healthy")
    sick = f"127.0.0.1:{peers[0].port}"
    assert gateway.metrics().sum(
        "umbra_upstream_checks_total", endpoint=sick, result="timeout") >= 3
    assert ask_many(gateway, path, 10) == {200: 10} and seen(peers, path) == [0, 5, 5]
    slow.clear()
    wait_health(gateway, "healthy", "healthy", "healthy")
    # A tenth of its weight at first: one request in twenty-one.
    assert ask_many(gateway, path + "/b", 84) == {200: 84}
    back, *others = seen(peers, path + "/b")
    assert 1 <= back <= 10 and sum(others) == 84 - back


def test_panic_uses_all_and_without_it_503_says_why(checked, peers, path):
    for peer in peers:
        peer.on(UP, raw=NO)
    gateway = checked()
    wait_health(gateway, *["unhealthy"] * 3)
    assert ask_many(gateway, path, 30) == {200: 30}
    assert seen(peers, path) == [10, 10, 10]
    assert gateway.metrics().sum("umbra_target_unbalanced_total", reason="panic") == 30
    strict = checked(panic_threshold=0)
    wait_health(strict, *["unhealthy"] * 3)
    got = strict.ask(path + "/strict")
    assert got.status == 503 and b'"no_upstream"' in got.body and got.get("retry-after") == "1"
    assert seen(peers, path + "/strict") == [0, 0, 0]
    peers[1].on(UP, raw=OK)
    wait_health(strict, "unhealthy", "healthy", "unhealthy")
    assert ask_many(strict, path + "/one", 5) == {200: 5}
    assert seen(peers, path + "/one") == [0, 5, 0]


def test_the_only_endpoint_is_used_unless_the_threshold_is_0(checked, peers, path):
    one = [{"url": f"http://127.0.0.1:{peers[0].port}"}]
    peers[0].on(UP, raw=NO)
    gateway = checked(one)
    wait_health(gateway, "unhealthy")
    assert gateway.ask(path).status == 200
    strict = checked(one, panic_threshold=0)
    wait_health(strict, "unhealthy")
    assert strict.ask(path).status == 503
    peers[0].on(UP, raw=OK)
    wait_health(strict, "healthy")
    assert strict.ask(path).status == 200


def test_what_a_check_asks(checked, peers, path):
    peers[0].on(UP, raw=b"HTTP/1.1 204 No Content\r\n\r\n")
    peers[1].on(UP, raw=b"HTTP/1.1 301 Moved\r\nContent-Length: 5\r\n\r\n")
    gateway = checked(
        [{"url": f"http://127.0.0.1:{peer.port}"} for peer in peers],
        check={"method": "HEAD", "host": "app.internal", "status": [204, "300-308"]})
    # 200 is none of the statuses.
    wait_health(gateway, "healthy", "healthy", "unhealthy")
    request = peers[0].seen(UP)[0]
    assert (request.method, request.get("host")) == ("HEAD", "app.internal")
    assert request.get("user-agent") == "umbra-health"


def test_checks_over_ipv6_and_unix_sockets(checked, peers, tmp_path, path):
    six = Peer("ipv6", host="::1")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "app.sock"))
    listener.listen()

    def serve():
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            link.recv(4096)
            link.sendall(OK)
            link.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        gateway = checked([{"url": f"http+unix://{tmp_path}/app.sock"},
                           {"url": f"http://[::1]:{six.port}"}])
        wait_health(gateway, "healthy", "healthy")
        assert six.seen(UP)[0].get("host") == f"[::1]:{six.port}"
        six.on(UP, raw=NO)
        wait_health(gateway, "healthy", "unhealthy")
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        wait_health(gateway, "unhealthy", "unhealthy")
    finally:
        six.stop()
        listener.close()


def test_checks_over_tls_prove_the_endpoint(checked, path):
    good, expired, plain = TLSPeer("good"), TLSPeer("expired", "expired"), Peer("plain")
    try:
        gateway = checked(
            [{"url": f"https://127.0.0.1:{peer.port}"} for peer in (good, expired, plain)],
            panic_threshold=0, tls={"ca": file("ca.pem"), "server_name": "site.test"})
        wait_health(gateway, "healthy", "unhealthy", "unhealthy")
        assert good.names[0] == "site.test" and good.seen(UP)
        assert not expired.heads and not plain.heads
        states = endpoints(gateway)
        assert states[1]["last_check"] == "tls"
        assert states[2]["last_check"] in ("tls", "timeout", "malformed")
        assert ask_many(gateway, path, 6) == {200: 6}
        assert len(good.seen(path)) == 6
    finally:
        for peer in (good, expired, plain):
            peer.stop()


def test_a_reload_remembers_who_is_down(checked, peers, path):
    hang = threading.Event()
    peers[1].on(UP, lambda c, r: hang.wait(30) and c.send(OK))
    gateway = checked(check={"timeout": "200ms"})
    try:
        wait_health(gateway, "healthy", "unhealthy", "healthy")
        # No check ends soon now: without memory the one that hangs would be used meanwhile.
        for peer in peers:
            peer.on(UP, lambda c, r: hang.wait(30) and c.send(OK))
        config = gateway.config
        config["providers"]["targets"][0]["health"].update(timeout="30s", interval="60s")
        gateway.reload(config)
        assert [e["health"] for e in endpoints(gateway)] == ["healthy", "unhealthy", "healthy"]
        assert ask_many(gateway, path, 20) == {200: 20}
        assert seen(peers, path)[1] == 0
    finally:
        hang.set()


def test_status_shows_every_endpoint(checked, peers):
    gateway = checked()
    wait_health(gateway, "healthy", "healthy", "healthy")
    run = subprocess.run(
        [BINARY, "gateway", "status", "--policy-config", str(gateway.file)],
        capture_output=True, timeout=15)
    text = run.stdout.decode()
    assert run.returncode == 0
    for peer in peers:
        line = next(x for x in text.splitlines() if f"127.0.0.1:{peer.port}" in x)
        assert line.startswith("app") and "healthy" in line and "passed 200" in line
    assert any(line.startswith("health ") and "running" in line for line in text.splitlines())


def test_nothing_to_do_is_no_process(run_gateway, origin):
    gateway = run_gateway(settings(origin))
    assert not gateway.processes("health")
    assert "umbra_upstream_health" not in gateway.admin("/metrics")[1]
    assert gateway.stop() == 0


# MARK: Death

def test_its_death_touches_no_request_and_freezes_what_was_known(checked, peers, dns, path):
    dns.addresses = {"app.test": ["127.0.0.1"]}
    peers[1].on(UP, raw=NO)
    gateway = checked([{"url": f"http://app.test:{peer.port}"} for peer in peers],
                      resolver={"nameservers": [f"127.0.0.1:{dns.port}"]})
    wait_health(gateway, "healthy", "unhealthy", "healthy")
    known = [e["addresses"] for e in endpoints(gateway)]
    assert known == [[f"127.0.0.1:{peer.port}"] for peer in peers]
    with Load(gateway, path, own_paths=False) as load:
        load.wait_more(50)
        for _ in range(3):
            pid = gateway.pid("health")
            os.kill(pid, signal.SIGKILL)
            load.wait_more(50)
            wait_for(lambda: gateway.processes("health")[0]["pid"] not in (None, pid),
                     "another health process", 30, every=0.05)
            states = endpoints(gateway)
            assert [e["health"] for e in states] == ["healthy", "unhealthy", "healthy"]
            assert [e["addresses"] for e in states] == known
        # And its next life works: the sick one recovers.
        peers[1].on(UP, raw=OK)
        wait_health(gateway, "healthy", "healthy", "healthy")
        wait_for(lambda: peers[1].seen(path), "requests at the one that recovered", 20)
    assert not load.faults, load.faults
    assert set(load.statuses) == {200}
    total = load.answered
    assert sum(seen(peers, path)) == total
    counted(gateway, total)
    assert gateway.processes("health")[0]["restarts"] == 3
    assert gateway.processes("worker")[0]["restarts"] == 0


def test_a_trapped_one_that_keeps_dying_is_held_back(checked, peers, path):
    gateway = checked()
    wait_health(gateway, "healthy", "healthy", "healthy")
    for _ in range(4):
        before = gateway.processes("health")[0]
        if before["pid"]:
            os.kill(before["pid"], signal.SIGKILL)
        wait_for(lambda: gateway.processes("health")[0]["restarts"] > before["restarts"],
                 "its death to be seen", 30, every=0.02)
        assert ask_many(gateway, path, 9) == {200: 9}
        wait_for(lambda: gateway.processes("health")[0]["state"] == "running",
                 "its next life", 30, every=0.02)
    assert sum(seen(peers, path)) == 36


# MARK: Names

class Place:
    """One port on several loopback addresses: what a name can point to."""

    def __init__(self, *hosts):
        self.port = free_port()
        self.peers = {host: Peer(host, self.port, host) for host in hosts}

    def seen(self, path):
        return {host: len(peer.seen(path)) for host, peer in self.peers.items()}

    def stop(self):
        for peer in self.peers.values():
            peer.stop()
            assert not peer.faults, peer.faults[0]


@pytest.fixture
def place():
    made = Place("127.0.0.1", "127.0.0.2", "127.0.0.3", "::1")
    yield made
    made.stop()


@pytest.fixture
def named(run_gateway, place, dns):
    """A gateway whose only endpoint is app.test, looked up at the scripted server."""
    started = []

    def start(**over):
        config = settings(place, resolver={"nameservers": [f"127.0.0.1:{dns.port}"]}, **over)
        config["providers"]["targets"][0]["base_url"] = f"http://app.test:{place.port}"
        started.append(run_gateway(config))
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process.poll() is None:
            assert gateway.stop() == 0, gateway.text


def lookups(gateway, result):
    return gateway.metrics().sum("umbra_resolver_lookups_total", name="app.test", result=result)


def after_a_lookup(gateway):
    """Returns just behind a look-up, a second before the next: its two questions (A, AAAA) then
    get the answers of one script, not half the name from each."""
    before = lookups(gateway, "found")
    wait_for(lambda: lookups(gateway, "found") > before, "the end of a look-up", LOOKUP_S,
             every=0.02)


def wait_addresses(gateway, place, *hosts, target=0):
    wanted = [f"[{h}]:{place.port}" if ":" in h else f"{h}:{place.port}" for h in hosts]
    wait_for(lambda: endpoints(gateway, target)[0]["addresses"] == wanted,
             lambda: f"{wanted}, not {endpoints(gateway, target)[0]['addresses']}", LOOKUP_S,
             every=0.05)


def test_addresses_change_by_their_time_to_live(named, place, dns, path):
    dns.addresses = {"app.test": ["127.0.0.2"]}
    gateway = named()
    assert gateway.ask(path).status == 200
    with Load(gateway, path, own_paths=False) as load:
        load.wait_more(50)
        assert place.seen(path)["127.0.0.3"] == 0
        dns.addresses = {"app.test": ["127.0.0.3"]}
        wait_for(lambda: place.seen(path)["127.0.0.3"] > 20, "requests at the new address",
                 LOOKUP_S)
        wait_addresses(gateway, place, "127.0.0.3")
        moved = place.seen(path)["127.0.0.2"]
        load.wait_more(50)
        # Those whose exchange was under way ended there; then nobody went there again.
        assert place.seen(path)["127.0.0.2"] <= moved + 4
    assert not load.faults and set(load.statuses) == {200}
    assert sum(place.seen(path).values()) == load.answered + 1
    assert gateway.metrics().sum("umbra_resolver_changes_total", name="app.test") == 1
    # By its time to live, not faster: a second at least between two look-ups.
    times = [q.at for q in dns.asked("app.test") if q.type == A][1:]
    assert all(later - earlier > 0.9 for earlier, later in zip(times, times[1:]))
    # Nor slower than it may be.
    assert lookups(gateway, "found") >= 2


def test_forged_answers_lead_nobody_astray(named, place, dns, path):
    dns.addresses = {"app.test": ["127.0.0.2"]}
    gateway = named()
    evil = ["127.0.0.3", "::1"]

    def lie(question):
        return [
            question.answer(evil, id=question.id ^ 0x5555),
            question.answer(evil, name="app.tesu"),
            question.answer([], records=wire_name("other.test") + b"\0\1\0\1\0\0\0\1\0\4"
                            + bytes([127, 0, 0, 3]), id=question.id ^ 1),
            b"", b"\0", question.message, question.message[:2] + b"\x81\x80" + b"\xff" * 500,
            *dns.truth(question)]

    dns.script = lie
    dns.wait_asked("app.test", 6)
    wait_for(lambda: lookups(gateway, "found") >= 3, "look-ups in spite of the lies", LOOKUP_S)
    assert ask_many(gateway, path, 30) == {200: 30}
    assert place.seen(path) == {"127.0.0.1": 0, "127.0.0.2": 30, "127.0.0.3": 0, "::1": 0}
    metrics = gateway.metrics()
    assert metrics.sum("umbra_resolver_strays_total", name="app.test") >= 6
    assert metrics.sum("umbra_resolver_changes_total", name="app.test") == 0
    assert gateway.processes("health")[0]["restarts"] == 0


def circles(question):
    """A name that is a pointer to itself."""
    return [question.answer(records=b"\xc0" + bytes([12 + len(question.message) - 12]) + b"\0\1\0\1"
                            + b"\0\0\0\1\0\4" + bytes([127, 0, 0, 3]))]


def cut_off(question):
    return [question.answer(["127.0.0.3", "::1"])[:-2]]


@pytest.mark.parametrize("script, result", [
    (lambda q: [q.answer(code=NXDOMAIN)], "no_name"),
    (lambda q: [q.answer()], "no_name"),
    (lambda q: [q.answer(code=SERVFAIL)], "no_answer"),
    (lambda q: [q.answer(code=REFUSED)], "no_answer"),
    (lambda q: [], "no_answer"),
    (cut_off, "malformed"),
    (circles, "malformed"),
    (lambda q: [q.answer(["0.0.0.0", "::"])], "unusable"),
    (lambda q: [q.answer(["224.0.0.1", "ff02::1"])], "unusable"),
], ids=["nxdomain", "nodata", "servfail", "refused", "silence", "cut", "circles", "unspecified",
        "multicast"])
def test_the_last_good_addresses_stay(named, place, dns, path, script, result):
    dns.addresses = {"app.test": ["127.0.0.2", "::1"]}
    gateway = named()
    wait_addresses(gateway, place, "::1", "127.0.0.2")
    after_a_lookup(gateway)
    dns.script = script
    wait_for(lambda: lookups(gateway, result) >= 1, f"a look-up that ends {result}", LOOKUP_S)
    assert ask_many(gateway, path, 10) == {200: 10}
    assert sum(place.seen(path).values()) == 10 and place.seen(path)["127.0.0.3"] == 0
    wait_addresses(gateway, place, "::1", "127.0.0.2")
    # And when the name is back, so is everything else.
    dns.script = dns.truth
    dns.addresses = {"app.test": ["127.0.0.3"]}
    wait_addresses(gateway, place, "127.0.0.3")
    assert ask_many(gateway, path + "/b", 5) == {200: 5}
    assert place.seen(path + "/b")["127.0.0.3"] == 5


def test_one_familys_silence_leaves_the_other_alone(named, place, dns, path):
    dns.addresses = {"app.test": ["127.0.0.2", "::1"]}
    gateway = named()
    wait_addresses(gateway, place, "::1", "127.0.0.2")
    dns.script = lambda q: [] if q.type == AAAA else [q.answer(["127.0.0.3"])]
    wait_addresses(gateway, place, "::1", "127.0.0.3")
    # The other is tried where one is dead.
    place.peers["::1"].stop()
    assert ask_many(gateway, path, 10) == {200: 10}
    assert place.seen(path)["127.0.0.3"] == 10


def test_answers_that_do_not_fit_come_over_tcp(named, place, dns, path):
    def cut(question):
        return [question.answer(cut=True)]

    dns.script = cut
    dns.addresses = {"app.test": ["127.0.0.2"] + [f"127.0.1.{n}" for n in range(1, 100)]}
    gateway = named()
    assert len(endpoints(gateway)[0]["addresses"]) == 16
    wait_for(lambda: gateway.metrics().sum("umbra_resolver_truncated_total") >= 1,
             "an answer with too many addresses", LOOKUP_S)
    assert dns.streams
    assert gateway.ask(path).status == 200
    assert place.seen(path)["127.0.0.2"] == 1


def test_a_name_that_is_not_there_at_the_start_is_found_later(run_gateway, place, dns, path):
    config = settings(place, resolver={"nameservers": [f"127.0.0.1:{dns.port}"]})
    config["providers"]["targets"] += [
        {"id": "late", "base_url": f"http://late.test:{place.port}"}]
    config["routes"] = [{"match": {"path_prefix": path}, "target": "late"}]
    gateway = run_gateway(config)
    got = gateway.ask(path)
    assert got.status == 503 and b'"no_upstream"' in got.body
    dns.addresses = {"late.test": ["127.0.0.3"]}
    wait_for(lambda: gateway.ask(path).status == 200, "the name's address", LOOKUP_S, every=0.1)
    assert place.seen(path)["127.0.0.3"] == 1
    assert gateway.stop() == 0


def test_the_second_server_is_asked_where_the_first_is_silent(named, place, dns, path):
    dead = DNSServer()
    dead.script = lambda question: []
    dns.addresses = {"app.test": ["127.0.0.2"]}
    try:
        gateway = named()
        gateway.stop()
        gateway.configure({**gateway.config, "resolver": {
            "nameservers": [f"127.0.0.1:{dead.port}", f"127.0.0.1:{dns.port}"]}})
        gateway.start()
        assert gateway.ask(path).status == 200
        dns.addresses = {"app.test": ["127.0.0.3"]}
        wait_addresses(gateway, place, "127.0.0.3")
        assert dead.asked("app.test")
    finally:
        dead.stop()


def test_names_of_the_hosts_file(run_gateway, peers, path):
    config = settings(peers[0], resolver={"interval": "1s"})
    config["providers"]["targets"][0]["base_url"] = f"http://localhost:{peers[0].port}"
    gateway = run_gateway(config)
    wait_for(lambda: gateway.metrics().sum(
        "umbra_resolver_lookups_total", name="localhost", result="found") >= 2, "two look-ups", 20)
    assert ask_many(gateway, path, 3) == {200: 3}
    assert gateway.stop() == 0


def test_checks_follow_the_name(named, place, dns, path):
    dns.addresses = {"app.test": ["127.0.0.2"]}
    gateway = named(providers={"targets": [{
        "id": "app", "base_url": "http://app.test", "health": CHECK, "panic_threshold": 0}]})
    wait_health(gateway, "healthy")
    place.peers["127.0.0.2"].on(UP, raw=NO)
    wait_health(gateway, "unhealthy")
    assert gateway.ask(path).status == 503
    dns.addresses = {"app.test": ["127.0.0.3"]}
    wait_health(gateway, "healthy")
    assert gateway.ask(path).status == 200
    assert place.seen(path)["127.0.0.3"] == 1


def test_copies_follow_the_shadows_name(run_gateway, peers, place, dns, path):
    dns.addresses = {"next.test": ["127.0.0.2"]}
    config = settings(peers[0], place, resolver={"nameservers": [f"127.0.0.1:{dns.port}"]})
    config["providers"]["targets"][1]["base_url"] = f"http://next.test:{place.port}"
    gateway = run_gateway(config)
    assert ask_many(gateway, path, 20) == {200: 20}
    settled(gateway, sent=20)
    assert place.seen(path)["127.0.0.2"] == 20
    dns.addresses = {"next.test": ["127.0.0.3"]}
    wait_addresses(gateway, place, "127.0.0.3", target=1)
    assert ask_many(gateway, path, 20) == {200: 20}
    # The old place still answers: nothing but the new address keeps the copies from it.
    settled(gateway, sent=40)
    assert place.seen(path)["127.0.0.2"] == 20 and place.seen(path)["127.0.0.3"] == 20
    assert gateway.stop() == 0


# MARK: Reload

def test_a_reload_knows_what_was_found(checked, peers, dns, path):
    """Neither a dead name server nor a slow check costs anything in the moment of a reload."""
    dns.addresses = {"app.test": ["127.0.0.1"]}
    gateway = checked([{"url": f"http://app.test:{peer.port}"} for peer in peers],
                      check={"timeout": "20s", "interval": "20s", "unhealthy": 1, "healthy": 1},
                      resolver={"nameservers": [f"127.0.0.1:{dns.port}"]})
    wait_health(gateway, "healthy", "healthy", "healthy")
    gateway.stop()
    peers[1].on(UP, raw=NO)
    gateway.start()
    wait_health(gateway, "healthy", "unhealthy", "healthy")
    # From now on checks hang, and nobody answers for the name.
    done = threading.Event()
    peers[1].on(UP, lambda connection, request: done.wait(60) and "close")
    dns.script = lambda question: []
    try:
        with Load(gateway, path, own_paths=False) as load:
            load.wait_more(50)
            for _ in range(3):
                gateway.reload()
                states = endpoints(gateway)
                assert [e["health"] for e in states] == ["healthy", "unhealthy", "healthy"]
                assert [e["addresses"] for e in states] == [
                    [f"127.0.0.1:{peer.port}"] for peer in peers]
                load.wait_more(50)
        assert not load.faults, load.faults
        assert set(load.statuses) == {200}
        assert not peers[1].seen(path)
        total = load.answered
        assert sum(seen(peers, path)) == total
    finally:
        done.set()
    wait_for(lambda: not [g for g in gateway.processes("health") if g["state"] != "running"],
             "one health process", 20)
