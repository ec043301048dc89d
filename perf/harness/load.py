"""The origin and the generator: the tool `load` of Benchmarks/Load."""

import json
import socket
import signal
import subprocess
import threading

from .processes import Child, Fault, check_listener, listening_inodes, wait_until

READY_SECONDS = 10.0

# A browser's usual fields, so that heads are parsed as long as they are in real life: with the
# request line and Host some 430 bytes.
REQUEST_FIELDS = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: http://127.0.0.1/bench/index.html",
    "Cache-Control: max-age=0",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
]


class Origin(Child):
    """`load origin`: answers, or fails in a chosen way."""

    def __init__(self, tool, port, log, cpu, mode="normal", body_bytes=1024, delay_ms=0.0, name=None):
        self.port = port
        self.mode = mode
        super().__init__(
            [tool, "origin", "--listen", f"127.0.0.1:{port}", "--mode", mode, "--bytes", body_bytes,
             "--delay", delay_ms, "--connections", 16000, "--cpu", cpu],
            log, cpus={cpu}, name=name or f"origin:{port}")
        if mode == "refuse":
            # It holds the port without listening; its first line says that it does.
            ready = wait_until(lambda: "load origin:" in self.log_tail(), READY_SECONDS)
        else:
            ready = wait_until(
                lambda: bool(listening_inodes(port)) or not self.is_running(), READY_SECONDS)
        if not ready or not self.is_running():
            raise Fault(f"{self.name} does not start:\n{self.log_tail()}")

    def check(self):
        if self.mode == "refuse":
            if listening_inodes(self.port):
                raise Fault(f"{self.name}: somebody listens on port {self.port}, where nobody should")
        else:
            check_listener(self.port, self)

    def finish(self):
        """Ends it and returns what it counted."""
        self.end(signal.SIGTERM)
        with open(self.log, errors="replace") as file:
            text = file.read()
        if "{" not in text:
            raise Fault(f"{self.name} ended without its counts:\n{text[-500:]}")
        return json.loads(text[text.index("{"):])


class LoadRun:
    """What one run of the generator found. Counts are of all requests, the warm-up included,
    because the proxy counts those too; latencies and rates are of the measured time."""

    def __init__(self, result):
        self.result = result
        total = result["total"]
        self.offered = total["offered"]
        self.sent = total["sent"]
        self.answered = total["answered"]
        self.ok = total["status"]["2xx"]
        self.failed = sum(total["failed"].values())
        self.unanswered = total["unanswered"]
        self.wrong = total["wrong_length"] + total["stray_bytes"]
        self.per_second = result["answers_per_second"]
        self.p50_ms = result["latency"]["p50_ms"]
        self.p99_ms = result["latency"]["p99_ms"]
        self.lateness_p50_ms = result["lateness"]["p50_ms"]
        self.generator_us = result["generator_cpu_us_per_request"]
        self.connections_made = total["connections_made"]
        self.resumed = total["resumed"]


def run_load(tool, port, cpu, *, seconds, warmup=0.5, rate=None, connections=64, method="GET",
             body=0, expect_bytes=None, requests=None, path="/bench", grace=2.0, tls=None,
             reconnect=False, body_file=None, fields=REQUEST_FIELDS, nice=0):
    """Runs the generator to its end. `tls` is its options for https, a list. Raises `Fault` where it
    cannot."""
    scheme = "http" if tls is None else "https"
    command = [tool, "run", "--url", f"{scheme}://127.0.0.1:{port}{path}", "--seconds", seconds,
               "--warmup", warmup, "--connections", connections, "--method", method,
               "--grace", grace, "--cpu", cpu, "--json"]
    for field in fields:
        command += ["--header", field]
    command += tls or []
    if reconnect:
        command.append("--reconnect")
    if rate is not None:
        command += ["--rate", rate]
    if body:
        command += ["--body", body]
    if body_file is not None:
        command += ["--body-file", body_file]
    if expect_bytes is not None:
        command += ["--expect-bytes", expect_bytes]
    if requests is not None:
        command += ["--requests", requests]
    if nice:
        command = ["nice", "-n", nice] + command
    bound = seconds + warmup + grace + 30
    try:
        done = subprocess.run(
            [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=bound)
    except subprocess.TimeoutExpired as fault:
        raise Fault(f"load did not end within {bound:.0f} s") from fault
    if "{" not in done.stdout:
        raise Fault(f"load failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return LoadRun(json.loads(done.stdout))


class BackgroundLoad(threading.Thread):
    """`run_load(…)` beside what this process does meanwhile, started at once."""

    def __init__(self, *args, **how):
        super().__init__(daemon=True)
        self.args, self.how = args, how
        self.found = self.fault = None
        self.start()

    def run(self):
        try:
            self.found = run_load(*self.args, **self.how)
        except Exception as fault:  # handed to whoever joins
            self.fault = fault

    def result(self):
        self.join()
        if self.fault:
            raise self.fault
        return self.found


def exchange(port, path="/", seconds=5.0):
    """One GET by hand; the status code, or None where none came."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
            client.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            head = client.recv(65536)
            while client.recv(65536):
                pass
            return int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else None
    except (OSError, ValueError, IndexError):
        return None
