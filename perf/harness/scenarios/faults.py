"""Memory while a shadow fails, and afterwards: 4,000 small and then 500 large POSTs a second."""

import threading
import time

from ..processes import memory
from ..report import Result

# Name, origin's mode, delay in milliseconds.
SHADOW_FAULTS = [
    ("fast", "normal", 0), ("200 ms", "normal", 200), ("hung", "hang", 0),
    ("never accepting", "never-accept", 0), ("refusing", "refuse", 0), ("resetting", "reset", 0),
]
LOADS = [
    {"rate": 4_000, "method": "POST", "body": 2_048, "expect_bytes": 1024},
    {"rate": 500, "method": "POST", "body": 65_536, "expect_bytes": 1024},
]
UPSTREAM_MS = 5
LOOK_SECONDS = 0.1
# Copies end with the shadow's timeout; then everything must be given back.
RECOVERY_SECONDS = 8.0
RECOVERED_KIB = 8 * 1024
# As near to the start as it is worth waiting for.
SETTLED_KIB = 1024
GROWTH_BAR_MIB = 48


class Watch(threading.Thread):
    """Looks at the processes' memory until told to stop, and keeps the most it saw."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids = pids
        self.most = 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(LOOK_SECONDS):
            self.most = max(self.most, memory(self.pids).pss)

    def stop(self):
        self.done.set()
        self.join()
        return self.most


def run(bench, kinds):
    result = Result("faults", "Memory of all processes (PSS) under each fault of the shadow")
    kinds = [kind for kind in kinds if kind != "haproxy"]
    for name, mode, delay in SHADOW_FAULTS:
        origin = bench.origin(delay_ms=UPSTREAM_MS)
        shadow = bench.origin(mode=mode, delay_ms=delay, name=f"shadow {name}")
        for kind in kinds:
            one(bench, result, kind, name, origin, shadow)
        bench.finish(result, [], [origin, shadow])
    result.notes.append(
        f"'after' is the growth {RECOVERY_SECONDS:.0f} s after the load; back means at most "
        f"{RECOVERED_KIB // 1024} MiB above the start. Umbra's bar is +{GROWTH_BAR_MIB} MiB.")
    return result


def one(bench, result, kind, name, origin, shadow):
    proxy = bench.proxy(kind, origin, shadow, label=f"{kind}-{name.replace(' ', '-')}")
    time.sleep(1.0)
    before = memory(proxy.tree()).pss
    watch = Watch(proxy.tree())
    watch.start()
    answered = offered = 0
    for load in LOADS:
        done = bench.measure(
            proxy, result, name, checks_answers=kind == "umbra", grace=2.0, **load)
        answered += done.load.ok
        offered += done.load.offered
    most = max(watch.stop(), before)
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        after = memory(proxy.tree()).pss
        if after - before <= SETTLED_KIB or time.monotonic() > deadline:
            break
        time.sleep(0.25)
    proxy.end()
    add = lambda what, unit, value: result.figure(f"{name}: {what}", unit, kind).values.append(value)
    add("start", "MiB", before / 1024)
    add("most, above start", "MiB", (most - before) / 1024)
    add("after, above start", "MiB", (after - before) / 1024)
    add("answered", "%", 100 * answered / max(1, offered))
    if kind == "umbra":
        result.row(f"PSS above start, shadow {name}", "MiB", (most - before) / 1024, GROWTH_BAR_MIB)
        result.row(f"PSS above start afterwards, shadow {name}", "MiB", (after - before) / 1024,
                   RECOVERED_KIB / 1024)
