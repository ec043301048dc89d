"""`/metrics`, read by Prometheus's own parser, and the three sums that must hold."""

import time

from prometheus_client.parser import text_string_to_metric_families

from .waiting import wait_for


class Metrics:
    def __init__(self, text):
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.samples = [s for family in self.families for s in family.samples]

    def names(self):
        return {s.name for s in self.samples}

    def sum(self, name, /, **labels):
        return sum(s.value for s in self.samples if s.name == name
                   and all(s.labels.get(k) == v for k, v in labels.items()))

    def by(self, name, label, **labels):
        """Values summed by one label."""
        result = {}
        for s in self.samples:
            if s.name == name and all(s.labels.get(k) == v for k, v in labels.items()):
                key = s.labels.get(label)
                result[key] = result.get(key, 0) + s.value
        return result

    def dropped(self, **labels):
        return {k: v for k, v in self.by("umbra_mirror_dropped_total", "reason", **labels).items()
                if v}

    def results(self, **labels):
        return {k: v for k, v in self.by("umbra_mirror_results_total", "result", **labels).items()
                if v}

    def mirror(self, **labels):
        """All that the tee counted, in one dictionary that prints well."""
        return {
            "eligible": self.sum("umbra_mirror_eligible_total", **labels),
            "sampled": self.sum("umbra_mirror_sampled_total", **labels),
            "not_sampled": self.sum("umbra_mirror_not_sampled_total", **labels),
            "sent": self.sum("umbra_mirror_sent_total", **labels),
            "dropped": self.dropped(**labels),
            "results": self.results(**labels),
        }

    def identities(self):
        """The sums that do not hold, as sentences."""
        wrong = []
        groups = {(s.labels.get("worker"), s.labels.get("route"), s.labels.get("shadow"))
                  for s in self.samples if s.name == "umbra_mirror_eligible_total"}
        for worker, route, shadow in groups:
            part = {k: v for k, v in (("worker", worker), ("route", route), ("shadow", shadow))
                    if v is not None}
            eligible = self.sum("umbra_mirror_eligible_total", **part)
            chosen = self.sum("umbra_mirror_sampled_total", **part)
            rest = self.sum("umbra_mirror_not_sampled_total", **part)
            if eligible != chosen + rest:
                wrong.append(f"{part}: eligible {eligible} != sampled {chosen} + not {rest}")
        shadows = {s.labels.get("shadow") for s in self.samples
                   if s.name.startswith("umbra_mirror_sampled_total")}
        for shadow in shadows:
            part = {} if shadow is None else {"shadow": shadow}
            sampled = self.sum("umbra_mirror_sampled_total", **part)
            sent = self.sum("umbra_mirror_sent_total", **part)
            dropped = self.dropped(**part)
            results = self.results(**part)
            if sampled != sent + sum(dropped.values()):
                wrong.append(f"{shadow}: sampled {sampled} != sent {sent} + dropped {dropped}")
            if sent != sum(results.values()):
                wrong.append(f"{shadow}: sent {sent} != results {results}")
            unknown = set(results) - {"ok", "error", "timeout", "cancelled"}
            if unknown:
                wrong.append(f"{shadow}: results {unknown}")
        return wrong


def settled(gateway, timeout=10.0, **expected):
    """Waits until the tee is at rest and its sums hold, and returns the metrics. `expected` names
    totals (`eligible=`, `sent=` …) that must be reached as well."""
    last = {}

    def at_rest():
        metrics = gateway.metrics()
        now = metrics.mirror()
        last.update(now=now, wrong=metrics.identities())
        if last["wrong"] or any(now[k] != v for k, v in expected.items()):
            return None
        time.sleep(0.05)
        again = gateway.metrics()
        return again if again.mirror() == now and not again.identities() else None

    return wait_for(at_rest,
                    lambda: f"sums that hold (expected {expected}): {last.get('now')}, "
                            f"wrong: {last.get('wrong')}\nlog:\n{gateway.text}", timeout)


def counted(gateway, requests, timeout=10.0, **labels):
    """The metrics, once `requests` have been counted: a worker counts a request when its answer is
    on its way, so the client may be here first."""
    last = {}

    def reached():
        last["metrics"] = gateway.metrics()
        return last["metrics"].sum("umbra_requests_total", **labels) >= requests

    wait_for(reached, lambda: f"{requests} requests counted, have "
                              f"{last['metrics'].by('umbra_requests_total', 'code')}", timeout)
    assert last["metrics"].sum("umbra_requests_total", **labels) == requests
    return last["metrics"]
