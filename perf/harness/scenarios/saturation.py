"""CPU per request as fast as answers come: 64 connections, GET, answers of 1 KiB."""

from .. import sampling, statistics
from ..report import Result
from .common import add_round, against

# Runs in which each proxy is looked at: one alone may meet the host at work.
PASSES = 3
PASS_SECONDS = 2.0


def run(bench, kinds):
    result = Result("saturation", "Saturation: 64 keep-alive connections, GET, answers of 1 KiB")
    origin = bench.origin()
    proxies = [bench.proxy(kind, origin) for kind in kinds]
    sent = 0
    for index in range(bench.rounds):
        for proxy in bench.order(proxies, index):
            origin.check()
            done = bench.measure(
                proxy, result, f"round {index + 1}/{bench.rounds}", expect_bytes=1024)
            add_round(result, proxy.kind, done)
            sent += done.sent
    for index in range(PASSES):
        for proxy in bench.order(proxies, index):
            sent += passes(bench, result, proxy)
    bench.finish(result, proxies, [origin], expected=sent)
    against(result, "CPU per request", "CPU per request at saturation", "nginx", 0.80, 0.73)
    against(result, "CPU per request", "CPU per request at saturation", "haproxy", 0.88, 0.80)
    against(result, "CPU per request", "CPU per request at saturation", "envoy")
    if "umbra" in kinds:
        user = result.values("user (sampled)", "umbra") or result.values("user (ticks)", "umbra")
        result.row("user time per request", "µs", user, 1.8, 1.0)
        result.row("system calls per request", "", result.values("system calls", "umbra"), 4.2)
    result.notes.append(
        "user (sampled): share of perf's 5 kHz samples outside the kernel, times the rounds' median of CPU per "
        "request; system calls: raw_syscalls:sys_enter over answers. Each is the median of "
        f"{PASSES} runs of their own after the rounds.")
    return result


def passes(bench, result, proxy):
    """Two more short runs that are not timed, since looking costs something."""
    sent = 0

    def load(what):
        return lambda: bench.measure(
            proxy, result, what, seconds=PASS_SECONDS, expect_bytes=1024,
            # What is looked at counts all of its requests.
            stolen_max=None)

    found = sampling.user_share(proxy.tree(), proxy.directory, load("sampling"))
    if found:
        done, share, _ = found
        sent += done.sent
        cpu = statistics.median(result.values("CPU per request", proxy.kind))
        result.figure("user (sampled)", "µs", proxy.kind).values.append(share * cpu)
    found = sampling.count_system_calls(proxy.tree(), proxy.directory, load("system calls"))
    if found:
        done, calls = found
        sent += done.sent
        result.figure("system calls", "", proxy.kind).values.append(calls / done.load.answered)
    return sent
