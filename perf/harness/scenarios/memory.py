"""Memory of the processes: right after the start, and idle again after load."""

import time

from ..processes import memory
from ..report import Result

SETTLE_SECONDS = 1.5


def run(bench, kinds):
    result = Result("memory", "Memory of the processes, idle (MiB)")
    origin, shadow = bench.origin(), bench.origin(name="shadow")
    for kind in kinds:
        mirror = shadow if kind != "haproxy" else None
        proxy = bench.proxy(kind, origin, mirror)
        for when in ("fresh", "after load"):
            if when == "after load":
                bench.measure(proxy, result, "load", rate=4_000, expect_bytes=1024)
            time.sleep(SETTLE_SECONDS)
            workers = max(memory([pid]).rss for pid in proxy.worker_pids())
            whole = memory(proxy.tree())
            result.figure(f"RSS of a worker, {when}", "MiB", kind).values.append(workers / 1024)
            result.figure(f"PSS of all processes, {when}", "MiB", kind).values.append(whole.pss / 1024)
        proxy.end()
    bench.finish(result, [], [origin, shadow])
    if "umbra" in kinds:
        for when in ("fresh", "after load"):
            result.row(f"RSS of a worker, idle, {when}", "MiB",
                       result.values(f"RSS of a worker, {when}", "umbra"), 16)
            result.row(f"PSS of all processes, idle, {when}", "MiB",
                       result.values(f"PSS of all processes, {when}", "umbra"), 64)
    result.notes.append("Mirroring of every request is on, except HAProxy, which has none; load: 4,000 GET/s.")
    return result
