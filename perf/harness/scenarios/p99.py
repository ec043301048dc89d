"""What users feel of mirroring: P99 with every request copied against none, in pairs of rounds,
for each fault of the shadow. The same generator for all proxies.

The control pair mirrors nothing on either side: what its ratio is away from 1, and how wide its interval
is, the machine and the method alone have done.
"""

from .. import statistics
from ..bench import STOLEN_SHARE_MAX_LATENCY
from ..report import Result
from .faults import SHADOW_FAULTS, UPSTREAM_MS

RATE = 4_000
BODY_BYTES = 2_048
CONTROL = "control"


def run(bench, kinds):
    result = Result(
        "p99", f"P99 mirrored / off: {RATE:,} POST/s of 2 KiB, upstream of {UPSTREAM_MS} ms, pairs of rounds")
    kinds = [kind for kind in kinds if kind != "haproxy"]
    if "umbra" in kinds:
        pairs_of_rounds(bench, result, ["umbra"], CONTROL, None)
        result.row("P99 of the control pair, neither mirrors", "", result.values(f"{CONTROL}: ratio", "umbra"))
    for name, mode, delay in SHADOW_FAULTS:
        fault(bench, result, kinds, name, mode, delay)
    result.notes.append("Latency from the intended send time; requests without an answer are in 'answered' only.")
    return result


def fault(bench, result, kinds, name, mode, delay):
    shadow = bench.origin(mode=mode, delay_ms=delay, name=f"shadow {name}")
    pairs_of_rounds(bench, result, kinds, name, shadow)
    if "umbra" in kinds:
        ratios = result.values(f"{name}: ratio", "umbra")
        _, high = statistics.bootstrap_interval(ratios)
        narrow = high is not None and high <= 1.05
        result.row(f"P99 mirrored / off, shadow {name}", "", ratios, 1.05, 1.02 if narrow else None,
                   note="" if narrow else "interval above 1.05")
        if name in ("200 ms", "hung"):
            result.row(f"requests answered, shadow {name}", "%",
                       result.values(f"{name}: answered", "umbra"), 100, at_least=True)


def pairs_of_rounds(bench, result, kinds, name, shadow):
    """Figures of each kind's two proxies, the second with `shadow`; without one it is as the first."""
    origin = bench.origin(delay_ms=UPSTREAM_MS)
    shadows = [shadow] if shadow else []
    pairs = []
    for kind in kinds:
        label = f"{kind}-{name.replace(' ', '-')}"
        pairs.append((kind, bench.proxy(kind, origin, label=f"{label}-off"),
                      bench.proxy(kind, origin, shadow, label=f"{label}-on")))
    counts = {kind: [0, 0] for kind in kinds}
    for index in range(bench.rounds):
        for kind, off, on in bench.order(pairs, index):
            p99 = {}
            for proxy in (off, on) if index % 2 == 0 else (on, off):
                for each in [origin, *shadows]:
                    each.check()
                done = bench.measure(
                    proxy, result, f"{name} {index + 1}/{bench.rounds}", rate=RATE, method="POST",
                    body=BODY_BYTES, expect_bytes=1024, tail=0.2,
                    stolen_max=STOLEN_SHARE_MAX_LATENCY,
                    # That peers lose requests here is a figure of theirs, not a fault of the run.
                    checks_answers=proxy is off or kind == "umbra")
                p99[proxy] = done.load.p99_ms
                if proxy is on:
                    counts[kind][0] += done.load.ok
                    counts[kind][1] += done.load.offered
            add = lambda what, unit, value: result.figure(f"{name}: {what}", unit, kind).values.append(value)
            add("P99 off", "ms", p99[off])
            add("P99 on", "ms", p99[on])
            if p99[off] and p99[on]:
                add("ratio", "", p99[on] / p99[off])
    for kind, (answered, offered) in counts.items():
        result.figure(f"{name}: answered", "%", kind).values.append(100 * answered / max(1, offered))
    bench.finish(result, [proxy for _, *two in pairs for proxy in two], [origin, *shadows])
