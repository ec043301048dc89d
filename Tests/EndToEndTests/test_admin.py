"""The admin listener: health, readiness, metrics that Prometheus can read."""

import os
import signal
import threading

import pytest

from harness.gateway import exchange, request_bytes, settings
from harness.metrics import settled
from harness.stream import connect
from harness.waiting import wait_for

NAMES = ["umbra_requests_total", "umbra_mirror_eligible_total", "umbra_mirror_sampled_total",
         "umbra_mirror_not_sampled_total", "umbra_mirror_sent_total",
         "umbra_mirror_dropped_total", "umbra_mirror_results_total",
         "umbra_mirror_bytes_copied_total", "umbra_request_duration_seconds_count",
         "umbra_request_duration_seconds_sum", "umbra_request_duration_seconds_bucket"]
REASONS = {"body_too_large", "loan_limit", "queue_full", "in_flight_limit", "qps_cap",
           "breaker_open", "cool_down", "connect_failed", "tls_failed", "client_aborted",
           "shadow_down", "shadow_restarted", "worker_restarted", "capture_limit", "invalid_copy", "stale",
           "switched_off", "unmapped_model", "untranslatable", "side_effects",
           "memory_limit"}


@pytest.mark.parametrize("page", ["/healthz", "/readyz", "/metrics", "/status"])
def test_pages(mirroring, page):
    assert mirroring.admin(page)[0] == 200


@pytest.mark.parametrize("page", ["/", "/nothing", "/metricsx", "/../etc/passwd"])
def test_unknown_pages(mirroring, page):
    assert mirroring.admin(page)[0] in (404, 400)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_other_methods(mirroring, method):
    assert mirroring.admin("/metrics", method)[0] in (405, 404)


def test_the_admin_pages_are_not_on_the_traffic_port(mirroring, origin):
    mirroring.ask("/metrics")
    assert origin.seen("/metrics")


@pytest.mark.parametrize("name", NAMES)
def test_metric_is_there(mirroring, path, name):
    mirroring.ask(path)
    assert name in mirroring.metrics().names()


def test_every_drop_reason_is_there_from_the_start(mirroring):
    got = set(mirroring.metrics().by("umbra_mirror_dropped_total", "reason"))
    assert got == REASONS


def test_every_family_has_help_and_type(mirroring, path):
    mirroring.ask(path)
    for family in mirroring.metrics().families:
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram", "summary"), family.name
        assert family.name.startswith("umbra_") or family.name.startswith("process_")


def test_content_type(mirroring):
    with connect(mirroring.admin_port) as client:
        got = exchange(client, "/metrics", host="127.0.0.1")
        assert got.get("content-type").startswith("text/plain; version=0.0.4")


def test_requests_are_counted(mirroring, path):
    before = mirroring.metrics().sum("umbra_requests_total")
    with mirroring.client() as client:
        for _ in range(7):
            exchange(client, path)
    wait_for(lambda: mirroring.metrics().sum("umbra_requests_total") == before + 7, "7 more")


def test_durations_are_counted(mirroring, path):
    name = "umbra_request_duration_seconds_count"
    before = mirroring.metrics().sum(name)
    for _ in range(3):
        mirroring.ask(path)
    wait_for(lambda: mirroring.metrics().sum(name) == before + 3, "3 more durations")
    metrics = mirroring.metrics()
    top = metrics.sum("umbra_request_duration_seconds_bucket", le="+Inf")
    assert top == metrics.sum(name)


@pytest.mark.parametrize("word", [
    "mirror_ring_depth", "blocks_on_loan", "mirror_in_flight", "upstream_connections_idle",
    "upstream_connections_open", "connections_open", "loop_turn_seconds", "blocks_taken"])
def test_inner_state_is_shown(mirroring, word):
    assert any(word in name for name in mirroring.metrics().names()), word


def test_counters_never_go_back(mirroring, shadow, path):
    mirroring.ask(path)
    before = settled(mirroring)
    for _ in range(5):
        mirroring.ask(path)
    after = settled(mirroring)
    old = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in before.samples
           if s.name.endswith("_total")}
    for sample in after.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert sample.value >= old.get(key, 0), key


def test_readiness_follows_the_drain(run_gateway, origin, path):
    release = threading.Event()
    gateway = run_gateway(settings(origin))
    assert gateway.admin("/readyz")[0] == 200
    origin.on(path, lambda c, r: release.wait(10) and c.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    with gateway.client() as client:
        client.send(request_bytes(path))
        origin.wait_seen(path)
        os.kill(gateway.process.pid, signal.SIGTERM)

        def not_ready():
            try:
                return gateway.admin("/readyz")[0] == 503
            except OSError:
                # The admin listener may be gone already; a load balancer reads that alike.
                return True

        try:
            wait_for(not_ready, "readiness to end with the drain")
        finally:
            release.set()
        assert client.read_final().status == 200
    assert gateway.process.wait(15) == 0


def test_a_rude_admin_client_does_no_harm(mirroring, path):
    for raw in (b"\x00" * 5000, b"GET " + b"a" * 200000, b"GET /metrics HTTP/1.1\r\n" * 1000, b""):
        with connect(mirroring.admin_port) as client:
            client.send(raw)
    idle = [connect(mirroring.admin_port) for _ in range(50)]
    try:
        assert mirroring.admin("/healthz")[0] == 200
        assert mirroring.ask(path).status == 200
    finally:
        for client in idle:
            client.close()
