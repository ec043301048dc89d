"""Debian's Prometheus scrapes the gateway, and promtool has nothing to say to what it reads: neither
to /metrics nor to docs/alerts.yml."""

import json
import os
import re
import signal
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from harness.gateway import die_with_the_tests, exchange
from harness.ports import free_port
from harness.waiting import wait_for

DOCS = Path(__file__).resolve().parents[2] / "docs"
ALERTS = DOCS / "alerts.yml"


class Prometheus:
    """One process with its own file and data directory, on loopback."""

    def __init__(self, directory, target):
        self.port = free_port()
        file = directory / "prometheus.yml"
        file.write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s",
                       "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "umbra", "static_configs": [{"targets": [target]}]}],
        }))
        self.log = directory / "prometheus.log"
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}",
             f"--web.listen-address=127.0.0.1:{self.port}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log.open("wb"),
            preexec_fn=die_with_the_tests)

    def get(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return None

    def value(self, expression):
        """The sum over a query's samples; None where there are none yet."""
        data = self.get("query", query=expression)
        if not data or not data["result"]:
            return None
        return sum(float(sample["value"][1]) for sample in data["result"])

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def prometheus(mirroring, tmp_path_factory):
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{mirroring.admin_port}")
    yield server
    server.stop()


def promtool(*words, text=None):
    run = subprocess.run(["promtool", *words], input=text, capture_output=True, text=True,
                         timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_promtool_finds_nothing_in_the_metrics(mirroring, path):
    mirroring.ask(path)
    status, text = mirroring.admin("/metrics")
    assert status == 200 and "umbra_requests_total" in text
    assert promtool("check", "metrics", text=text).strip() == ""


def test_it_is_up_and_its_series_are_there(mirroring, prometheus, path):
    with mirroring.client() as client:
        for _ in range(5):
            exchange(client, path)
    wait_for(lambda: prometheus.value('up{job="umbra"}') == 1,
             lambda: f"a scrape\n{prometheus.log.read_text()}", 30)
    wanted = mirroring.metrics().sum("umbra_requests_total")
    assert wanted >= 5
    wait_for(lambda: prometheus.value("sum(umbra_requests_total)") == wanted, "the requests", 30)
    names = set(prometheus.get("label/__name__/values"))
    missing = {s.name for s in mirroring.metrics().samples} - names
    assert not missing, missing


def test_a_scrape_leaves_nothing_out(prometheus):
    wait_for(lambda: prometheus.value('up{job="umbra"}') == 1, "a scrape", 30)
    targets = prometheus.get("targets")
    assert [t["lastError"] for t in targets["activeTargets"]] == [""]
    scraped = prometheus.value("scrape_samples_scraped")
    assert scraped > 100 and scraped == prometheus.value("scrape_samples_post_metric_relabeling")


def test_the_rules_load_and_are_healthy(prometheus):
    def rules():
        data = prometheus.get("rules")
        found = [rule for group in (data or {"groups": []})["groups"] for rule in group["rules"]]
        return found if found and all(rule["health"] != "unknown" for rule in found) else None

    found = wait_for(rules, "all rules looked at", 30, every=0.2)
    assert [rule["name"] for rule in found if rule["health"] != "ok"] == []


def test_promtool_accepts_the_rules():
    assert "rules found" in promtool("check", "rules", str(ALERTS))


def test_each_rule_fires_when_it_should_and_only_then(tmp_path):
    text = (Path(__file__).parent / "alerts_test.yml").read_text()
    file = tmp_path / "alerts_test.yml"
    file.write_text(text.replace("rule_files: [ALERTS]", f"rule_files: ['{ALERTS}']"))
    promtool("test", "rules", str(file))
    names = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert names and [name for name in names if f'alertname="{name}"' not in text] == []


def test_the_rules_name_only_metrics_that_there_are():
    documented = (DOCS / "metrics.md").read_text()
    used = set(re.findall(r"umbra_\w+", ALERTS.read_text()))
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert [name for name in sorted(bare) if f"`{name}`" not in documented] == []
