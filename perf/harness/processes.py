"""Children that are always ended, and what /proc says of them: CPU time, memory, listeners."""

import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1
TERMINATE_SECONDS = 5.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None, use_errno=True)


class Fault(Exception):
    """Something that makes the figures worthless, or keeps them from being taken."""


class Child:
    """A process started by this one, pinned to CPUs, with its output in a file.

    SIGTERM reaches it when this process dies, in whatever way.
    """

    running = []

    def __init__(self, command, log, cpus=None, name=None, environment=None):
        self.command = [str(word) for word in command]
        self.name = name or os.path.basename(self.command[0])
        self.log = log
        self._output = open(log, "wb")
        parent = os.getpid()

        def before_exec():
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            if cpus is not None:
                os.sched_setaffinity(0, cpus)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])

        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
            preexec_fn=before_exec, start_new_session=True,
            env={**os.environ, **(environment or {})})
        self.pid = self.process.pid
        Child.running.append(self)

    def tree(self):
        return process_tree(self.pid)

    def is_running(self):
        return self.process.poll() is None

    def log_tail(self, lines=15):
        try:
            with open(self.log, errors="replace") as file:
                return "\n".join(file.read().splitlines()[-lines:])
        except OSError:
            return ""

    def end(self, number=signal.SIGTERM, seconds=TERMINATE_SECONDS):
        """Ends it and all that descends from it, by pid, and says how it ended."""
        known = {pid: start_time(pid) for pid in self.tree()}
        if self.is_running():
            self.process.send_signal(number)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid, started in known.items():
            # The start time tells it from a later process with the same number.
            if pid != self.pid and started is not None and start_time(pid) == started:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self._output.close()
        if self in Child.running:
            Child.running.remove(self)
        return self.process.returncode

    @classmethod
    def end_all(cls):
        for child in list(cls.running):
            child.end(seconds=2.0)


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None


def stat_fields(pid):
    """The fields of /proc/PID/stat behind the name: state, parent, …"""
    text = read(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2:].split() if text else None


def start_time(pid):
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def process_tree(root):
    """The pids of a process and all that descend from it, the root first."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_fields(entry)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry))
    found, at = [root], 0
    while at < len(found):
        found += sorted(children.get(found[at], []))
        at += 1
    return [pid for pid in found if os.path.exists(f"/proc/{pid}")]


@dataclass
class CPUTime:
    """Nanoseconds that processes ran so far. The total is the scheduler's own account, exact;
    the split into user and system is by clock ticks, so it needs seconds to mean something."""

    total: int = 0
    user: int = 0
    system: int = 0

    def __sub__(self, other):
        return CPUTime(
            self.total - other.total, self.user - other.user, self.system - other.system)

    def __add__(self, other):
        return CPUTime(
            self.total + other.total, self.user + other.user, self.system + other.system)


def cpu_time(pids):
    result = CPUTime()
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            text = read(f"/proc/{pid}/task/{thread}/schedstat")
            if text:
                result.total += int(text.split()[0])
        fields = stat_fields(pid)
        if fields:
            result.user += int(fields[11]) * 1_000_000_000 // TICKS_PER_SECOND
            result.system += int(fields[12]) * 1_000_000_000 // TICKS_PER_SECOND
    return result


@dataclass
class Memory:
    """KiB. Shared pages count once in `pss` of all, and in full in each one's `rss`."""

    rss: int = 0
    pss: int = 0


def memory(pids):
    result = Memory()
    for pid in pids:
        text = read(f"/proc/{pid}/smaps_rollup")
        for line in (text or "").splitlines():
            if line.startswith("Rss:"):
                result.rss += int(line.split()[1])
            elif line.startswith("Pss:"):
                result.pss += int(line.split()[1])
    return result


@dataclass
class CoreTimes:
    """Nanoseconds so far, by clock ticks: at work for this machine; wanted, and taken by its host."""

    busy: int = 0
    stolen: int = 0


def core_times_ns(cpu):
    for line in read("/proc/stat").splitlines():
        words = line.split()
        if words[0] == f"cpu{cpu}":
            user, nice, system, _idle, _wait, irq, soft, steal = (
                int(word) * 1_000_000_000 // TICKS_PER_SECOND for word in words[1:9])
            return CoreTimes(user + nice + system + irq + soft, steal)
    return CoreTimes()


def listening_inodes(port):
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (read(table) or "").splitlines()[1:]:
            fields = line.split()
            # 0A is TCP_LISTEN; field 1 is address:port in hexadecimal.
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(fields[9])
    return inodes


def holders(inodes):
    """For each inode of a socket, the pids that hold it."""
    found = {inode: set() for inode in inodes}
    links = {f"socket:[{inode}]": inode for inode in inodes}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            for descriptor in os.listdir(f"/proc/{entry}/fd"):
                inode = links.get(os.readlink(f"/proc/{entry}/fd/{descriptor}"))
                if inode:
                    found[inode].add(int(entry))
        except OSError:
            continue
    return found


def check_listener(port, child):
    """Raises `Fault` unless `child`'s processes, and no other, listen on `port`.

    With SO_REUSEPORT a forgotten process takes its share of the connections silently.
    """
    inodes = listening_inodes(port)
    if not inodes:
        raise Fault(f"{child.name}: nobody listens on port {port}")
    own = set(child.tree())
    for inode, pids in holders(inodes).items():
        if not pids or not pids <= own:
            raise Fault(f"{child.name}: port {port} is held by {sorted(pids)}, not only {sorted(own)}")


def check_free(port):
    if listening_inodes(port):
        raise Fault(f"port {port} is taken already; choose others with --port")


def wait_until(condition, seconds, step=0.02):
    """Whether `condition()` became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True
