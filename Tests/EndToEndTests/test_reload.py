"""Reload: a new configuration under load, every request counted on all sides."""

import http.client
import os
import shutil
import signal
import socket
import threading
import time

import pytest

from harness.gateway import BINARY, alive, descendants, exchange, merged, request_bytes, settings
from harness.load import Load
from harness.metrics import settled
from harness.peer import answer
from harness.ports import free_port
from harness.tls import certificates, file, listener, pair, secure
from harness.waiting import wait_for


@pytest.fixture
def two(run_gateway, origin, shadow):
    """Two workers and a shadow, ended with the test."""
    gateway = run_gateway(settings(origin, shadow, runtime={"workers": 2}))
    yield gateway
    if gateway.process.poll() is None:
        assert gateway.stop() == 0, gateway.text


def generation(gateway):
    return gateway.status()["generation"]


def only_the_present_one(gateway):
    """Waits until no process of a former configuration is left."""
    def at_rest():
        status = gateway.status()
        pids = {p["pid"] for p in status["processes"]}
        return status["draining"] == 0 and set(
            descendants(gateway.process.pid)) == pids - {gateway.process.pid}

    wait_for(at_rest, lambda: f"one configuration's processes; log:\n{gateway.text}", 15)


def answered(metrics):
    return metrics.sum("umbra_requests_total")


def test_reload_keeps_connections_and_requests(two, origin, path):
    release = threading.Event()
    origin.on(path + "/late", lambda c, r: release.wait(10) and c.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"))
    with Load(two, path, keep_alive=False) as load, two.client() as client:
        client.send(request_bytes(path + "/late"))
        origin.wait_seen(path + "/late")
        load.wait_more(20)
        two.reload()
        load.wait_more(100)
        release.set()
        assert client.read_final().body == b"late"
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])


def test_reloads_in_a_row_under_load(two, origin, shadow, path):
    # UMBRA_RELOADS=1000 for a long one.
    reloads, config = int(os.environ.get("UMBRA_RELOADS", "12")), two.config
    with Load(two, path + "/new", keep_alive=False) as fresh:
        # What http.client does with an answer that says `close`: it connects anew.
        counts, done = {"ok": 0, "broken": []}, threading.Event()

        def ask():
            link = http.client.HTTPConnection("127.0.0.1", two.port, timeout=10)
            while not done.is_set():
                try:
                    link.request("GET", path + "/kept")
                    assert link.getresponse().read() == b"ok"
                    counts["ok"] += 1
                except (OSError, http.client.HTTPException, AssertionError) as fault:
                    counts["broken"].append(repr(fault))
                    link.close()
                time.sleep(0.002)
            link.close()

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            fresh.wait_more(20)
            for number in range(reloads):
                rate = 1.0 if number % 2 else 0.5
                two.reload(merged(config, {"traffic_mirror": {"sample_rate": rate}}))
                fresh.wait_more(20)
        finally:
            done.set()
            thread.join(15)
    assert (fresh.broken, fresh.refused, fresh.wrong, counts["broken"]) == (0, 0, [], [])
    only_the_present_one(two)
    total = fresh.ok + counts["ok"]
    metrics = settled(two, eligible=total)
    # The clients, the gateway and the origin have counted the same; no copy was lost on the way.
    assert answered(metrics) == total
    paths = [f"{path}/new/{n}" for n in range(4)] + [path + "/kept"]
    assert sum(len(origin.seen(each)) for each in paths) == total
    assert metrics.dropped() == {} and metrics.results() == {
        "ok": metrics.sum("umbra_mirror_sent_total")}
    assert metrics.sum("umbra_generation") == reloads + 1
    assert metrics.by("umbra_reloads_total", "result") == {
        "done": reloads, "refused": 0, "failed": 0}


def test_counters_never_go_back(two, path):
    names = ["umbra_requests_total", "umbra_mirror_sampled_total", "umbra_mirror_sent_total",
             "umbra_connections_accepted_total", "umbra_request_duration_seconds_count",
             "umbra_shadow_duration_seconds_count"]
    last, falls, done = {}, [], threading.Event()

    def watch():
        while not done.is_set():
            now = two.metrics()
            for name in names:
                value = now.sum(name)
                if value < last.get(name, 0):
                    falls.append((name, last[name], value))
                last[name] = value
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    with Load(two, path) as load:
        load.wait_more(50)
        thread.start()
        for _ in range(5):
            two.reload()
            load.wait_more(50)
        done.set()
        thread.join(15)
    assert falls == [] and last["umbra_requests_total"] > 250


def test_an_invalid_reload_changes_nothing(two, path):
    before = two.processes()
    config = two.config
    two.file.write_text("version: '1'\nlisten: nonsense\nunknown_key: 1\n")
    two.signal(signal.SIGHUP)
    wait_for(lambda: any("Reload refused" in line for line in two.log), "the refusal")
    assert any("unknown_key" in line and f"{two.file}:3" in line for line in two.log), two.text
    assert two.ask(path).status == 200
    two.configure(config)
    assert [p["pid"] for p in two.processes()] == [p["pid"] for p in before]
    assert two.metrics().by("umbra_reloads_total", "result")["refused"] == 1
    # And it is not the end: the next good one is taken.
    two.reload()
    assert generation(two) > 1


def test_what_cannot_be_had_changes_nothing(two, path, tmp_path):
    before = [p["pid"] for p in two.processes()]
    config = two.config
    # Valid as far as one can see from the file.
    two.configure(merged(config, {"access_log": {"path": str(tmp_path)}}))
    two.signal(signal.SIGHUP)
    wait_for(lambda: any("Reload failed: cannot open access_log.path" in line for line in two.log),
             "the failure")
    assert two.ask(path).status == 200
    assert [p["pid"] for p in two.processes()] == before
    assert two.metrics().by("umbra_reloads_total", "result")["failed"] == 1


def test_processes_that_do_not_start_change_nothing(run_gateway, origin, shadow, path, tmp_path):
    # What processes are started from is another program by the time of the reload.
    program = tmp_path / "umbra"
    shutil.copy(BINARY, program)
    gateway = run_gateway(settings(origin, shadow, runtime={"workers": 2}),
                          environment={"UMBRA_EXECUTABLE": str(program)})
    before = [p["pid"] for p in gateway.processes()]
    program.rename(tmp_path / "kept")
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with Load(gateway, path, keep_alive=False) as load:
        load.wait_more(20)
        gateway.signal(signal.SIGHUP)
        wait_for(lambda: any("Reload failed: " in line and "ended: exit status 3" in line
                             for line in gateway.log), lambda: f"the failure:\n{gateway.text}")
        load.wait_more(50)
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])
    assert [p["pid"] for p in gateway.processes()] == before
    assert gateway.metrics().by("umbra_reloads_total", "result")["failed"] == 1
    only_the_present_one(gateway)
    shutil.copy(BINARY, program)
    gateway.reload()


def test_more_and_fewer_workers(two, path):
    last = 0
    with Load(two, path, keep_alive=False, clients=6) as load:
        for workers in (1, 3, 2):
            two.reload(merged(two.config, {"runtime": {"workers": workers}}))
            load.wait_more(100)
            assert len(two.processes("worker")) == workers
            now = two.metrics().sum("umbra_mirror_sent_total")
            assert now > last
            last = now
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])
    only_the_present_one(two)
    # Who is no more has left its counts to those who are.
    assert answered(settled(two, eligible=load.ok)) == load.ok


def test_listeners_come_and_go(two, path):
    first, second = two.port, free_port()
    config = dict(two.config, listen=[f"127.0.0.1:{first}", f"127.0.0.1:{second}"])
    with Load(two, path, keep_alive=False) as load:
        two.reload(config)
        two.port = second
        assert two.ask(path).status == 200
        two.port = first
        load.wait_more(20)
        # A port that another process has: nothing changes.
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            name = f"127.0.0.1:{taken.getsockname()[1]}"
            two.configure(dict(config, listen=[f"127.0.0.1:{first}", name]))
            two.signal(signal.SIGHUP)
            wait_for(lambda: any(f"Reload failed: cannot listen on {name}" in line
                                 for line in two.log), "the failure")
        load.wait_more(20)
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])
    with Load(two, path, keep_alive=False) as load:
        two.reload(dict(config, listen=f"127.0.0.1:{first}"))
        load.wait_more(20)
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])
    only_the_present_one(two)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", second), timeout=5).close()


def test_a_unix_sockets_file_goes_with_it(run_gateway, origin, path, tmp_path):
    config = settings(origin)
    port, place = config["listen"], tmp_path / "umbra.sock"
    gateway = run_gateway(config)
    gateway.reload(dict(config, listen=[port, f"unix:{place}"]))
    assert place.is_socket()
    gateway.reload(dict(config, listen=port))
    assert not place.exists()
    gateway.reload(dict(config, listen=[port, f"unix:{place}"]))
    assert place.is_socket()
    # Another's file is left alone.
    place.unlink()
    place.write_text("mine")
    assert gateway.stop() == 0
    assert place.read_text() == "mine"


def test_the_admin_listener_moves(two):
    old, new = two.admin_port, free_port()
    config = dict(two.config, admin={"listen": f"127.0.0.1:{new}"})
    two.configure(config)
    two.signal(signal.SIGHUP)
    wait_for(lambda: any("Reloaded" in line for line in two.log), "the reload")
    two.admin_port = new
    assert wait_for(lambda: two.admin("/healthz")[0] == 200, "the new one")
    with pytest.raises(ConnectionRefusedError):
        wait_for(lambda: socket.create_connection(("127.0.0.1", old), timeout=5).close(), "none",
                 timeout=5)


def test_an_idle_connection_has_one_more_request(two, path):
    with two.client() as used, two.client() as idle:
        for client in (used, idle):
            assert exchange(client, path).get("connection") is None
        two.reload()
        got = exchange(used, path)
        assert got.status == 200 and got.get("connection") == "close"
        assert used.read_to_end() == b""
        # Whoever asks nothing is closed, and cleanly.
        assert idle.read_to_end() == b""
    only_the_present_one(two)


def test_an_answer_that_has_begun_keeps_its_promise(two, origin, path):
    release = threading.Event()

    def slow(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        release.wait(10)
        connection.send(b"after")

    origin.on(path, slow)
    with two.client() as client:
        client.send(request_bytes(path))
        wait_for(lambda: client.fill() and b"first" in client.buffer, "the answer's first part")
        two.reload()
        release.set()
        got = client.read_final()
        assert got.body == b"firstafter" and got.get("connection") is None
        # It did not say `close`: so there is one more, and that says it.
        again = exchange(client, path + "/again")
        assert again.status == 200 and again.get("connection") == "close"


def test_copies_under_way_end_under_the_old_settings(two, shadow, path):
    release = threading.Event()
    shadow.on(path, lambda c, r: release.wait(10) and c.send(answer()))
    for _ in range(5):
        assert two.ask(path).status == 200
    shadow.wait_seen(path, 5)
    two.reload(merged(two.config, {"traffic_mirror": {"sample_rate": 0.0}}))
    for _ in range(5):
        assert two.ask(path).status == 200
    release.set()
    metrics = settled(two, eligible=10)
    assert metrics.results() == {"ok": 5} and metrics.dropped() == {}
    assert metrics.sum("umbra_mirror_not_sampled_total") == 5
    only_the_present_one(two)
    assert len(shadow.seen(path)) == 5


def most_in_a_second(times):
    most = first = 0
    for last, time_ in enumerate(times):
        while time_ - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("caps", [(20, 40, 10, 40), (40, 70_000, 40)], ids=["ring", "new-ring"])
def test_no_second_holds_more_than_the_larger_cap(run_gateway, origin, shadow, path, caps):
    times = []
    shadow.on(path + "/0", lambda c, r: (times.append(time.monotonic()), c.send(answer()))[1])
    gateway = run_gateway(settings(
        origin, shadow, runtime={"workers": 2}, traffic_mirror={"limits": {"qps": caps[0]}}))
    marks = []
    with Load(gateway, path, clients=1, gap_s=0.004) as load:
        for before, cap in zip(caps, caps[1:]):
            load.wait_more(150)
            begin = time.monotonic()
            gateway.reload(merged(gateway.config, {"traffic_mirror": {"limits": {"qps": cap}}}))
            marks.append((begin, time.monotonic(), max(before, cap)))
        load.wait_more(150)
        wait_for(lambda: times[-1] > marks[-1][1], "a copy after the last reload")
    settled(gateway)
    # All that arrived in the seconds around a change, under the larger of its two caps.
    for begin, end, cap in marks:
        around = [t for t in times if begin - 1.0 < t < end + 1.0]
        assert most_in_a_second(around) <= cap, (begin, end, cap)
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])


def test_a_tunnel_goes_on_until_the_drain_timeout(run_gateway, origin, path):
    gateway = run_gateway(settings(origin, runtime={"drain_timeout": "2s"}))

    def echo(connection, request):
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                        b"Upgrade: echo\r\n\r\n")
        while data := connection.sock.recv(100):
            connection.sock.sendall(data)

    origin.on(path, echo)
    with gateway.client() as client:
        client.send(request_bytes(path, fields=[("Connection", "Upgrade"), ("Upgrade", "echo")]))
        assert b" 101 " in client.sock.recv(1000)
        gateway.reload()
        client.sock.sendall(b"still here")
        assert client.sock.recv(100) == b"still here"
        begin = time.monotonic()
        client.sock.settimeout(10)
        try:
            assert client.sock.recv(100) == b""
        except ConnectionResetError:
            pass
        assert time.monotonic() - begin < 8
    only_the_present_one(gateway)


def test_what_is_cut_at_the_drain_timeout_is_told(run_gateway, origin, path, tmp_path):
    release = threading.Event()
    origin.on(path, lambda c, r: release.wait(20) and c.send(answer()))
    lines = tmp_path / "access.log"
    gateway = run_gateway(settings(origin, runtime={"drain_timeout": "1s"},
                                   access_log={"path": str(lines)}))
    try:
        with gateway.client() as client:
            client.send(request_bytes(path))
            origin.wait_seen(path)
            gateway.reload()
            wait_for(lambda: any("drain_timeout, and were cut" in line for line in gateway.log),
                     lambda: f"a word about it; log:\n{gateway.text}")
        wait_for(lambda: path in lines.read_text(), "its line")
        assert '"complete":false' in lines.read_text()
        only_the_present_one(gateway)
        assert gateway.metrics().sum("umbra_requests_unanswered_total") == 1
    finally:
        release.set()


def test_a_certificate_changes_under_load(run_gateway, origin, path, tmp_path):
    names = {kind: tmp_path / f"live.{kind}" for kind in ("certificate", "key")}

    def install(name):
        for kind, place in pair(name).items():
            shutil.copy(place, names[kind])
            names[kind].chmod(0o600)

    install("site")
    port = free_port()
    config = settings(origin, listen=[{
        "address": f"127.0.0.1:{port}",
        "tls": {kind: str(place) for kind, place in names.items()}}])
    gateway = run_gateway(config)

    def serial():
        with secure(port) as stream:
            exchange(stream, path)
            return stream.sock.getpeercert()["serialNumber"]

    faults, served, done = [], [], threading.Event()

    def ask():
        while not done.is_set():
            try:
                with secure(port) as stream:
                    assert exchange(stream, path).status == 200
                    served.append(stream.sock.getpeercert()["serialNumber"])
            except Exception as fault:  # noqa: BLE001: whatever it is, it is a finding
                faults.append(repr(fault))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        with secure(port) as kept:
            assert exchange(kept, path).status == 200
            first = serial()
            install("site-rsa")
            gateway.reload()
            # The connection that was there is served, with the certificate that it had.
            assert exchange(kept, path).status == 200
        second = serial()
        assert second != first
        # A broken one is refused; the old one stays.
        names["key"].write_text("no key\n")
        gateway.signal(signal.SIGHUP)
        wait_for(lambda: any("Reload refused" in line for line in gateway.log), "the refusal")
        assert serial() == second
        install("site")
        gateway.reload()
        assert serial() == first
    finally:
        done.set()
        thread.join(15)
    assert faults == [] and set(served) == {first, second}


def test_who_asks_while_one_is_under_way_gets_the_next(two):
    before = generation(two)
    for _ in range(3):
        two.signal(signal.SIGHUP)
    wait_for(lambda: generation(two) > before, "the reload")
    only_the_present_one(two)
    assert before < generation(two) <= before + 3


def test_sigterm_in_the_middle_of_a_reload(two, path):
    assert two.ask(path).status == 200
    two.signal(signal.SIGHUP)
    time.sleep(0.03)
    two.watch()
    assert two.stop() == 0
    assert not any(alive(pid) for pid in two.children)


def test_a_worker_of_the_new_configuration_dies_and_comes_back(two, path):
    two.reload()
    worker = two.pid("worker")
    two.watch()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: two.pid("worker") not in (None, worker), "another")
    assert two.ask(path).status == 200
