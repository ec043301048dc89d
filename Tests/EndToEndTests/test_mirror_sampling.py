"""The sample: exact to ±1 per worker and route, unpredictable, sticky by a field's value."""

import pytest

from harness.gateway import exchange, settings
from harness.metrics import settled


def ask_many(gateway, path, count, per_connection=50):
    for begin in range(0, count, per_connection):
        with gateway.client() as client:
            for number in range(begin, min(count, begin + per_connection)):
                assert exchange(client, f"{path}/{number}").status == 200


def numbers(shadow, path):
    return sorted(int(r.path.rpartition("/")[2]) for r in shadow.seen(path))


ROUTES = {"/all/": 1.0, "/half/": 0.5, "/third/": 0.333, "/tenth/": 0.1, "/hundredth/": 0.01,
          "/none/": 0.0}


@pytest.fixture(scope="module")
def mirroring(run_gateway, origin, shadow):
    return run_gateway(settings(origin, shadow, runtime={"workers": 2}, routes=[
        {"name": prefix.strip("/"), "match": {"path_prefix": prefix}, "target": "app",
         "mirror": {"sample_rate": rate}} for prefix, rate in ROUTES.items()] + [
        {"name": "off", "match": {"path_prefix": "/off/"}, "target": "app",
         "mirror": {"enabled": False}}]))


@pytest.mark.parametrize("prefix", ROUTES)
def test_the_sample_is_exact(mirroring, shadow, path, prefix):
    rate, count, route = ROUTES[prefix], 240, prefix.strip("/")
    ask_many(mirroring, prefix.rstrip("/") + path, count, per_connection=20)
    metrics = settled(mirroring)
    part = {"route": route}
    assert metrics.sum("umbra_mirror_eligible_total", **part) == count
    eligible = metrics.by("umbra_mirror_eligible_total", "worker", **part)
    sampled = metrics.by("umbra_mirror_sampled_total", "worker", **part)
    for worker, seen in eligible.items():
        assert abs(sampled.get(worker, 0) - rate * seen) <= 1, (worker, seen, sampled)
    assert len(shadow.seen(prefix.rstrip("/") + path)) == sum(sampled.values())


def test_a_route_that_is_off_is_not_eligible(mirroring, shadow, path):
    ask_many(mirroring, "/off" + path, 10)
    metrics = settled(mirroring)
    assert metrics.sum("umbra_mirror_eligible_total", route="off") == 0
    assert not shadow.seen("/off" + path)


def test_the_default_route_keeps_the_blocks_own_rate(mirroring, shadow, path):
    ask_many(mirroring, path, 10)
    shadow.wait_seen(path, 10)


def test_positions_are_unpredictable(run_gateway, origin, shadow, path):
    gateway = run_gateway(settings(origin, shadow, traffic_mirror={"sample_rate": 0.1}))
    ask_many(gateway, path, 300)
    settled(gateway, eligible=300)
    picked = numbers(shadow, path)
    gateway.stop()
    assert 29 <= len(picked) <= 31
    # One for each ten, but not always the same one: 30 draws that all fall on at most 3 of 10
    # places would be a chance of 1e-13.
    assert len({n % 10 for n in picked}) > 3, picked
    strata = [n // 10 for n in picked]
    assert max(strata.count(s) for s in strata) <= 2


def sticky_settings(origin, shadow, workers):
    return settings(origin, shadow, runtime={"workers": workers}, traffic_mirror={
        "sample_rate": 0.5, "sample_by": "header:X-User-Id"})


def users_mirrored(gateway, shadow, path, users=60, rounds=4):
    for number in range(rounds):
        for user in range(users):
            # A connection each, so that both workers see each user.
            assert gateway.ask(f"{path}/{number}/{user}",
                               fields=[("x-user-id", f"user-{user}")]).status == 200
    settled(gateway, eligible=users * rounds)
    by_user = {}
    for copy in shadow.seen(path):
        by_user.setdefault(copy.path.rpartition("/")[2], []).append(copy)
    # Always or never.
    assert {len(copies) for copies in by_user.values()} == {rounds}
    return set(by_user)


def test_sticky_samples_are_the_same_everywhere(run_gateway, origin, shadow, path):
    first = run_gateway(sticky_settings(origin, shadow, 2))
    chosen = users_mirrored(first, shadow, path + "/a")
    # Half of the users, give or take what 60 coins may do (1e-6).
    assert 12 <= len(chosen) <= 48, chosen
    second = run_gateway(sticky_settings(origin, shadow, 1))
    assert users_mirrored(second, shadow, path + "/b", rounds=1) == chosen
    first.stop()
    assert first.start() and users_mirrored(first, shadow, path + "/c", rounds=1) == chosen
    first.stop()
    second.stop()


def test_a_sticky_sample_without_the_field_is_still_accounted(run_gateway, origin, shadow, path):
    gateway = run_gateway(sticky_settings(origin, shadow, 1))
    ask_many(gateway, path, 40)
    settled(gateway, eligible=40)
    gateway.stop()


def test_mirroring_switched_off_sends_nothing(run_gateway, origin, shadow, path):
    gateway = run_gateway(settings(origin, shadow, traffic_mirror={"enabled": False}))
    ask_many(gateway, path, 20)
    metrics = settled(gateway)
    assert metrics.sum("umbra_mirror_sent_total") == 0
    assert not shadow.seen(path)
    gateway.stop()
