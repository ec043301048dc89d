"""The latency guard: mirroring that slows the users' requests is held, and said aloud."""

import threading
import time

import pytest

from harness.gateway import request_bytes, settings
from harness.waiting import wait_for

USERS = 64
LINES = 8


@pytest.fixture(scope="module")
def guarded(run_gateway, origin, shadow):
    """Half of the users are mirrored, by a field: so the test knows who, and can slow just them."""
    return run_gateway(settings(origin, shadow, traffic_mirror={
        "sample_rate": 0.5, "sample_by": "header:x-user", "guard": {"p99_overhead": 0.05}}))


def mirrored_users(gateway, shadow):
    for user in range(USERS):
        assert gateway.ask("/who", fields=[("X-User", user)]).status == 200
    wait_for(lambda: gateway.metrics().sum("umbra_mirror_outstanding") == 0, "all copies back")
    found = {int(request.get("x-user")) for request in shadow.seen("/who")}
    assert 0 < len(found) < USERS
    return found


def load(gateway, mirrored, until, slow_path):
    """Requests of all users on several connections until `until` is set; one in ten of the mirrored
    ones goes to `slow_path`."""
    def line(first):
        with gateway.client() as client:
            turn = 0
            while not until.is_set():
                turn += 1
                for user in range(first, USERS, LINES):
                    slow = user in mirrored and turn % 10 == 0
                    client.send(request_bytes(
                        slow_path if slow else "/fast", fields=[("X-User", user)]))
                    assert client.read_final("GET").status == 200

    threads = [threading.Thread(target=line, args=(first,), daemon=True) for first in range(LINES)]
    for thread in threads:
        thread.start()
    return threads


def test_a_costly_mirror_is_held_and_said(guarded, origin, shadow):
    origin.on("/slow", lambda connection, request: (
        time.sleep(0.02), connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))[1])
    mirrored = mirrored_users(guarded, shadow)
    ended = threading.Event()
    threads = load(guarded, mirrored, ended, "/slow")
    try:
        wait_for(lambda: guarded.metrics().sum("umbra_mirror_guard_held") == 1, "a hold", 90)
        before = guarded.metrics().sum("umbra_mirror_eligible_total")
        time.sleep(0.5)
        after = guarded.metrics()
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)
    assert after.sum("umbra_mirror_guard_holds_total") == 1
    assert any("WARN" in line and "Mirroring is held" in line for line in guarded.log)
    # Held, nothing is eligible: users are served all the same.
    assert after.sum("umbra_mirror_eligible_total") == before
    assert not any(thread.is_alive() for thread in threads)
