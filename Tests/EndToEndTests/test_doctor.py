"""`umbra doctor`: what it finds on a good day and on bad ones, and that it does no harm."""

import ctypes
import json
import os
import resource
import socket
import subprocess
import time

import pytest

from harness import tls
from harness.gateway import BINARY, merged, settings
from harness.ports import free_port


def doctor(config, tmp_path, *arguments, environment=None, timeout=25, before=None):
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config))
    return subprocess.run(
        [BINARY, "doctor", "--policy-config", str(file), *arguments], stdin=subprocess.DEVNULL,
        capture_output=True, timeout=timeout, cwd=tmp_path, preexec_fn=before,
        env=dict(os.environ, **(environment or {})))


def findings(config, tmp_path, **options):
    """Exit code, and the findings by check."""
    run = doctor(config, tmp_path, "--json", **options)
    report = json.loads(run.stdout)
    assert run.stderr == b"" and run.stdout.count(b"\n") == 1
    problems = [f for f in report["findings"] if f["verdict"] == "problem"]
    assert report["problems"] == len(problems) and report["ok"] == (not problems)
    assert run.returncode == (1 if problems else 0)
    for finding in report["findings"]:
        assert (finding["remedy"] is None) == (finding["verdict"] == "ok"), finding
    by = {}
    for finding in report["findings"]:
        by.setdefault(finding["check"], []).append(finding)
    return run.returncode, by


def only(by, check, verdict):
    found = [f for f in by.get(check, []) if f["verdict"] == verdict]
    assert len(found) == 1, by.get(check)
    return found[0]


def test_all_is_well(origin, shadow, tmp_path):
    code, by = findings(settings(origin, shadow, access_log={"path": "access.log"},
                                 runtime={"connections_per_worker": 1024}), tmp_path)
    assert code == 0
    assert set(by) == {"configuration", "target", "folder", "port", "limit", "clock"}
    assert [f["verdict"] for f in by["target"]] == ["ok", "ok"]
    assert f"reached at 127.0.0.1:{origin.port} in " in by["target"][0]["detail"]
    assert {f["subject"] for f in by["limit"]} == {"nofile", "somaxconn", "cpus", "memory"}
    # It has made no file and sent no byte.
    assert not (tmp_path / "access.log").exists()
    assert not origin.heads


def test_the_text_names_remedies(origin, tmp_path):
    config = settings(origin)
    config["providers"]["targets"][0]["base_url"] = f"http://127.0.0.1:{free_port()}"
    run = doctor(config, tmp_path)
    text = run.stdout.decode()
    assert run.returncode == 1
    assert "problem  target" in text and "Connection refused" in text and "→ see that it runs" in text
    assert " checks: 1 problems, " in text.splitlines()[-1]


def test_a_faulty_configuration(origin, tmp_path):
    code, by = findings(settings(origin, limits={"head_byts": 1}), tmp_path)
    finding = only(by, "configuration", "problem")
    assert code == 1 and "E002" in finding["detail"] and "head_bytes" in finding["remedy"]
    assert set(by) == {"configuration", "clock"}


def test_a_missing_file(tmp_path):
    run = subprocess.run([BINARY, "doctor", "--policy-config", str(tmp_path / "none")],
                         capture_output=True, timeout=10)
    assert run.returncode == 1 and b"E014" in run.stdout
    run = subprocess.run([BINARY, "doctor"], capture_output=True, timeout=10)
    assert run.returncode == 2 and b"--policy-config" in run.stderr


def test_a_target_that_does_not_answer_takes_bounded_time(origin, tmp_path):
    # A listener whose queue is full: connects hang, as through a firewall that drops.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        time.sleep(0.1)
        config = settings(origin)
        config["providers"]["targets"] += [
            {"id": f"deaf{n}", "base_url": f"http://127.0.0.1:{port}"} for n in range(20)]
        begin = time.monotonic()
        code, by = findings(config, tmp_path)
        took = time.monotonic() - begin
        for filler in fillers:
            filler.close()
    hung = [f for f in by["target"] if "no answer within 3000 ms" in f["detail"]]
    # All at one time, each for three seconds.
    assert code == 1 and len(hung) == 20 and took < 10, f"{len(hung)} in {took:.1f} s"


def test_a_name_that_is_none(origin, tmp_path):
    config = settings(origin)
    config["providers"]["targets"][0]["base_url"] = "http://no-such-host.invalid:80"
    code, by = findings(config, tmp_path)
    assert code == 1 and "no-such-host.invalid" in only(by, "target", "problem")["subject"]


@pytest.fixture(scope="module")
def secure_origin():
    peer = tls.TLSPeer("secure")
    yield peer
    peer.stop()


def secure(origin, peer, **options):
    config = settings(origin)
    config["providers"]["targets"][0] = {
        "id": "app", "base_url": f"https://127.0.0.1:{peer.port}",
        "tls": merged({"ca": tls.file("ca.pem"), "server_name": "site.test"}, options)}
    return config


def test_an_https_target(origin, secure_origin, tmp_path):
    code, by = findings(secure(origin, secure_origin), tmp_path)
    assert "TLS 1.3 handshake" in only(by, "target", "ok")["detail"]
    assert "days left" in by["certificate"][0]["detail"]
    assert code == 0 or by["certificate"][0]["verdict"] != "ok"


@pytest.mark.parametrize("options, why", [
    ({"server_name": "other.example"}, "ostname mismatch"), ({"ca": None}, "certificate verify failed")])
def test_an_https_target_that_does_not_prove_itself(origin, secure_origin, tmp_path, options, why):
    code, by = findings(secure(origin, secure_origin, **options), tmp_path)
    finding = only(by, "target", "problem")
    assert code == 1 and why in finding["detail"] and "tls.ca" in finding["remedy"]


def test_tls_to_a_plain_target(origin, tmp_path):
    code, by = findings(secure(origin, origin), tmp_path)
    assert code == 1 and "TLS" in only(by, "target", "problem")["detail"]


def test_own_certificates(origin, tmp_path):
    config = settings(origin)
    config["listen"] = [{"address": f"127.0.0.1:{free_port()}", "tls": {
        "certificate": tls.file("site.pem"), "key": tls.file("site.key")}}]
    _, by = findings(config, tmp_path)
    assert [f["subject"] for f in by["certificate"]] == [tls.file("site.pem")]


def test_folders(origin, tmp_path):
    code, by = findings(settings(origin, access_log={"path": "/nowhere/access.log"}), tmp_path)
    finding = only(by, "folder", "problem")
    assert code == 1 and finding["subject"] == "/nowhere" and "No such file" in finding["detail"]


def test_ports_that_are_taken(origin, shadow, tmp_path):
    code, by = findings(settings(origin, listen=f"127.0.0.1:{shadow.port}"), tmp_path)
    problems = [f for f in by["port"] if f["verdict"] == "problem"]
    assert code == 1 and "another process listens there" in problems[0]["detail"]
    # Without an admin listener nobody can say whose the port is.
    code, by = findings(settings(origin, listen=f"127.0.0.1:{shadow.port}", admin="off"), tmp_path)
    assert code == 0 and "this gateway or another" in only(by, "port", "warning")["detail"]
    code, by = findings(settings(origin, listen="203.0.113.7:9000"), tmp_path)
    assert code == 1 and "no address of this machine" in only(by, "port", "problem")["detail"]


def test_beside_a_gateway_that_runs(gateway, tmp_path, path):
    _, by = findings(gateway.config, tmp_path)
    assert {f["detail"] for f in by["port"]} == {"served by a gateway that runs"}
    assert gateway.ask(path).status == 200


def test_limits(origin, tmp_path):
    def narrow():
        # As in test_descriptors: without CAP_SYS_RESOURCE.
        ctypes.CDLL(None).prctl(24, 24, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    code, by = findings(settings(origin, runtime={"workers": 256}), tmp_path, before=narrow)
    nofile = next(f for f in by["limit"] if f["subject"] == "nofile")
    assert code == 1 and nofile["verdict"] == "problem" and "LimitNOFILE=33024" in nofile["remedy"]
    cpus = next(f for f in by["limit"] if f["subject"] == "cpus")
    assert cpus["verdict"] == "warning" and "256 workers" in cpus["detail"]


def test_the_token(origin, tmp_path):
    config = settings(origin, admin={"token": {"env": "UMBRA_DOCTOR_TOKEN"}})
    _, by = findings(config, tmp_path)
    assert by["token"][0]["verdict"] == "warning"
    _, by = findings(config, tmp_path, environment={"UMBRA_DOCTOR_TOKEN": "t0psecret"})
    assert by["token"][0]["verdict"] == "ok"
    assert "t0psecret" not in json.dumps(by)


def test_a_gateway_does_not_start_without_its_token(origin, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(settings(origin, admin={"token": {"env": "UMBRA_DOCTOR_TOKEN"}})))
    run = subprocess.run([BINARY, "gateway", "run", "--policy-config", str(file)],
                         capture_output=True, timeout=20)
    assert run.returncode == 1 and b"UMBRA_DOCTOR_TOKEN, which is not set" in run.stderr
