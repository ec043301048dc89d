"""The command: options, faults in the configuration, addresses."""

import json
import socket
import subprocess

import pytest

from harness.gateway import BINARY, READY, Gateway, exchange, settings
from harness.ports import free_port
from harness.stream import Stream, connect
from harness.waiting import wait_for


def umbra(*words, timeout=15):
    return subprocess.run([BINARY, *map(str, words)], capture_output=True, text=True,
                          timeout=timeout)


def test_version_and_help():
    assert umbra("--version").stdout.strip()
    for words in ([], ["gateway"], ["policy"]):
        run = umbra(*words, "--help")
        assert run.returncode == 0 and "umbra" in run.stdout + run.stderr


def test_the_binary_brings_its_own_swift():
    """It runs where no Swift is installed, and a process starts a third sooner."""
    needed = subprocess.run(["ldd", BINARY], capture_output=True, text=True, check=True).stdout
    assert "libssl" in needed and "swift" not in needed


@pytest.mark.parametrize("words", [["nonsense"], ["gateway", "nonsense"], ["gateway", "run"],
                                   ["gateway", "run", "--policy-config"],
                                   ["gateway", "run", "--policy-config", "/nowhere.yaml"]])
def test_wrong_commands_say_so(words):
    run = umbra(*words)
    assert run.returncode != 0 and run.stderr.strip()


BAD = {
    "unknown_key": ("version: '1'\nlisten: 127.0.0.1:0\nnonsense: 1\n", "nonsense", 3),
    "wrong_type": ("version: '1'\nlisten: 127.0.0.1:0\nlimits:\n  head_bytes: [1]\n",
                   "limits.head_bytes", 4),
    "bad_address": ("version: '1'\nlisten: 127.0.0.1:99999\n", "listen", 2),
    "undefined_target": ("version: '1'\nproviders:\n  targets:\n    - {id: app, provider: http, "
                         "base_url: 'http://127.0.0.1:1'}\nroutes:\n  - {match: {path: /}, "
                         "target: nobody}\n", "nobody", 6),
    "no_yaml": ("version: [\n", "", 1),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_is_refused_with_its_place(tmp_path, name):
    text, word, line = BAD[name]
    file = tmp_path / "policy-config.yaml"
    file.write_text(text)
    lint = umbra("policy", "lint", "--file", file)
    assert lint.returncode == 2
    said = lint.stdout + lint.stderr
    assert word in said and (name == "no_yaml" or f":{line}" in said), said
    run = umbra("gateway", "run", "--policy-config", file)
    assert run.returncode != 0
    assert word in run.stderr
    as_json = umbra("policy", "lint", "--file", file, "--json")
    found = json.loads(as_json.stdout)
    assert found["valid"] is False and found["errors"][0]["message"]


def test_a_good_configuration_passes_lint(tmp_path, origin, shadow):
    gateway = Gateway(tmp_path, settings(origin, shadow))
    run = umbra("policy", "lint", "--file", gateway.file, "--json")
    assert run.returncode == 0 and json.loads(run.stdout)["valid"] is True


def test_a_taken_port_is_an_error(tmp_path, origin):
    config = settings(origin)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(config["listen"].rpartition(":")[2])))
        taken.listen()
        run = umbra("gateway", "run", "--policy-config", Gateway(tmp_path, config).file)
    assert run.returncode != 0 and config["listen"] in run.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_gateway_on_the_same_port_is_an_error(run_gateway, tmp_path, origin, workers):
    # SO_REUSEPORT would let it share the port in silence, and half of the traffic go astray.
    config = settings(origin, runtime={"workers": workers})
    first = run_gateway(config)
    second = Gateway(tmp_path, dict(config, admin={"listen": f"127.0.0.1:{free_port()}"}))
    run = umbra("gateway", "run", "--policy-config", second.file)
    assert run.returncode != 0 and config["listen"] in run.stderr
    assert first.stop() == 0


@pytest.mark.parametrize("option", ["--port", "--listen"])
def test_options_win_over_the_file(run_gateway, origin, path, option):
    port = free_port()
    words = [option, str(port) if option == "--port" else f"127.0.0.1:{port}"]
    gateway = run_gateway(settings(origin), arguments=words)
    with connect(port) as client:
        assert exchange(client, path).status == 200
    with pytest.raises(OSError):
        gateway.client()
    assert gateway.stop() == 0


def test_several_addresses_ipv6_and_unix(run_gateway, origin, path, tmp_path):
    ports = free_port(), free_port()
    config = settings(origin, listen=[f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}",
                                      f"unix:{tmp_path}/umbra.sock"], runtime={"workers": 2})
    gateway = Gateway(tmp_path, dict(config, listen=f"127.0.0.1:{ports[0]}"))
    gateway.configure(config)
    gateway.start()
    try:
        for number, (family, address) in enumerate((
                (socket.AF_INET, ("127.0.0.1", ports[0])), (socket.AF_INET6, ("::1", ports[1])),
                (socket.AF_UNIX, f"{tmp_path}/umbra.sock"))):
            for _ in range(4):
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.settimeout(10)
                sock.connect(address)
                with Stream(sock) as client:
                    assert exchange(client, f"{path}/{number}").status == 200
        assert origin.seen(f"{path}/1")[0].get("x-forwarded-for") == "::1"
        assert gateway.stop() == 0
    finally:
        gateway.kill()


def test_start_lines(run_gateway, origin, shadow):
    gateway = run_gateway(settings(origin, shadow, traffic_mirror={"sample_rate": 0.25}))
    wait_for(lambda: gateway.is_ready, "ready")
    lines = "\n".join(gateway.log)
    assert "INFO umbra::gateway Loaded 2 provider(s), 0 policy(ies)" in lines
    assert ("INFO umbra::gateway Traffic mirror: primary=app, shadow=next, sample_rate=25%"
            in lines)
    assert lines.index("Traffic mirror") < lines.index(READY)
    assert gateway.stop() == 0
