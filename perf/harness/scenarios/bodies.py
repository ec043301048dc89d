"""CPU per megabyte of 1 MiB bodies: down, up, and up with a copy to the shadow."""

from .. import statistics
from ..report import Result
from .common import best_of, copies

BODY_BYTES = 1 << 20
CONNECTIONS = 16
TAIL_SECONDS = 0.5
# The best of what was tried for each case; a mirror of nginx needs the whole body first.
NGINX_LOCATION = {"POST": "proxy_request_buffering off; client_body_buffer_size 256k;"}
CASES = [
    ("GET", 1.0, {"method": "GET", "expect_bytes": BODY_BYTES}),
    ("POST", 1.0, {"method": "POST", "body": BODY_BYTES, "expect_bytes": 1024}),
    ("POST mirrored", 0.8, {"method": "POST", "body": BODY_BYTES, "expect_bytes": 1024}),
    # At saturation on one core Umbra drops copies rather than slow users; here none needs dropping.
    ("POST mirrored 200/s", 0.8, {
        "method": "POST", "body": BODY_BYTES, "expect_bytes": 1024, "rate": 200}),
]


def run(bench, kinds):
    result = Result("bodies", f"Bodies of 1 MiB, {CONNECTIONS} connections: CPU per MB")
    large, small, shadow = bench.origin(body_bytes=BODY_BYTES), bench.origin(), bench.origin(name="shadow")
    cases = []
    for name, _, how in CASES:
        proxies = [
            bench.proxy(
                kind, large if name == "GET" else small, shadow if "mirrored" in name else None,
                label=f"{kind}-{name.replace(' ', '-').replace('/', '-')}",
                # A whole 1 MiB body has to fit, and the copies at once.
                max_body_bytes="2MiB", location=NGINX_LOCATION.get(name, ""))
            for kind in kinds if "mirrored" not in name or kind != "haproxy"]
        cases.append((name, how, proxies))
    for index in range(bench.rounds):
        for name, how, proxies in cases:
            for proxy in bench.order(proxies, index):
                measure(bench, result, index, name, how, proxy)
    bench.finish(result, [proxy for _, _, proxies in cases for proxy in proxies], [large, small, shadow])
    for name, bar, _ in CASES:
        measure_name = f"{name}: CPU per MB"
        best = best_of(result, measure_name, [kind for kind in kinds if kind != "umbra"])
        ours = result.values(measure_name, "umbra")
        if ours and best:
            result.row(
                f"{name} 1 MiB, CPU per MB, umbra / the best peer", "",
                statistics.ratios(ours, result.values(measure_name, best)), bar,
                note=best + copied(result, name))
    return result


def copied(result, name):
    """How much of Umbra's load was copied: it may drop copies where the others copy all."""
    share = statistics.median(result.values(f"{name}: share copied", "umbra"))
    return "" if share is None else f", {share:.0f} % copied"


def measure(bench, result, index, name, how, proxy):
    mirrored = "mirrored" in name
    done = bench.measure(
        proxy, result, f"{name} {index + 1}/{bench.rounds}", connections=CONNECTIONS,
        tail=TAIL_SECONDS if mirrored else 0.05, count=copies(proxy) if mirrored else None, **how)
    megabytes = done.load.answered * BODY_BYTES / 1e6
    add = lambda what, unit, value: result.figure(f"{name}: {what}", unit, proxy.kind).values.append(value)
    add("CPU per MB", "ms", done.cpu.total / 1e6 / max(1e-9, megabytes))
    add("MB a second", "1/s", done.load.per_second * BODY_BYTES / 1e6)
    if done.counted is not None:
        add("share copied", "%", 100 * done.counted / max(1, done.load.answered))
