"""What a copy costs: the same load with mirroring off and of every request, in turn."""

from .. import statistics
from ..report import Result

# Above what saturation offers, so that the cap takes nothing.
QPS = 200_000
# Time after a round in which the shadow's work of that round still counts as its CPU.
TAIL_SECONDS = 0.5


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
                sent += pair(bench, result, index, kind, off, on, place, how)
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
    result.notes.append("CPU added per copy: (CPU per request with copies − without) ÷ share of requests copied.")
    return result


def pair(bench, result, index, kind, off, on, place, how):
    rounds = {}
    for proxy in (off, on) if index % 2 == 0 else (on, off):
        before = copies(proxy)
        done = bench.measure(
            proxy, result, f"{place} {index + 1}/{bench.rounds}", tail=TAIL_SECONDS,
            expect_bytes=1024, **how)
        after = copies(proxy)
        share = (after - before) / max(1, done.load.answered) if before is not None else 1.0
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
    return plain.load.sent + mirrored.load.sent


def copies(proxy):
    """Copies sent so far; None where the proxy does not say."""
    if proxy.kind != "umbra":
        return None
    return sum(proxy.metrics().get("umbra_mirror_sent_total", {}).values())
