"""CPU per request at a rate that all of them bear: most of real life is not saturated."""

from ..report import Result
from .common import add_round, against

RATE = 16_800


def run(bench, kinds):
    result = Result("fixed", f"Fixed rate: {RATE:,} requests a second, open loop, 64 connections, answers of 1 KiB")
    origin = bench.origin()
    proxies = [bench.proxy(kind, origin) for kind in kinds]
    sent = 0
    for index in range(bench.rounds):
        for proxy in bench.order(proxies, index):
            origin.check()
            done = bench.measure(
                proxy, result, f"round {index + 1}/{bench.rounds}", rate=RATE, expect_bytes=1024)
            add_round(result, proxy.kind, done)
            sent += done.sent
    bench.finish(result, proxies, [origin], expected=sent)
    measure = f"CPU per request at {RATE:,}/s"
    against(result, "CPU per request", measure, "nginx", 0.95, 0.90)
    against(result, "CPU per request", measure, "haproxy", 0.92, 0.86)
    against(result, "CPU per request", measure, "envoy")
    return result
