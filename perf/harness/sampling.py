"""What `perf` says of running processes: where time goes by sampling, how many system calls."""

import re
import signal
import subprocess
import time

from .bench import has
from .processes import Fault

SAMPLES_PER_SECOND = 4999
KERNEL_BASE = 1 << 63


class Perf:
    """`perf` beside a run. The virtual machines of clouds often have no hardware counters, so it
    is asked for clocks and tracepoints only."""

    def __init__(self, arguments, log):
        self.log = open(log, "wb")
        self.process = subprocess.Popen(
            ["perf"] + [str(word) for word in arguments], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=subprocess.STDOUT)
        # It has to have attached before the load begins.
        time.sleep(0.3)
        if self.process.poll() is not None:
            self.log.close()
            with open(log, errors="replace") as file:
                raise Fault(f"perf {arguments[0]} failed: {file.read()[-300:]}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def threads_option(pids):
    return ["-p", ",".join(str(pid) for pid in pids)]


def count_system_calls(pids, directory, run):
    """(what `run()` returned, system calls that the processes made meanwhile), or None."""
    if not has("perf"):
        return None
    out = directory / "syscalls.txt"
    try:
        perf = Perf(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-o", out]
                    + threads_option(pids), directory / "perf.log")
    except Fault:
        return None
    try:
        done = run()
    finally:
        perf.stop()
    for line in out.read_text().splitlines():
        if "raw_syscalls:sys_enter" in line and line.split(",")[0].isdigit():
            return done, int(line.split(",")[0])
    return None


def user_share(pids, directory, run):
    """(what `run()` returned, share of the processes' CPU time outside the kernel), or None.

    The clock ticks behind /proc/PID/stat come 250 times a second; this samples 5,000 times.
    """
    if not has("perf"):
        return None
    data = directory / "perf.data"
    try:
        perf = Perf(["record", "-q", "-F", SAMPLES_PER_SECOND, "-e", "cpu-clock", "-o", data]
                    + threads_option(pids), directory / "perf.log")
    except Fault:
        return None
    try:
        done = run()
    finally:
        perf.stop()
    text = subprocess.run(
        ["perf", "script", "-i", str(data), "-F", "ip"], capture_output=True, text=True).stdout
    addresses = [int(word, 16) for word in re.findall(r"^\s*([0-9a-f]+)", text, re.MULTILINE)]
    if len(addresses) < 500:
        return None
    user = sum(1 for address in addresses if address < KERNEL_BASE)
    return done, user / len(addresses), len(addresses)


def system_calls_by_name(pids, directory, run):
    """(what `run()` returned, [(name, calls, errors)], the most frequent first), or None."""
    out = directory / "trace.txt"
    try:
        perf = Perf(["trace", "-s", "-o", out] + threads_option(pids), directory / "perf.log")
    except Fault:
        return None
    try:
        done = run()
    finally:
        perf.stop()
    found = {}
    for line in out.read_text(errors="replace").splitlines():
        match = re.match(r"^\s+(\w+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+[\d.]+", line)
        if match:
            calls, errors = found.get(match.group(1), (0, 0))
            found[match.group(1)] = (calls + int(match.group(2)), errors + int(match.group(3)))
    rows = [(name, calls, errors) for name, (calls, errors) in found.items()]
    return done, sorted(rows, key=lambda row: -row[1])
