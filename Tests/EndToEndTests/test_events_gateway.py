"""The gateway's event log: an event for each copy, whatever happens to the processes and the folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness.event_log import events, verify, wait_events
from harness.gateway import BINARY, Gateway, settings
from harness.waiting import wait_for


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "events"


@pytest.fixture
def logging(run_gateway, origin, shadow, folder):
    return run_gateway(settings(origin, shadow, event_log={"directory": str(folder), "sync": "50ms"}))


def test_an_event_for_each_copy(logging, origin, shadow, folder, path):
    for number in range(5):
        logging.ask(f"{path}/{number}", fields=[("X-Request-Id", f"id-{number}")])
    found = wait_events(folder, 5)
    assert sorted(e["request_id"] for e in found) == [f"id-{n}" for n in range(5)]
    event = found[0]
    assert event["verdict"] == "allow" and event["provider"] == "app" and event["http_status"] == 200
    pair = event["traffic_mirror"]
    assert pair["shadow"]["provider"] == "next" and pair["shadow"]["status"] == "success"
    difference = pair["shadow"]["latency_ms"] - pair["primary"]["latency_ms"]
    assert abs(pair["comparison"]["latency_diff_ms"] - difference) < 0.0015
    assert len(event["shadow_id"]) == 36
    assert path not in json.dumps(found)
    run = subprocess.run([BINARY, "events", "tail", "--json", "--policy-config", str(logging.file)],
                         capture_output=True, text=True, timeout=30)
    assert [json.loads(line) for line in run.stdout.splitlines()] == found
    assert verify(folder)["valid"]
    assert "umbra_event_log_records_total 5" in logging.admin("/metrics")[1]
    assert logging.stop() == 0
    assert verify(folder)["valid"] and not verify(folder)["notes"]


def test_what_answers_do_not_say_is_pinned(run_gateway, origin, shadow, folder, path):
    config = settings(origin, shadow, event_log={"directory": str(folder), "sync": "50ms"})
    config["providers"]["targets"][0]["tags"] = {"model_rev": "r1", "index_hash": "i1"}
    config["providers"]["targets"][1]["tags"] = {"index_hash": "i2"}
    config["traffic_mirror"]["tags"] = {"model_rev": "r2"}
    gateway = run_gateway(config)
    gateway.ask(path)
    event = wait_events(folder, 1)[0]
    assert (event["model_rev"], event["index_hash"]) == ("r1", "i1")
    assert (event["shadow"]["model_rev"], event["shadow"]["index_hash"]) == ("r2", "i2")


@pytest.mark.parametrize("whole", [True, False], ids=["the folder", "a segment"])
def test_a_log_that_is_removed_is_begun_anew(logging, folder, path, whole):
    logging.ask(path, fields=[("X-Request-Id", "before")])
    wait_events(folder, 1)
    if whole:
        shutil.rmtree(folder)
    else:
        next(folder.glob("*.jsonl")).unlink()
    # Until somebody sees it, events go where nobody finds them.
    logging.ask(path, fields=[("X-Request-Id", "meanwhile")])
    wait_for(lambda: "was removed while it was written" in logging.text, "the word of it")
    assert re.search(r'umbra_event_log_failures_total\{call="sync"\} [1-9]', logging.admin("/metrics")[1])
    logging.ask(path, fields=[("X-Request-Id", "after")])
    assert wait_events(folder, 1)[-1]["request_id"] == "after"
    assert logging.stop() == 0 and verify(folder)["valid"]


def test_what_is_not_mirrored_has_no_event(logging, folder, path):
    logging.ask(path, method="POST")
    logging.ask(path, fields=[("X-Request-Id", "the-get")])
    found = wait_events(folder, 1)
    assert [e["request_id"] for e in found] == ["the-get"]


def test_a_killed_writer_and_a_killed_worker_cost_nothing_that_was_written(logging, folder, path):
    asked = 0
    for role in ("events", "worker", "events"):
        for _ in range(10):
            logging.ask(path)
            asked += 1
        before = wait_events(folder, asked)
        pid = logging.pid(role)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: all(p["state"] == "running" and p["pid"] != pid for p in logging.processes()),
                 f"another {role}")
        assert events(folder)[:len(before)] == before

        # A worker's death takes its shadow process along: copies are dropped until both are back.
        def goes_on():
            logging.ask(path)
            time.sleep(0.05)
            return len(events(folder)) > len(before)

        wait_for(goes_on, "events after the death")
        time.sleep(0.2)
        asked = len(events(folder))
    logging.ask(path)
    wait_events(folder, asked + 1)
    assert verify(folder)["valid"]
    assert logging.stop() == 0


def test_two_gateways_do_not_share_a_folder(logging, run_gateway, origin, shadow, folder, path):
    """The second one serves; its events wait, and are written once the folder is free."""
    logging.ask(path, fields=[("X-Request-Id", "first")])
    wait_events(folder, 1)
    second = run_gateway(settings(origin, shadow, event_log={"directory": str(folder)}))
    wait_for(lambda: "another process writes this event log" in second.text, "a word about it")
    assert second.ask(path, fields=[("X-Request-Id", "second")]).status == 200
    time.sleep(0.3)
    assert [e["request_id"] for e in events(folder)] == ["first"]
    assert logging.stop() == 0
    assert [e["request_id"] for e in wait_events(folder, 2)] == ["first", "second"]
    assert second.stop() == 0
    assert verify(folder)["valid"]


def test_a_reload_hands_the_log_over(run_gateway, origin, shadow, folder, path):
    """Under load, twice: not an event is lost, and the chain goes on in one folder."""
    config = settings(origin, shadow, event_log={"directory": str(folder), "sync": "50ms"})
    gateway = run_gateway(config)
    asked = []
    for round_number in range(3):
        for number in range(30):
            name = f"{round_number}-{number}"
            assert gateway.ask(path, fields=[("X-Request-Id", name)]).status == 200
            asked.append(name)
            if number == 10 and round_number < 2:
                before = gateway.pid("events")
                gateway.reload()
                wait_for(lambda: gateway.pid("events") != before, "another events process")
    found = wait_events(folder, len(asked))
    assert sorted(e["request_id"] for e in found) == sorted(asked)
    assert verify(folder)["valid"]
    assert not any(e["event_type"] == "gap" for e in events(folder, "--all"))
    assert f"umbra_event_log_records_total {len(asked)}" in gateway.admin("/metrics")[1]
    assert gateway.stop() == 0


def test_a_folder_that_cannot_be_is_an_error_at_the_start(tmp_path, origin, shadow):
    gateway = Gateway(tmp_path, settings(origin, shadow, event_log={"directory": "/proc/nowhere/events"}))
    run = subprocess.run([BINARY, "gateway", "run", "--policy-config", str(gateway.file)],
                         capture_output=True, text=True, timeout=15)
    assert run.returncode != 0 and "event_log.directory" in run.stderr
    doctor = subprocess.run([BINARY, "doctor", "--policy-config", str(gateway.file)], capture_output=True,
                            text=True, timeout=30)
    assert doctor.returncode != 0 and "event_log.directory" in doctor.stdout + doctor.stderr


def test_events_are_written_at_a_stop(run_gateway, origin, shadow, folder, path):
    gateway = run_gateway(settings(origin, shadow, event_log={"directory": str(folder), "sync": "1h"}))
    for number in range(20):
        gateway.ask(f"{path}/{number}")
    wait_for(lambda: len(shadow.seen(f"{path}/19")) == 1, "the last copy")
    wait_events(folder, 20)
    assert gateway.stop() == 0
    assert len(events(folder)) == 20 and verify(folder)["valid"]


def test_with_an_access_log_both_say_the_same(run_gateway, origin, shadow, folder, tmp_path, path):
    log = tmp_path / "access.log"
    gateway = run_gateway(settings(origin, shadow, event_log={"directory": str(folder)},
                                   access_log={"path": str(log)}))
    gateway.ask(path)
    event = wait_events(folder, 1)[0]
    line = wait_for(lambda: log.exists() and log.read_text().splitlines(), "a line")[0]
    line = json.loads(line)
    assert event["request_id"] == line["request_id"]
    assert event["shadow_id"] == line["shadows"][0]["shadow_id"]
    assert round(event["traffic_mirror"]["shadow"]["latency_ms"] * 1000) == line["shadows"][0]["latency_us"]
    assert gateway.stop() == 0
