"""What a copy costs: the same load with mirroring off and of every request, in turn."""

from ..bench import STOLEN_SHARE_MAX
from ..load import BackgroundLoad
from ..report import Result
from .common import copies

# Above what saturation offers, so that the cap takes nothing.
QPS = 200_000
# Time after a round in which the shadow's work of that round still counts as its CPU.
TAIL_SECONDS = 0.5
# The bare client: what sends as many requests at the shadow as it may, with the shadow process's
# priority, on the proxy's core: it parses no head that others wrote, and cleans none.
BARE = "bare client"
BARE_NICE = 10
BARE_CONNECTIONS = 32


def run(bench, kinds):
    result = Result("mirror", "CPU of mirroring: GET, answers of 1 KiB, every request copied, against none")
    kinds = [kind for kind in kinds if kind != "haproxy"]
    origin, shadow = bench.origin(), bench.origin(name="shadow")
    pairs = [
        (kind, bench.proxy(kind, origin, label=f"{kind}-off"),
         bench.proxy(kind, origin, shadow, label=f"{kind}-on", qps=QPS))
        for kind in kinds]
    sent = 0
    loads = [("saturated", {}), ("at 16,800/s", {"rate": 16_800})]
    for index in range(bench.rounds):
        for place, how in loads:
            for kind, off, on in bench.order(pairs, index):
                # The peers with copies of everything do not bear the fixed rate on one core.
                if how and kind != "umbra":
                    continue
                sent += pair(bench, result, index, kind, off, on, place, how, shadow)
    bench.finish(result, [proxy for _, *two in pairs for proxy in two], [origin, shadow], expected=sent)
    if "umbra" in kinds:
        for place, _ in loads:
            judged = place == "saturated"
            result.row(
                f"worker CPU added per mirrored request, {place}", "µs",
                result.values(f"worker CPU added per copy, {place}", "umbra"),
                1.5 if judged else None, 0.5 if judged else None)
            result.row(
                f"whole process CPU added per mirrored request, {place}", "µs",
                result.values(f"CPU added per copy, {place}", "umbra"),
                8 if judged else None, 6.5 if judged else None)
        result.notes.append(
            f"{BARE}: not a proxy's copies but requests of the load generator's own to the shadow, {BARE_CONNECTIONS} "
            f"connections at nice {BARE_NICE} on the proxy's core, beside the proxy without mirroring: little more "
            "than what the kernel asks for a copy.")
    result.notes.append("CPU added per copy: (CPU per request with copies − without) ÷ share of requests copied.")
    return result


def pair(bench, result, index, kind, off, on, place, how, shadow):
    rounds = {}
    for proxy in (off, on) if index % 2 == 0 else (on, off):
        done = bench.measure(
            proxy, result, f"{place} {index + 1}/{bench.rounds}", tail=TAIL_SECONDS,
            expect_bytes=1024, count=copies(proxy), **how)
        share = 1.0 if done.counted is None else done.counted / max(1, done.load.answered)
        rounds[proxy] = done, share
    (plain, _), (mirrored, share) = rounds[off], rounds[on]
    add = lambda measure, unit, value: result.figure(f"{measure}, {place}", unit, kind).values.append(value)
    add("CPU per request off", "µs", plain.cpu_us)
    add("CPU per request on", "µs", mirrored.cpu_us)
    add("requests a second on", "1/s", mirrored.load.per_second)
    if kind == "umbra":
        add("share copied", "%", 100 * share)
        add("worker CPU off", "µs", plain.worker_us)
        add("worker CPU on", "µs", mirrored.worker_us)
        if share > 0:
            add("worker CPU added per copy", "µs", (mirrored.worker_us - plain.worker_us) / share)
    if share > 0:
        add("CPU added per copy", "µs", (mirrored.cpu_us - plain.cpu_us) / share)
    if kind != "umbra" or how:
        return plain.sent + mirrored.sent
    return plain.sent + mirrored.sent + bare(bench, result, off, shadow, plain, f"{place} {index + 1}/{bench.rounds}")


def bare(bench, result, off, shadow, plain, what):
    """A round of the proxy without mirroring, beside the bare client; the requests that were sent."""
    sent = 0

    def attempt():
        nonlocal sent
        bench.progress(f"{result.name}: {what}: {BARE}")
        client = BackgroundLoad(
            bench.load_tool, shadow.port, bench.proxy_cpu, seconds=bench.seconds, warmup=bench.warmup,
            connections=BARE_CONNECTIONS, expect_bytes=1024, nice=BARE_NICE)
        done = bench.round(off, result, what, expect_bytes=1024)
        sent += done.sent
        return done, client.result()

    beside, client = bench.undisturbed(attempt, STOLEN_SHARE_MAX)
    answered = max(1, beside.load.answered)
    share = client.answered / answered
    cpu_us = beside.cpu_us + client.generator_us * share
    add = lambda measure, unit, value: result.figure(f"{measure}, saturated", unit, BARE).values.append(value)
    add("requests a second on", "1/s", beside.load.per_second)
    add("share copied", "%", 100 * share)
    add("worker CPU on", "µs", beside.worker_us)
    add("worker CPU added per copy", "µs", (beside.worker_us - plain.worker_us) / share)
    add("CPU per request on", "µs", cpu_us)
    add("CPU added per copy", "µs", (cpu_us - plain.cpu_us) / share)
    return sent
