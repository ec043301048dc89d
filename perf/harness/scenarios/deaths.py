"""Processes of Umbra killed, stopped or made to trap under load, again and again."""

import os
import signal
import time

from ..bench import STOLEN_SHARE_MAX_LATENCY
from ..load import BackgroundLoad, exchange
from ..processes import check_listener
from ..report import Result
from .faults import UPSTREAM_MS
from .p99 import BODY_BYTES, RATE

ACTIONS = [("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP), ("trapped", signal.SIGILL)]
EVERY_SECONDS = 1.5
RESUME_SECONDS_MAX = 5.0
SETTLE_SECONDS = 8.0
LOOK_SECONDS = 0.02
PROBES_UNTIL_SECONDS = 1.0


def run(bench, kinds):
    result = Result("deaths", f"Processes that die under load: {RATE:,} POST/s of 2 KiB, every request copied")
    if "umbra" not in kinds:
        result.notes.append("only umbra has processes that may die alone")
        return result
    for name, number in ACTIONS:
        shadow_deaths(bench, result, name, number)
    worker_deaths(bench, result)
    result.notes.append(
        "resumed: from the signal until the gateway counts copies sent again; a stopped process is not dead: from "
        "its SIGCONT, sent after 0.5 s unless it was replaced.")
    return result


def shadow_deaths(bench, result, name, number):
    origin, shadow = bench.origin(delay_ms=UPSTREAM_MS), bench.origin(name="shadow")
    off = bench.proxy("umbra", origin, label=f"umbra-{name}-off")
    on = bench.proxy("umbra", origin, shadow, label=f"umbra-{name}-on")
    ratios, resumed, struck, lost = [], [], [], 0

    def load(proxy, act):
        nonlocal lost
        done = under_load(bench, proxy, act)
        lost += done.offered - done.ok
        return done

    for index in range(bench.rounds):
        p99 = {}
        for proxy in (off, on) if index % 2 == 0 else (on, off):
            bench.progress(f"deaths: shadow {name} {index + 1}/{bench.rounds}: {proxy.label}")
            # Finding the process costs the generator's core something: in both rounds.
            act = (lambda: struck.append(strike(on, number))) if proxy is on else off.roles
            p99[proxy] = bench.undisturbed(lambda: load(proxy, act), STOLEN_SHARE_MAX_LATENCY).p99_ms
        # Looking for the first copies costs the cores more: in a round whose P99 is not judged.
        bench.progress(f"deaths: shadow {name} {index + 1}/{bench.rounds}: until copies resume")
        load(on, lambda: resumed.append(strike_and_watch(on, number)))
        ratios.append(p99[on] / p99[off])
    fault = settled(on)
    if fault:
        result.faults.append(f"shadow {name}: {fault}")
    bench.finish(result, [off, on], [origin, shadow])
    result.row(f"client errors, shadow {name}", "", lost, 0, note=f"{len(struck) + len(resumed)} times")
    result.row(f"P99 on / off, shadow {name}", "", ratios, 1.05)
    result.row(f"copies resume, shadow {name}, worst", "s", max(resumed, default=None), 1.0)
    result.row(f"counters add up and loans return, shadow {name}", "", 0 if fault else 1, 1, at_least=True)


def under_load(bench, proxy, act):
    """The load's result; meanwhile `act()` every so often."""
    for port in proxy.ports():
        check_listener(port, proxy.child)
    seconds = max(bench.seconds, 2 * EVERY_SECONDS)
    load = background_load(bench, proxy, seconds)
    time.sleep(1.0)
    end = time.monotonic() + seconds - EVERY_SECONDS
    while time.monotonic() < end:
        started = time.monotonic()
        act()
        time.sleep(max(0, EVERY_SECONDS - (time.monotonic() - started)))
    return load.result()


def background_load(bench, proxy, seconds):
    return BackgroundLoad(
        bench.load_tool, proxy.port, bench.load_cpu, seconds=seconds, warmup=0.5, rate=RATE, method="POST",
        body=BODY_BYTES, expect_bytes=1024)


def strike(proxy, number):
    """Sends the signal to the shadow process; its pid."""
    pid = proxy.roles()["shadow"][0]
    os.kill(pid, number)
    if number == signal.SIGSTOP:
        time.sleep(0.5)
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
    return pid


def strike_and_watch(proxy, number):
    """Seconds from the signal until copies are sent again."""
    pid = strike(proxy, number)
    sent = count(proxy, "umbra_mirror_sent_total")
    started = time.monotonic()
    while time.monotonic() - started < RESUME_SECONDS_MAX:
        # What was sent before the death may be counted just after it.
        now = count(proxy, "umbra_mirror_sent_total")
        if proxy.roles().get("shadow", [pid])[0] != pid or number == signal.SIGSTOP:
            if now > sent:
                return time.monotonic() - started
        sent = max(sent, now)
        time.sleep(LOOK_SECONDS)
    return RESUME_SECONDS_MAX


def count(proxy, name):
    return sum(proxy.metrics().get(name, {}).values())


def settled(proxy):
    """What does not add up once all is quiet, or None."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        eligible, sampled, left, sent, dropped, ended, loans = (
            count(proxy, f"umbra_mirror_{name}") for name in (
                "eligible_total", "sampled_total", "not_sampled_total", "sent_total",
                "dropped_total", "results_total", "blocks_on_loan"))
        if eligible == sampled + left and sampled == sent + dropped and sent == ended and loans == 0:
            return None
        if time.monotonic() > deadline:
            return (f"eligible {eligible:.0f}, sampled {sampled:.0f}, not sampled {left:.0f}, sent {sent:.0f}, "
                    f"dropped {dropped:.0f}, results {ended:.0f}, blocks on loan {loans:.0f}")
        time.sleep(0.2)


def worker_deaths(bench, result):
    """One of two workers killed: those of its connections break, and no new one waits for long."""
    origin = bench.origin(delay_ms=UPSTREAM_MS)
    proxy = bench.proxy("umbra", origin, label="umbra-two", runtime={"workers": 2})
    waits, refused, broken, never = [], 0, [], 0
    for index in range(bench.rounds):
        bench.progress(f"deaths: worker killed {index + 1}/{bench.rounds}")
        load = background_load(bench, proxy, 3.0)
        time.sleep(1.5)
        worker = proxy.roles()["worker"][index % 2]
        os.kill(worker, signal.SIGKILL)
        started, worst = time.monotonic(), 0.0
        while time.monotonic() - started < PROBES_UNTIL_SECONDS:
            asked = time.monotonic()
            if exchange(proxy.port, seconds=3.0) is None:
                refused += 1
            worst = max(worst, time.monotonic() - asked)
        waits.append(1000 * worst)
        done = load.result()
        broken.append(done.result["total"]["failed"]["reset"])
        never += done.result["total"]["failed"]["connect"]
    bench.finish(result, [proxy], [origin])
    result.row("one of two workers killed: new connections refused or reset", "", refused + never, 0)
    result.row("one of two workers killed: longest answer of a new connection", "ms", waits, 200)
    # 64 connections with at most one request each: the other worker's must not break.
    result.row("one of two workers killed: requests lost of 64 connections", "", broken, 63)
