"""What several scenarios do alike."""

from .. import statistics
from ..processes import CPUTime


def against(result, measure, unit_name, peer, bar=None, stretch=None, subject="umbra"):
    """A row with the ratio of Umbra to one peer in each round."""
    ours, theirs = result.values(measure, subject), result.values(measure, peer)
    if ours and theirs:
        result.row(f"{unit_name}, umbra / {peer}", "", statistics.ratios(ours, theirs), bar, stretch)


def best_of(result, measure, peers):
    """The peer with the lowest median of a measure."""
    known = [(statistics.median(result.values(measure, peer)), peer) for peer in peers
             if result.values(measure, peer)]
    return min(known)[1] if known else None


def add_round(result, subject, done, with_split=True):
    """The usual figures of one round."""
    load = done.load
    result.figure("requests a second", "1/s", subject).values.append(load.per_second)
    result.figure("CPU per request", "µs", subject).values.append(done.cpu_us)
    if with_split:
        result.figure("user (ticks)", "µs", subject).values.append(done.user_us)
        result.figure("system (ticks)", "µs", subject).values.append(done.system_us)
    result.figure("p50", "ms", subject).values.append(load.p50_ms)
    result.figure("p99", "ms", subject).values.append(load.p99_ms)
    result.figure("others' work on the core", "%", subject).values.append(100 * done.foreign_share)


def copies(proxy):
    """Counts the copies sent so far; None where the proxy does not say."""
    if proxy.kind != "umbra":
        return None
    return lambda: sum(proxy.metrics().get("umbra_mirror_sent_total", {}).values())


def total(times):
    return sum(times, CPUTime())
