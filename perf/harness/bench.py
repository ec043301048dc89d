"""One run: where the tools are, which cores, which ports, and a round of load with its checks."""

import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import machine
from .load import Origin, run_load
from .processes import Child, CPUTime, Fault, core_times_ns, cpu_time, wait_until
from .proxies import KINDS

ROOT = Path(__file__).resolve().parents[2]
# How long a proxy's own count may take to show the last request.
COUNT_SECONDS = 3.0
# Work of others on the proxy's core above which a round is called disturbed, as a share of it.
FOREIGN_SHARE_MAX = 0.03
# A round begins once the two cores together are busy for less than this share of one, looked at
# for so long.
QUIET_SHARE_MAX = 0.2
QUIET_LOOK_SECONDS = 0.2
# What the host may take of either core in a round (steal time), as a share of it. At 4 % the P99 of a
# proxy without copies was seen to double: one request in a hundred is what a P99 is made of.
STOLEN_SHARE_MAX = 0.02
STOLEN_SHARE_MAX_LATENCY = 0.005
# Where more rounds than this share lost more, and patience was over, the figures are not to be trusted.
STOLEN_ROUNDS_MAX = 0.25


@dataclass
class Round:
    """One proxy under load for some seconds."""

    load: object
    cpu: CPUTime
    worker_cpu: CPUTime
    foreign_share: float
    # By how much `count` of `Bench.measure` rose.
    counted: float | None
    # Requests sent, those of disturbed attempts included.
    sent: int

    @property
    def cpu_us(self):
        return self.cpu.total / 1000 / max(1, self.load.answered)

    @property
    def worker_us(self):
        return self.worker_cpu.total / 1000 / max(1, self.load.answered)

    @property
    def user_us(self):
        return self.cpu.user / 1000 / max(1, self.load.answered)

    @property
    def system_us(self):
        return self.cpu.system / 1000 / max(1, self.load.answered)


class Bench:
    def __init__(self, options):
        self.root = ROOT
        self.work = ROOT / "perf" / ".work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.options = options
        self.umbra = Path(options.umbra).resolve()
        self.load_tool = str(Path(options.load).resolve())
        self.proxy_cpu = options.proxy_cpu
        self.load_cpu = options.load_cpu
        self.envoy = None
        self.next_port = options.port
        self.rounds = options.rounds
        self.seconds = options.seconds
        self.warmup = options.warmup
        self.begin(getattr(options, "patience", 0))
        self.descriptors = raise_descriptor_limit()
        os.sched_setaffinity(0, {self.load_cpu})

    # What is needed

    def prepare(self, kinds):
        """Installs what is missing, and fails before anything is measured where that cannot be."""
        if not os.access(self.load_tool, os.X_OK):
            raise Fault(f"no {self.load_tool}; build it with: swift build -c release --product load")
        if "umbra" in kinds and not os.access(self.umbra, os.X_OK):
            raise Fault(f"no {self.umbra}; build it with: swift build -c release --product umbra")
        if "nginx" in kinds:
            machine.install_with_apt("nginx", "nginx-core")
        if "haproxy" in kinds:
            machine.install_with_apt("haproxy", "haproxy")
        if "envoy" in kinds:
            self.envoy = machine.envoy_binary(self.work)

    def begin(self, patience):
        """A new scenario, whose rounds may wait for quiet, and be repeated, for so many seconds."""
        self.patience = patience
        self.disturbed = self.repeated = self.stolen = 0
        self.stolen_shares = []

    def notes(self):
        """How quiet the machine was."""
        found = []
        if self.disturbed:
            found.append(f"{self.disturbed} rounds were disturbed by others' work on the proxy's core")
        if self.stolen_shares:
            ordered = sorted(self.stolen_shares)
            found.append(
                f"taken by the host of the core that lost more: {100 * ordered[len(ordered) // 2]:.1f} % in the median "
                f"round, {100 * ordered[-1]:.1f} % in the worst; {self.repeated} rounds were repeated because of it, "
                f"{self.stolen} could not be")
        return found

    def is_trustworthy(self):
        return self.stolen <= STOLEN_ROUNDS_MAX * len(self.stolen_shares)

    # Pieces

    def port(self, count=1):
        port = self.next_port
        self.next_port += count
        return port

    def origin(self, **how):
        port = self.port()
        return Origin(self.load_tool, port, self.work / f"origin-{port}.log", self.load_cpu, **how)

    def proxy(self, kind, upstream, mirror=None, label=None, **settings):
        made = KINDS[kind](
            self, label or kind, self.port(2), upstream.port, mirror.port if mirror else None,
            settings)
        return made.start()

    def progress(self, text):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def end_progress(self):
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")

    def order(self, things, index):
        """The order of round `index`: rotated, and every other time backwards, so that a drift of
        the machine falls on all alike."""
        turned = things[index % len(things):] + things[:index % len(things)]
        return turned[::-1] if index % 2 else turned

    def measure(self, proxy, result, what, stolen_max=STOLEN_SHARE_MAX, **how):
        """One undisturbed round. Adds to `result.faults` what makes it untrustworthy."""
        sent = 0

        def attempt():
            nonlocal sent
            proxy.check()
            self.progress(f"{result.name}: {what}: {proxy.label}")
            self.wait_for_quiet()
            done = self.round(proxy, result, what, **how)
            if done.foreign_share > FOREIGN_SHARE_MAX:
                self.disturbed += 1
            sent += done.sent
            return done

        done = self.undisturbed(attempt, stolen_max)
        done.sent = sent
        return done

    def undisturbed(self, attempt, stolen_max):
        """What `attempt` returns; made again while the host took more than `stolen_max` of a core, as
        long as patience lasts. `None` where a repetition would do harm."""
        while True:
            started, before = time.monotonic(), self.stolen_ns()
            done = attempt()
            seconds = time.monotonic() - started
            share = max(now - then for now, then in zip(self.stolen_ns(), before)) / (seconds * 1e9)
            if stolen_max is None or share <= stolen_max:
                break
            if self.patience <= 0:
                self.stolen += 1
                break
            self.patience -= seconds
            self.repeated += 1
            self.progress(f"again: the host took {100 * share:.1f} % of a core ({self.patience:.0f} s of patience left)")
        self.stolen_shares.append(share)
        return done

    def stolen_ns(self):
        return [core_times_ns(cpu).stolen for cpu in (self.proxy_cpu, self.load_cpu)]

    def busy_ns(self, *cpus):
        return sum(core_times_ns(cpu).busy for cpu in cpus)

    def round(self, proxy, result, what, seconds=None, tail=0.05, checks_answers=True, count=None, **load):
        """One round, whatever the host does. `count` is called before it and after."""
        pids = proxy.tree()
        workers = proxy.worker_pids()
        requests = proxy.requests()
        counted = count() if count else None
        busy, started = self.busy_ns(self.proxy_cpu), time.monotonic()
        before, worker_before = cpu_time(pids), cpu_time(workers)
        load_run = run_load(
            self.load_tool, proxy.port, self.load_cpu,
            seconds=self.seconds if seconds is None else seconds,
            **{"warmup": self.warmup, **load})
        time.sleep(tail)
        cpu, worker_cpu = cpu_time(pids) - before, cpu_time(workers) - worker_before
        wall = (time.monotonic() - started) * 1e9
        foreign = max(0.0, self.busy_ns(self.proxy_cpu) - busy - cpu.total) / wall
        name = f"{what}: {proxy.label}"
        if proxy.tree() != pids:
            result.faults.append(f"{name}: processes changed: {pids} became {proxy.tree()}")
        # What a peer still holds of an earlier round's lost requests may be counted in this one.
        if checks_answers:
            self.check_counts(proxy, requests, load_run, name, result)
        if checks_answers and (load_run.ok != load_run.offered or load_run.wrong):
            # That a peer does not bear a load is a finding; that Umbra does not, a fault.
            (result.faults if proxy.kind == "umbra" else result.notes).append(
                f"{name}: {load_run.offered} offered, {load_run.ok} answered with 2xx, "
                f"{load_run.failed} failed, {load_run.unanswered} unanswered, {load_run.wrong} wrong")
        if count:
            counted = count() - counted
        return Round(load_run, cpu, worker_cpu, foreign, counted, load_run.sent)

    def wait_for_quiet(self):
        """Waits while others use the two cores, as long as patience lasts: each second waited is
        a second less for the rest of the run."""
        while self.patience > 0:
            started = time.monotonic()
            busy = self.busy_ns(self.proxy_cpu, self.load_cpu)
            time.sleep(QUIET_LOOK_SECONDS)
            busy = self.busy_ns(self.proxy_cpu, self.load_cpu) - busy
            if busy <= QUIET_SHARE_MAX * QUIET_LOOK_SECONDS * 1e9:
                return
            self.patience -= time.monotonic() - started

    def check_counts(self, proxy, before, load_run, name, result):
        """The proxy's own count must equal the answers that came; requests that were given up
        may have reached it or not."""
        if before is None:
            return
        least = load_run.answered
        most = least + load_run.unanswered + load_run.failed
        looks = 0

        def counted():
            nonlocal looks
            looks += 1
            return proxy.requests() - before - looks * proxy.requests_seen_by_looking

        if not wait_until(lambda: least <= counted() <= most, COUNT_SECONDS, step=0.1):
            result.faults.append(
                f"{name}: the proxy counted {counted()} requests, the generator {least} answers")

    def finish(self, result, proxies, origins, expected=None):
        """Ends all; where `expected` is given, the first origin must have had so many requests."""
        for proxy in proxies:
            proxy.end()
        for index, origin in enumerate(origins):
            counts = origin.finish()
            if index == 0 and expected is not None and counts["requests"] != expected:
                result.faults.append(
                    f"{origin.name} had {counts['requests']} requests, the generator sent {expected}")


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def end_on_signals(minutes):
    """Ctrl-C, SIGTERM and the bound on the whole run's time all end it through the same door."""

    def stop(number, _frame):
        if number == signal.SIGALRM:
            raise Fault(f"not done within {minutes} minutes (--minutes)")
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, stop)
    signal.alarm(int(minutes * 60))


def end_children():
    signal.alarm(0)
    Child.end_all()


def tool_path(name):
    return str(ROOT / ".build" / "release" / name)


def has(program):
    return shutil.which(program) is not None
