"""The soak: a mirroring gateway with plain and TLS listeners under load for a while, its shadow and
its primary failing in turn. Memory, descriptors and threads of each process stay what they are after
the warm-up, no process dies, the configuration is read again time after time, and at the end every
count equals what the clients counted.

`make soak` runs it for ten minutes; SOAK_SECONDS sets another time. Not part of the suite."""

import json
import os
import signal
import statistics
import subprocess
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from harness import tls
from harness.gateway import BINARY, descendants, die_with_the_tests, memory_bytes, settings
from harness.metrics import settled
from harness.ports import free_port
from harness.stream import connect
from harness.waiting import wait_for

SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
LOAD = os.environ.get("UMBRA_LOAD", str(Path(BINARY).with_name("load")))
# One turn through the shadow's faults, with a good time after each, and the primary's.
SHADOW_TURN = ["normal", "hang", "normal", "refuse", "normal", "killed", "normal", "reset", "slow",
               "garbage", "never-accept"]
PHASE_S = 5.0
PRIMARY_FAULT_S = 37.0
ROTATE_S = 23.0
RELOAD_S = 13.0
RATE = {"keep-alive": 150, "tls": 60, "new connections": 25, "posts": 25}
MIB = 1 << 20
# Memory that a process may gain after its warm-up: an allocator's spread, not a leak of 250,000
# requests, which would be 16 bytes each.
GROWTH_BYTES_MAX = 4 * MIB
POOL_IDLE_S = 61

pytestmark = pytest.mark.skipif(not SECONDS, reason="make soak")


class Origin:
    """`load origin` on one port: ended and started again as the plan says."""

    def __init__(self, directory, name):
        self.directory, self.name, self.port = directory, name, free_port()
        self.process = None

    def start(self, mode="normal"):
        words = [LOAD, "origin", "--listen", f"127.0.0.1:{self.port}", "--bytes", "512",
                 "--connections", "8000"]
        if mode == "slow":
            words += ["--delay", "700"]
        elif mode != "normal":
            words += ["--mode", mode]
        log = open(self.directory / f"{self.name}.log", "ab")
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=die_with_the_tests)
        log.close()
        if mode not in ("refuse", "never-accept"):
            wait_for(self.answers, f"{self.name} to listen")

    def answers(self):
        assert self.process.poll() is None, (self.directory / f"{self.name}.log").read_text()
        try:
            connect(self.port, timeout=1).close()
            return True
        except OSError:
            return False

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def become(self, mode):
        self.end()
        self.start(mode)


class Faults(threading.Thread):
    """Has the services behind fail in turn, rotates the access log, and reloads."""

    def __init__(self, gateway, primary, shadow, log_file):
        super().__init__(daemon=True)
        self.gateway, self.primary, self.shadow, self.log_file = gateway, primary, shadow, log_file
        self.done = threading.Event()
        self.counts = {"shadow": 0, "primary": 0, "rotations": 0, "reloads": 0}
        self.fault = None

    def run(self):
        try:
            begin, phase, primary, rotation, reload = time.monotonic(), 0, 1, 1, 1
            while not self.done.wait(0.1):
                now = time.monotonic() - begin
                if now > (phase + 1) * PHASE_S:
                    phase += 1
                    self.break_shadow(SHADOW_TURN[phase % len(SHADOW_TURN)])
                if now > primary * PRIMARY_FAULT_S:
                    primary += 1
                    self.primary.end()
                    time.sleep(0.3)
                    self.primary.start()
                    self.counts["primary"] += 1
                if now > rotation * ROTATE_S:
                    rotation += 1
                    self.log_file.rename(f"{self.log_file}.{rotation}")
                    self.gateway.signal(signal.SIGUSR1)
                    wait_for(self.log_file.exists, "the new access log")
                    self.counts["rotations"] += 1
                if now > reload * RELOAD_S:
                    reload += 1
                    self.gateway.reload()
                    self.counts["reloads"] += 1
        except BaseException as fault:
            self.fault = fault
        finally:
            self.shadow.become("normal")

    def break_shadow(self, what):
        if what == "killed":
            # Under load, and back at once.
            self.shadow.become("normal")
            time.sleep(1)
            self.shadow.become("normal")
        else:
            self.shadow.become(what)
        self.counts["shadow"] += 1


class Samples(threading.Thread):
    """Looks at each process of the gateway time after time; a reload puts others in the places of
    all but the supervisor."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway = gateway
        self.rows = {name: [] for name in pids(gateway)}
        self.done = threading.Event()
        self.fault = None
        self.begin = time.monotonic()

    def run(self):
        try:
            while not self.done.wait(1.0):
                for name, pid in pids(self.gateway).items():
                    try:
                        self.rows[name].append((time.monotonic() - self.begin, *look(pid)))
                    except (OSError, AssertionError):
                        # It went, by a reload, between the two looks.
                        continue
        except BaseException as fault:
            self.fault = fault

    def between(self, name, first, last):
        """Of the samples from the share `first` to the share `last` of the time."""
        rows = self.rows[name]
        return rows[int(len(rows) * first):max(1, int(len(rows) * last))]


def pids(gateway):
    """What serves now. Between two admin processes nobody answers for an instant."""
    def ask():
        try:
            return [p for p in json.loads(gateway.admin("/status")[1])["processes"] if p["pid"]]
        except (OSError, ValueError):
            return None

    return {f"{p['role']} {p['index']}": p["pid"] for p in wait_for(ask, "the status")}


def look(pid):
    """Resident bytes, descriptors and threads of a process."""
    return (memory_bytes(pid), len(os.listdir(f"/proc/{pid}/fd")),
            len(os.listdir(f"/proc/{pid}/task")))


def run_load(url, seconds, rate, *options):
    return subprocess.Popen(
        [LOAD, "run", "--url", url, "--seconds", str(seconds), "--rate", str(rate), "--grace", "10",
         "--timeout", "20", "--json", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=die_with_the_tests)


def secure_port(gateway):
    return int(gateway.config["listen"][1]["address"].rpartition(":")[2])


def start_load(gateway, seconds):
    plain = f"http://127.0.0.1:{gateway.port}/soak"
    secure = f"https://127.0.0.1:{secure_port(gateway)}/soak"
    return {
        "keep-alive": run_load(plain, seconds, RATE["keep-alive"], "--connections", "32"),
        "tls": run_load(secure, seconds, RATE["tls"], "--connections", "16", "--reconnect",
                        "--tls-resume"),
        "new connections": run_load(plain, seconds, RATE["new connections"], "--connections", "16",
                                    "--reconnect"),
        "posts": run_load(plain, seconds, RATE["posts"], "--connections", "8", "--method", "POST",
                          "--body", "20000", "--chunked"),
    }


def log_lines(log_file):
    """Lines of all files that the log was written to; each has to be whole."""
    count = 0
    for file in log_file.parent.glob(log_file.name + "*"):
        for line in file.read_bytes().splitlines():
            assert line.startswith(b'{"time":') and line.endswith(b"}"), line[:200]
            count += 1
    return count


def test_soak(run_gateway, tmp_path):
    primary, shadow = Origin(tmp_path, "primary"), Origin(tmp_path, "shadow")
    primary.start()
    shadow.start()
    log_file = tmp_path / "access.log"
    gateway = run_gateway(settings(
        primary, shadow, listen=[f"127.0.0.1:{free_port()}", tls.listener()],
        runtime={"workers": 2}, access_log={"path": str(log_file)},
        traffic_mirror={
            "sample_rate": 0.5, "timeout_ms": 500, "limits": {"qps": 100, "in_flight": 64},
            "safety": {"methods": ["GET", "POST"]}, "breaker": {"open": "200ms", "open_max": "1s"}}))
    before = {name: look(pid) for name, pid in pids(gateway).items()}
    begin = datetime.now(timezone.utc)
    faults, samples = Faults(gateway, primary, shadow, log_file), Samples(gateway)
    loads = start_load(gateway, SECONDS)
    try:
        faults.start()
        samples.start()
        results = {}
        for name, process in loads.items():
            out, errors = process.communicate(timeout=SECONDS + 60)
            assert out.startswith(b"{"), errors.decode()
            results[name] = json.loads(out)["total"]
        faults.done.set()
        samples.done.set()
        faults.join(15)
        samples.join(5)
        assert faults.fault is None and samples.fault is None, (faults.fault, samples.fault)
        metrics = settled(gateway, timeout=30)
        report = check(gateway, samples, before, results, metrics, log_file, faults)
    finally:
        for process in loads.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        primary.end()
        shadow.end()
    report.insert(0, f"{begin:%Y-%m-%d %H:%M} UTC, {SECONDS:g} s, {os.cpu_count()} CPUs, load average "
                     f"{os.getloadavg()[1]:.1f}")
    text = "\n".join(report)
    print("\n" + text)
    if os.environ.get("SOAK_REPORT"):
        Path(os.environ["SOAK_REPORT"]).write_text(text + "\n")


def check(gateway, samples, before, results, metrics, log_file, faults):
    report = []
    # The clients' counts.
    answered = sum(r["answered"] for r in results.values())
    for name, result in results.items():
        report.append(f"{name}: {result['answered']} answers of {result['offered']} requests "
                      f"({result['status']['5xx']} of them 5xx)")
        assert sum(result["failed"].values()) == 0, (name, result)
        assert result["answered"] == result["offered"], (name, result)
        assert result["wrong_length"] == 0 or result["status"]["5xx"] > 0, (name, result)
        assert result["status"]["2xx"] + result["status"]["5xx"] == result["answered"]
    assert metrics.sum("umbra_requests_total") == answered
    for code in ("2xx", "5xx"):
        assert metrics.sum("umbra_requests_total", code=code) == sum(
            r["status"][code] for r in results.values())
    assert metrics.sum("umbra_requests_unanswered_total") == 0
    report.append(f"mirror: {metrics.mirror()}")
    report.append(f"faults: {faults.counts}")
    # Those of the access log.
    handed = metrics.sum("umbra_log_records_total")
    dropped = metrics.by("umbra_log_dropped_total", "reason")
    assert handed + dropped["queue_full"] == answered and dropped["write_failed"] == 0
    wait_for(lambda: log_lines(log_file) == handed,
             lambda: f"{handed:g} log lines, {log_lines(log_file)} are there")
    report.append(f"access log: {handed:g} lines in {faults.counts['rotations'] + 1} files, "
                  f"{dropped['queue_full']:g} dropped")
    # The processes.
    report += ["", "| process | RSS after warm-up, MiB | at the end | descriptors | threads |",
               "|---|---|---|---|---|"]
    wrong = []
    for name in samples.rows:
        early, late = samples.between(name, 0.25, 0.5), samples.between(name, 0.75, 1)
        rss = [statistics.median(row[1] for row in part) for part in (early, late)]
        peaks = [max(row[2] for row in part) for part in (early, late)]
        # The usual number: one that starts has fewer yet, one that reads the configuration one more.
        threads = {statistics.mode(row[3] for row in part) for part in (early, late)}
        report.append(f"| {name} | {rss[0] / MIB:.1f} | {rss[1] / MIB:.1f} | "
                      f"{peaks[0]} → {peaks[1]} | {', '.join(map(str, sorted(threads)))} |")
        if rss[1] - rss[0] > GROWTH_BYTES_MAX:
            wrong.append(f"{name} grew from {rss[0] / MIB:.1f} to {rss[1] / MIB:.1f} MiB")
        if peaks[1] > peaks[0] * 1.5 + 16:
            wrong.append(f"{name}'s descriptors went from {peaks[0]} to {peaks[1]}")
        if threads != {before[name][2]}:
            wrong.append(f"{name} had {before[name][2]} threads, then {sorted(threads)}")
    assert not wrong, "\n".join(wrong + report)
    assert not [line for line in gateway.log if " died" in line or "Reload failed" in line]
    assert metrics.sum("umbra_process_restarts_total") == 0
    # At rest there are as many processes as at the start, and each descriptor is one that was there
    # then, or an idle one of a pool.
    wait_for(lambda: len(descendants(gateway.process.pid)) == len(before) - 1,
             lambda: f"{len(before) - 1} processes, {len(descendants(gateway.process.pid))} are there")
    wait_for(lambda: gateway.metrics().sum("umbra_connections_open") == 0, "all clients to be gone")
    for name, pid in pids(gateway).items():
        wait_for(lambda: look(pid)[1] <= before[name][1], lambda: f"{name}: {before[name][1]} "
                 f"descriptors at the start, {look(pid)[1]} at the end", POOL_IDLE_S + 10, every=0.5)
    report.append("")
    report.append("descriptors at rest: as at the start, in every process")
    # What the log said of it all stays short.
    own = [line for line in gateway.log if "umbra::gateway" in line]
    report.append(f"the gateway's own log: {len(own)} lines")
    assert len(own) < 100 + SECONDS, own[:20]
    return report
