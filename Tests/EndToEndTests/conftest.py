"""Fixtures: one gateway, origin and shadow a module, all ended by pid whatever happens."""

import os
import sys
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.gateway import Gateway, descendants, settings  # noqa: E402
from harness.mock import Mock  # noqa: E402
from harness.nginx import NginxProxy  # noqa: E402
from harness.peer import Peer  # noqa: E402

NGINX_INSTEAD = os.environ.get("UMBRA_E2E_PROXY", "umbra") == "nginx"


def pytest_collection_modifyitems(items):
    if NGINX_INSTEAD:
        for item in items:
            if (item.get_closest_marker("generic") is None
                    or item.get_closest_marker("beyond_nginx")):
                item.add_marker(pytest.mark.skip(reason="not for nginx"))


@pytest.fixture
def path():
    """A path that no other test uses, so that peers can tell the tests' requests apart."""
    return f"/t/{uuid.uuid4().hex[:12]}"


def _peer(name):
    peer = Peer(name)
    yield peer
    peer.stop()
    assert not peer.faults, f"{name}'s scripts failed: {peer.faults[0]}"


@pytest.fixture(scope="module")
def origin():
    yield from _peer("origin")


@pytest.fixture(scope="module")
def shadow():
    yield from _peer("shadow")


@pytest.fixture(scope="module")
def mocks():
    """Stand-ins for OpenAI and Anthropic that take no other key than `right-o` and `right-a`. A few
    large bodies do not use their tokens up: the SDKs would wait for more, a minute."""
    pair = [Mock(api, "--key", key, "--tokens-per-minute", "100000000")
            for api, key in (("openai", "right-o"), ("anthropic", "right-a"))]
    yield pair
    for mock in pair:
        mock.stop()


@pytest.fixture(scope="module")
def run_gateway(tmp_path_factory):
    """Starts gateways that end with the module at the latest."""
    started = []

    def start(config, **options):
        gateway = Gateway(tmp_path_factory.mktemp("gateway"), config, **options)
        started.append(gateway)
        return gateway.start()

    yield start
    faults = []
    for gateway in started:
        running = gateway.process is not None and gateway.process.poll() is None
        try:
            code = gateway.stop()
            if running and code != 0:
                faults.append(f"exit code {code} after SIGTERM; log:\n{gateway.text}")
        except AssertionError as fault:
            faults.append(str(fault))
        finally:
            gateway.kill()
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def gateway_settings():
    """What a module's gateway has besides the defaults; modules override it."""
    return {}


@pytest.fixture(scope="module")
def gateway(request, origin, gateway_settings, tmp_path_factory):
    """The module's gateway, everything to `origin`, no mirror."""
    if NGINX_INSTEAD:
        proxy = NginxProxy(tmp_path_factory.mktemp("nginx"), origin.port)
        yield proxy
        proxy.stop()
        return
    start = request.getfixturevalue("run_gateway")
    yield start(settings(origin, **gateway_settings))


@pytest.fixture(scope="module")
def mirroring(run_gateway, origin, shadow, gateway_settings):
    """The module's gateway, everything to `origin` and its copy to `shadow`."""
    yield run_gateway(settings(origin, shadow, **gateway_settings))


@pytest.fixture(autouse=True)
def no_process_dies(request):
    """No test may cost a process of the module's gateway; those that kill say so themselves."""
    names = {"gateway", "mirroring"} & set(request.fixturenames)
    if NGINX_INSTEAD or not names:
        yield
        return
    gateway = request.getfixturevalue(names.pop())
    if gateway.process.poll() is not None:
        # An earlier test cost it its life and said so; this one is to be judged by itself.
        gateway.start()
    before = descendants(gateway.process.pid)
    yield
    after = descendants(gateway.process.pid)
    assert gateway.process.poll() is None, f"the supervisor ended; log:\n{gateway.text}"
    assert after == before, f"processes {before} became {after}; log:\n{gateway.text}"
