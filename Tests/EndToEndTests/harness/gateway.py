"""The gateway under test: started from a settings dictionary, watched, and ended by pid."""

import ctypes
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from .metrics import Metrics
from .ports import free_port
from .stream import connect
from .waiting import wait_for

BINARY = os.environ.get("UMBRA_BIN") or str(
    Path(__file__).resolve().parents[3] / ".build/release/umbra")
READY = "Gateway ready"
START_S = 20.0
STOP_S = 15.0

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def die_with_the_tests():
    """In the child, before exec: a killed pytest leaves nothing behind."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def merged(base, over):
    """`over` laid over `base`, mapping by mapping; None takes a key away."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def plain_settings(targets):
    """What every configuration of the tests has; the first target gets everything."""
    return {
        "version": "1",
        "listen": f"127.0.0.1:{free_port()}",
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        # A test that fails may leave an exchange behind: the drain is shorter than its patience.
        "runtime": {"workers": 1, "pin_cpus": False, "drain_timeout": "5s"},
        "providers": {"targets": targets},
    }


def settings(origin, shadow=None, **over):
    """A whole configuration: everything to `origin`, all of it copied to `shadow`."""
    targets = [{"id": "app", "provider": "http", "base_url": f"http://127.0.0.1:{origin.port}"}]
    result = plain_settings(targets)
    if shadow is not None:
        targets.append({"id": "next", "provider": "http",
                        "base_url": f"http://127.0.0.1:{shadow.port}"})
        result["traffic_mirror"] = {
            "enabled": True, "primary": "app", "shadow": "next", "sample_rate": 1.0,
            "limits": {"qps": 100000, "in_flight": 1000},
        }
    return merged(result, over)


def llm_settings(targets, **over):
    """A configuration of LLM targets; `over` takes the place of whole blocks."""
    return {**plain_settings(targets), **over}


def listen_ports(config):
    """The ports of `listen`, in whichever of its forms."""
    entries = config["listen"] if isinstance(config["listen"], list) else [config["listen"]]
    addresses = [e["address"] if isinstance(e, dict) else str(e) for e in entries]
    return [int(address.rpartition(":")[2]) for address in addresses]


def process_table():
    """pid → (parent, state) of every process."""
    table = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            rest = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        table[int(entry)] = (int(rest[1]), rest[0])
    return table


def descendants(pid):
    table = process_table()
    found, edge = [], {pid}
    while edge:
        edge = {p for p, (parent, _) in table.items() if parent in edge}
        found += edge
    return sorted(found)


def alive(pid):
    entry = process_table().get(pid)
    return entry is not None and entry[1] not in "ZX"


def memory_bytes(pid, name="Rss"):
    """`Rss` or `Pss` of one process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name} of {pid}")


def trap(pid):
    """Makes a process run into a trap of its own, as a failed precondition does: it meets ud2 at its
    next return from a system call. A SIGILL that is sent would be survived where there is a handler."""
    def write():
        parts = Path(f"/proc/{pid}/syscall").read_text().split()
        if len(parts) <= 2:
            return False
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(int(parts[-1], 16))
            memory.write(b"\x0f\x0b")
        return True

    wait_for(write, "the process in a system call", every=0.001)


class Gateway:
    def __init__(self, directory, config, arguments=(), environment=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file = self.directory / "policy-config.yaml"
        self.configure(config)
        self.port = listen_ports(config)[0]
        self.admin_port = int(config["admin"]["listen"].rpartition(":")[2])
        self.command = [
            BINARY, "gateway", "run", "--policy-config", str(self.file), *arguments]
        self.environment = dict(os.environ, **(environment or {}))
        self.log = []
        self.process = None
        self.children = set()

    def configure(self, config):
        """Writes the settings; JSON is YAML."""
        self.config = config
        self.file.write_text(json.dumps(config, indent=1) + "\n")

    def start(self, ready=True):
        self.log = []
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=self.directory, env=self.environment, preexec_fn=self.prepare)
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self._collect, args=(stream,), daemon=True).start()
        if ready:
            try:
                wait_for(lambda: self.is_ready or self.process.poll() is not None,
                         lambda: f"ready; log:\n{self.text}", START_S)
                assert self.is_ready, f"ended with {self.process.returncode}; log:\n{self.text}"
            except BaseException:
                self.kill()
                raise
            self.watch()
        return self

    def prepare(self):
        """In the child, before exec."""
        die_with_the_tests()

    def _collect(self, stream):
        for line in stream:
            self.log.append(line.decode(errors="replace").rstrip("\n"))

    @property
    def text(self):
        return "\n".join(self.log[-60:])

    @property
    def is_ready(self):
        return any(READY in line for line in list(self.log))

    def watch(self):
        """Remembers the present children, so that a later end can be checked against them."""
        self.children |= set(descendants(self.process.pid))
        return self.children

    def signal(self, number):
        os.kill(self.process.pid, number)

    def stop(self):
        """SIGTERM; the exit code. Whatever does not end in time is killed and is a failure."""
        if self.process is None or self.process.poll() is not None:
            self.kill()
            return self.process and self.process.returncode
        self.watch()
        self.signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {STOP_S:g} s of SIGTERM; log:\n{self.text}")
        left = [pid for pid in self.children if alive(pid)]
        self.kill()
        assert not left, f"children outlived the supervisor: {left}"
        return code

    def kill(self):
        """Ends everything that is left, by pid."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.watch()
            self.process.kill()
            self.process.wait()
        for pid in self.children:
            if alive(pid) and self._is_ours(pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    @staticmethod
    def _is_ours(pid):
        try:
            return b"umbra" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def client(self, **options):
        return connect(self.port, **options)

    def ask(self, target, method="GET", fields=(), body=b"", host="umbra.test"):
        """One request on a connection of its own; its final answer."""
        with self.client() as client:
            return exchange(client, target, method, fields, body, host)

    def admin(self, path, method="GET"):
        """Status and text of an admin page."""
        link = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            link.request(method, path)
            response = link.getresponse()
            return response.status, response.read().decode()
        finally:
            link.close()

    def metrics(self):
        status, text = self.admin("/metrics")
        assert status == 200, text
        return Metrics(text)

    def status(self):
        """What `umbra gateway status --json` prints."""
        run = subprocess.run(
            [BINARY, "gateway", "status", "--policy-config", str(self.file), "--json"],
            capture_output=True, timeout=15, cwd=self.directory)
        assert run.returncode == 0, run.stderr.decode() + run.stdout.decode()
        return json.loads(run.stdout)

    def processes(self, role=None):
        return [p for p in self.status()["processes"] if role in (None, p["role"])]

    def pid(self, role, index=0):
        return next(p["pid"] for p in self.processes(role) if p["index"] == index)

    def reload(self, config=None):
        """Has the file read again, with `config` in it; waits until it is served."""
        if config is not None:
            self.configure(config)
        before = self._said("umbra::gateway Reload")
        self.signal(signal.SIGHUP)
        wait_for(lambda: self._said("umbra::gateway Reload") >= before + 2,
                 lambda: f"the end of the reload; log:\n{self.text}", START_S)
        self.watch()
        said = [line for line in self.log if "umbra::gateway Reload" in line][-1]
        assert "Reloaded" in said, self.text

    def _said(self, words):
        return sum(words in line for line in list(self.log))


def request_bytes(target, method="GET", fields=(), body=b"", host="umbra.test",
                  version="HTTP/1.1"):
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in fields]
    names = {name.lower() for name, _ in fields}
    if body and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def exchange(client, target, method="GET", fields=(), body=b"", host="umbra.test"):
    client.send(request_bytes(target, method, fields, body, host))
    return client.read_final(method)


def chunked(*pieces, trailers=()):
    data = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces)
    return data + b"0\r\n" + b"".join(b"%s: %s\r\n" % t for t in trailers) + b"\r\n"


def resident_during(pids, work, every=0.02):
    """The most that the processes held together while `work()` ran."""
    most, done = [0], threading.Event()

    def sample():
        while not done.is_set():
            held = 0
            for pid in pids:
                try:
                    held += memory_bytes(pid)
                except (OSError, AssertionError):
                    pass
            most[0] = max(most[0], held)
            time.sleep(every)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        result = work()
    finally:
        done.set()
        sampler.join()
    return most[0], result
