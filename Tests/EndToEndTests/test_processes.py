"""Deaths: of the shadow process, of workers, of the supervisor; and the status command."""

import ctypes
import os
import platform
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness.gateway import (BINARY, alive, descendants, exchange, memory_bytes, request_bytes,
                             settings, trap)
from harness.load import Load
from harness.message import Incomplete
from harness.metrics import settled
from harness.waiting import wait_for

MIB = 1 << 20


@pytest.fixture
def two(run_gateway, origin, shadow):
    """Two workers and a shadow, ended with the test."""
    gateway = run_gateway(settings(origin, shadow, runtime={"workers": 2}))
    yield gateway
    if gateway.process.poll() is None:
        assert gateway.stop() == 0, gateway.text


def test_status_lists_every_process(two):
    processes = two.processes()
    assert sorted((p["role"], p["index"]) for p in processes) == [
        ("admin", 0), ("shadow", 0), ("supervisor", 0), ("worker", 0), ("worker", 1)]
    assert all(p["state"] == "running" and p["restarts"] == 0 for p in processes)
    pids = {p["pid"] for p in processes}
    assert pids == {two.process.pid, *descendants(two.process.pid)}


def test_status_for_people(two):
    run = subprocess.run([BINARY, "gateway", "status", "--policy-config", str(two.file)],
                         capture_output=True, text=True, timeout=15)
    assert run.returncode == 0
    for word in ("supervisor", "worker", "shadow", "admin", str(two.process.pid)):
        assert word in run.stdout


def test_status_of_a_gateway_that_does_not_run(two):
    two.stop()
    run = subprocess.run([BINARY, "gateway", "status", "--policy-config", str(two.file), "--json"],
                         capture_output=True, text=True, timeout=15)
    assert run.returncode != 0
    assert run.stderr.strip()


def scheduling(pid):
    """The nice value, and the slice in ns: `sched_attr` of sched_getattr(2)."""
    attributes = ctypes.create_string_buffer(56)
    # 315 is its number on x86-64, 275 wherever the numbers are the common ones.
    number = 315 if platform.machine() == "x86_64" else 275
    assert ctypes.CDLL(None).syscall(number, pid, attributes, 56, 0) == 0
    _, _, _, nice, _, slice_ns = struct.unpack_from("IIQiIQ", attributes)
    return nice, slice_ns


def test_who_serves_no_user_stands_back(run_gateway, origin, shadow):
    """From its first moment on: loading a new shadow process is milliseconds that workers would wait."""
    gateway = run_gateway(settings(origin, shadow, runtime={"shadow_nice": 12}))

    def by_role():
        return {p["role"]: p["pid"] for p in gateway.processes()}
    first = by_role()
    nices = {role: scheduling(pid)[0] for role, pid in first.items()}
    own = os.nice(0)
    assert nices == {"supervisor": own, "worker": own, "shadow": max(own, 12), "admin": max(own, 5)}
    kill(first["shadow"])
    wait_for(lambda: by_role().get("shadow") not in (first["shadow"], 0, None), "another shadow process")
    assert scheduling(by_role()["shadow"])[0] == nices["shadow"]
    if tuple(map(int, re.findall(r"\d+", platform.release())[:2])) >= (6, 12):
        slices = {role: scheduling(pid)[1] for role, pid in by_role().items()}
        assert slices["supervisor"] == slices["shadow"] == slices["admin"] == 10_000_000 > slices["worker"]


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def terminate(pid):
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("end", [kill, trap, terminate])
def test_the_shadow_process_dies_under_load(two, shadow, path, end):
    with Load(two, path) as load:
        for _ in range(3):
            load.wait_more(30)
            pid = two.pid("shadow")
            end(pid)
            died = time.monotonic()
            wait_for(lambda: not alive(pid), "the shadow process's end")
            count = len(shadow.requests)
            wait_for(lambda: len(shadow.requests) > count, "copies after the death")
            assert time.monotonic() - died < 3
            wait_for(lambda: two.pid("shadow") not in (None, pid), "a new shadow process")
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])
    metrics = settled(two)
    assert metrics.sum("umbra_mirror_eligible_total") == load.ok
    assert next(p for p in two.processes("shadow"))["restarts"] >= 3


def test_loans_come_back_after_the_shadow_processs_death(run_gateway, origin, shadow, path):
    gateway = run_gateway(settings(origin, shadow, runtime={"blocks_on_loan_max": 64},
                                   traffic_mirror={"safety": {"methods": ["POST"]}}))
    hold = threading.Event()
    shadow.on(path + "/held", lambda c, r: hold.wait(20) and None)
    body = b"x" * 100_000
    for _ in range(3):
        with gateway.client() as client:
            for _ in range(20):
                assert exchange(client, path + "/held", "POST", body=body).status == 200
        pid = gateway.pid("shadow")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid), "the shadow process's end")
        wait_for(lambda: gateway.pid("shadow") != pid, "a new shadow process")
        count = len(shadow.seen(path + "/free"))

        def copied():
            assert gateway.ask(path + "/free", "POST", body=body).status == 200
            return len(shadow.seen(path + "/free")) > count

        wait_for(copied, "copies after the death", every=0.1)
    hold.set()
    settled(gateway)
    assert gateway.stop() == 0


def test_the_shadow_process_stands_still_under_load(two, shadow, path):
    pid = two.pid("shadow")
    with Load(two, path) as load:
        load.wait_more(20)
        os.kill(pid, signal.SIGSTOP)
        try:
            load.wait_more(300)
        finally:
            os.kill(pid, signal.SIGCONT)
        count = len(shadow.requests)
        wait_for(lambda: len(shadow.requests) > count, "copies after SIGCONT")
    assert (load.broken, load.refused, load.wrong) == (0, 0, [])
    metrics = settled(two)
    assert metrics.sum("umbra_mirror_eligible_total") == load.ok


@pytest.mark.parametrize("end", [kill, trap])
def test_a_worker_dies_and_no_connection_is_refused(two, path, end):
    # A connection for each request: every one of them has to be accepted, at every moment.
    with Load(two, path, keep_alive=False) as load:
        for round_ in range(3):
            load.wait_more(50)
            pid = two.pid("worker", round_ % 2)
            end(pid)
            wait_for(lambda: not alive(pid), "the worker's end")
            load.wait_more(50)
            wait_for(lambda: two.pid("worker", round_ % 2) != pid, "a new worker")
    assert load.refused == 0 and load.wrong == []
    # Only what was in the dead worker's hands at the moment of death.
    assert load.broken <= 3 * len(load.threads)
    settled(two)


def test_a_workers_death_costs_only_its_own_connections(two, path):
    clients = [two.client() for _ in range(24)]
    for client in clients:
        assert exchange(client, path).status == 200
    mine = connections_of(two.pid("worker", 0), two.port)
    os.kill(two.pid("worker", 0), signal.SIGKILL)
    broken = 0
    for client in clients:
        is_its = client.sock.getsockname()[1] in mine
        try:
            assert exchange(client, path).status == 200
            assert not is_its
        except (Incomplete, OSError):
            assert is_its, "a connection of the other worker broke"
            broken += 1
        client.close()
    assert broken == len(mine)


def connections_of(pid, port):
    """The client's ports of the established connections that a process holds."""
    inodes = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{entry}")
        except OSError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    ports = set()
    with open("/proc/net/tcp") as table:
        for line in list(table)[1:]:
            parts = line.split()
            local, remote, state = parts[1], parts[2], parts[3]
            if state == "01" and int(local.split(":")[1], 16) == port and parts[9] in inodes:
                ports.add(int(remote.split(":")[1], 16))
    return ports


def test_a_connection_in_a_dead_workers_queue_is_served(run_gateway, origin, path):
    # One worker, standing still: the connection waits in its accept queue when it dies.
    gateway = run_gateway(settings(origin))
    pid = gateway.pid("worker")
    os.kill(pid, signal.SIGSTOP)
    waiting = [gateway.client() for _ in range(5)]
    for client in waiting:
        client.send(request_bytes(path))
    os.kill(pid, signal.SIGKILL)
    for client in waiting:
        assert client.read_final().status == 200
        client.close()
    assert gateway.stop() == 0


def test_children_die_with_the_supervisor(two):
    children = descendants(two.process.pid)
    assert len(children) == 4
    two.process.kill()
    two.process.wait()
    wait_for(lambda: not any(alive(pid) for pid in children), "the children's end")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", two.port), timeout=2).close()


@pytest.mark.parametrize("role", ["admin", "shadow"])
def test_other_children_are_started_anew(two, path, role):
    pid = two.pid(role)
    os.kill(pid, signal.SIGKILL)

    def back():
        # The admin process may be the one that answers `status`: it may be away for a moment.
        try:
            now = two.processes(role)[0]
        except AssertionError:
            return False
        return now["pid"] != pid and now["restarts"] == 1 and now["state"] == "running"

    wait_for(back, f"a new {role}", every=0.05)
    assert two.ask(path).status == 200
    wait_for(lambda: two.admin("/healthz")[0] == 200, "the admin listener")


def test_a_worker_that_dies_again_and_again_is_held_back(two, path):
    begin, pids = time.monotonic(), []
    lines = len(two.log)

    def held():
        now = next(p for p in two.processes("worker") if p["index"] == 0)
        if now["state"] == "running" and now["pid"] and now["pid"] not in pids:
            pids.append(now["pid"])
            try:
                os.kill(now["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass
            return False
        return now["state"] != "running" and len(pids) >= 3

    wait_for(held, lambda: f"to be held back; killed {len(pids)} times", timeout=20)
    # Its socket is served by the other one meanwhile: every connection gets an answer.
    for _ in range(40):
        assert two.ask(path).status == 200
    said = [line for line in two.log[lines:] if "worker" in line]
    assert said, "nothing was said of it"
    # Far fewer starts than an unheld child would have had.
    assert len(pids) <= 5 * (time.monotonic() - begin) + 5
    wait_for(lambda: all(p["state"] == "running" for p in two.processes("worker")),
             "its return", timeout=40, every=0.2)


def test_sigterm_lets_requests_in_flight_end(two, origin, path):
    release = threading.Event()
    origin.on(path, lambda c, r: release.wait(10) and c.send(b"HTTP/1.1 200 OK\r\n"
                                                           b"Content-Length: 4\r\n\r\nlate"))
    with two.client() as client, two.client() as idle:
        assert exchange(idle, path.replace("/t/", "/u/")).status == 200
        client.send(request_bytes(path))
        origin.wait_seen(path)
        two.signal(signal.SIGTERM)
        # New connections end being accepted, idle ones are closed, the old request goes on.
        assert idle.wait_end() == b""
        wait_for(lambda: not connects(two.port), "the listener's end")
        assert two.process.poll() is None
        release.set()
        got = client.read_final()
        assert got.body == b"late"
    assert two.process.wait(15) == 0


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
        return True
    except OSError:
        return False


def test_sigint_ends_it_too(two):
    two.signal(signal.SIGINT)
    assert two.process.wait(15) in (0, 130)


def test_memory_at_rest(two, path):
    two.ask(path)
    for worker in two.processes("worker"):
        assert memory_bytes(worker["pid"]) <= 16 * MIB, worker
    total = sum(memory_bytes(pid, "Pss") for pid in [two.process.pid,
                                                      *descendants(two.process.pid)])
    assert total <= 64 * MIB, f"{total >> 20} MiB"


def test_idle_connections_cost_little(two, path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("too few descriptors allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    pids = [p["pid"] for p in two.processes("worker")]
    two.ask(path)
    held = sum(memory_bytes(pid) for pid in pids)
    clients = []
    try:
        for _ in range(2000):
            clients.append(two.client())
            assert exchange(clients[-1], path).status == 200
        # 0.5 KiB each, and what the allocator takes at a time; blocks that copies took go back.
        grown = 0

        def is_little():
            nonlocal grown
            grown = sum(memory_bytes(pid) for pid in pids) - held
            return grown <= 2000 * 512 + MIB

        wait_for(is_little, lambda: f"0.5 KiB a connection: {grown / 2000:.0f} bytes", every=0.2)
    finally:
        for client in clients:
            client.close()


def test_descriptors_do_not_leak(two, path):
    # The shadow process is left out: its pool is as wide as its copies were at one time.
    pids = [p["pid"] for p in two.processes() if p["role"] != "shadow"]

    def count():
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

    two.ask(path)
    settled(two)
    before = count()
    for number in range(300):
        with two.client() as client:
            if number % 3:
                exchange(client, path)
            else:
                client.send(b"GET ")
    wait_for(lambda: all(now <= was + 4 for now, was in zip(count(), before)),
             lambda: f"descriptors back from {count()} to {before}")
