"""The event log: written by a real process that is killed, starved and restarted; read by `umbra events`."""

import csv
import io
import json
import os
import random
import resource
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from harness.gateway import BINARY
from harness.waiting import wait_for

TOOL = str(Path(BINARY).parent / "EventLogTool")


def events(*words, code=0, text=True, timeout=60):
    run = subprocess.run([BINARY, "events", *map(str, words)], capture_output=True, text=text,
                         timeout=timeout)
    assert run.returncode == code, f"{run.returncode}: {run.stdout[-500:]}{run.stderr[-500:]}"
    return run.stdout


def write(folder, *words, code=0):
    run = subprocess.run([TOOL, "write", "--dir", str(folder), *map(str, words)],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == code, run.stderr + run.stdout
    return {name: int(value) for name, value in
            (line.split() for line in run.stdout.splitlines() if " " in line)}


def records(folder, *words):
    return json.loads(events("list", "--json", "--dir", folder, *words))


def verify(folder, *words, code=0):
    return json.loads(events("verify", "--json", "--dir", folder, *words, code=code))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "umbra-events"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A thousand decisions in several segments."""
    folder = tmp_path_factory.mktemp("log") / "umbra-events"
    write(folder, "--count", 1000, "--segment-bytes", 200_000, "--settle")
    return folder


def segments(folder):
    return sorted(folder.glob("events-*.jsonl"))


def test_list_and_tail(log):
    every = records(log)
    assert [e["request_id"] for e in every] == [f"req-{n}" for n in range(1000)]
    assert len(segments(log)) > 3
    last = records(log, "--last", 50)
    assert last == every[-50:]
    lines = events("tail", "--last", 3, "--format", "json", "--dir", log).splitlines()
    assert [json.loads(line) for line in lines] == every[-3:]
    assert json.loads(events("tail", "--last", 1, "--json", "--dir", log)) == every[-1]
    table = events("tail", "--dir", log).splitlines()
    assert len(table) == 11 and table[0].startswith("TIME") and "claude" not in table[1]


def test_the_tutorials_steps(log):
    """Steps 4 and 6 of the tutorial, with jq where there is one."""
    pair = json.loads(events("tail", "--last", 1, "--format", "json", "--dir", log))
    pair = pair["traffic_mirror"]
    side = ["provider", "model", "latency_ms", "input_tokens", "output_tokens", "status"]
    assert list(pair) == ["primary", "shadow", "comparison"]
    assert list(pair["primary"]) == side and list(pair["shadow"]) == side
    assert list(pair["comparison"]) == ["latency_diff_ms", "token_count_diff", "content_similarity"]
    assert pair["comparison"]["token_count_diff"] == 67
    pairs = [e["traffic_mirror"] for e in records(log, "--last", 50)]
    assert len(pairs) == 50
    assert sum(p["shadow"]["status"] != "success" for p in pairs) == 1


def test_filters(log):
    every = records(log)
    assert records(log, "--verdict", "block") == [e for e in every if e["verdict"] == "block"]
    assert len(records(log, "--verdict", "block", "--last", 7)) == 7
    assert records(log, "--policy", "content-filter", "--last", 1) == records(
        log, "--verdict", "block", "--last", 1)
    assert [e["request_id"] for e in records(log, "--request-id", "req-77")] == ["req-77"]
    assert records(log, "--model", "another") == []
    assert records(log, "--provider", "openai", "--last", 2) == every[-2:]
    assert records(log, "--since", "1h") == every
    assert records(log, "--since", "2099-01-01") == []
    middle = every[500]["timestamp"]
    assert records(log, "--since", middle) + [] == [e for e in every if e["timestamp"] >= middle]
    assert records(log, "--until", middle) == [e for e in every if e["timestamp"] < middle]
    own = [e for e in records(log, "--all") if e["event_type"] != "decision"]
    assert own and {e["event_type"] for e in own} == {"segment"}


def test_an_export_is_a_spreadsheet_or_json(log, tmp_path):
    file = tmp_path / "events.csv"
    events("export", "--verdict", "block", "--output", file, "--dir", log)
    data = file.read_bytes()
    assert data.startswith(b"\xef\xbb\xbfseq,timestamp,id,") and data.endswith(b"\r\n")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    wanted = records(log, "--verdict", "block")
    assert [row["request_id"] for row in rows] == [e["request_id"] for e in wanted]
    assert rows[0]["latency_diff_ms"] == str(
        wanted[0]["traffic_mirror"]["comparison"]["latency_diff_ms"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    whole = events("export", "--format", "json", "--dir", log)
    assert json.loads(whole) == records(log)
    assert os.listdir(tmp_path) == ["events.csv"]


def test_verify_names_the_first_broken_record(log, tmp_path):
    good = verify(log)
    assert good["valid"] and good["records"] == 1000 + len(segments(log))
    assert events("verify", "--dir", log).startswith("intact: ")
    verify(log, "--head", good["head"])
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", log, copy], check=True)
    victim = segments(copy)[1]
    victim.chmod(0o600)
    lines = victim.read_bytes().split(b"\n")
    lines[7] = lines[7].replace(b'"allow"', b'"block"').replace(b'"ok"', b'"no"')
    victim.write_bytes(b"\n".join(lines))
    bad = verify(copy, code=1)
    assert not bad["valid"]
    assert (bad["broken"]["file"], bad["broken"]["line"]) == (victim.name, 9)
    assert f"BROKEN {victim.name}:9: " in events("verify", "--dir", copy, code=1)
    # A log that ends earlier is intact by itself; the noted head shows it.
    short = tmp_path / "short"
    subprocess.run(["cp", "-r", log, short], check=True)
    segments(short)[-1].unlink()
    assert verify(short)["valid"]
    assert "missing" in verify(short, "--head", good["head"], code=1)["broken"]["reason"]


def test_closed_segments_are_read_only(log):
    modes = [stat.S_IMODE(s.stat().st_mode) for s in segments(log)]
    assert modes[:-1] == [0o440] * (len(modes) - 1) and modes[-1] == 0o640


@pytest.mark.parametrize("words", [
    [], ["nonsense"], ["list", "--last", "x"], ["list", "--last", "-1"], ["tail", "--verdict", "maybe"],
    ["list", "--since", "yesterday"], ["export", "--format", "table"], ["tail", "--format", "csv"],
    ["verify", "--head", "17"], ["list", "--follow"], ["tail", "--json", "--format", "table"]])
def test_what_is_not_understood_is_2(words, tmp_path):
    run = subprocess.run([BINARY, "events", *words, "--dir", str(tmp_path)] if words else [BINARY, "events"],
                         capture_output=True, text=True, timeout=15)
    assert run.returncode == 2 and run.stderr.strip() and not run.stdout


def test_help_a_missing_folder_and_an_empty_one(tmp_path):
    assert "umbra events verify" in events("--help")
    for command in ("tail", "list", "export", "verify"):
        assert "--dir" in events(command, "--help")
        events(command, "--dir", tmp_path / "nowhere", code=1)
    assert events("list", "--json", "--dir", tmp_path) == "[]\n"
    assert events("tail", "--json", "--dir", tmp_path) == ""
    assert verify(tmp_path)["records"] == 0


def test_a_reader_that_goes_is_no_error(log):
    run = subprocess.run(["sh", "-c", f'"{BINARY}" events tail --json --last 1000 --follow --dir "{log}" | head -1'],
                         capture_output=True, text=True, timeout=30)
    assert run.returncode == 0 and run.stderr == "" and json.loads(run.stdout)


def test_a_disk_that_is_full_for_an_export_is_an_error(log):
    with open("/dev/full", "wb") as full:
        run = subprocess.run([BINARY, "events", "list", "--json", "--dir", str(log)], stdout=full,
                             stderr=subprocess.PIPE, text=True, timeout=30)
    assert run.returncode == 1 and "No space left" in run.stderr


# Writing


class Writer:
    def __init__(self, folder, *words, **options):
        self.process = subprocess.Popen(
            [TOOL, "write", "--dir", str(folder), *map(str, words)], stdout=subprocess.PIPE,
            text=True, **options)

    def durable(self):
        """The last record that the writer called durable: all it has said by now."""
        said = [line.split() for line in self.process.stdout]
        return max([int(value) for name, value in said if name == "durable"], default=0)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(20)


def test_kill_9_at_any_moment_loses_nothing_that_was_synced(folder):
    """Twenty writers, each killed somewhere; records of some KB, so that a kill cuts writes."""
    random.seed(4)
    before = 0
    for round_number in range(20):
        writer = Writer(folder, "--count", 0, "--sync", 2, "--segment-bytes", 300_000,
                        "--text-bytes", random.choice([0, 3_000, 60_000]))
        # Some are killed while they start.
        time.sleep(random.choice([0.005, 0.03, 0.1, 0.2]))
        writer.end(signal.SIGKILL)
        durable = writer.durable()
        if not folder.exists():
            continue
        found = verify(folder)
        assert found["valid"]
        last = int(found["head"].split(":")[0]) if "head" in found else 0
        assert last >= durable and last >= before, f"round {round_number}: {last} < {durable}"
        before = last
    written = write(folder, "--count", 10)
    found = verify(folder)
    assert found["valid"] and not found["notes"]
    assert int(found["head"].split(":")[0]) >= before + 10 and written["appended"] == 10
    # Each record that is there is whole.
    for segment in segments(folder):
        for line in segment.read_bytes().split(b"\n")[:-1]:
            json.loads(line)


def test_a_full_disk_drops_counts_and_resumes(folder):
    """A limit on the file's size stands for the full disk: writes end short, then fail."""
    writer = Writer(folder, "--count", 0, "--rate", 20_000, "--sync", 5,
                    preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                                        resource.setrlimit(resource.RLIMIT_FSIZE,
                                                           (100_000, resource.RLIM_INFINITY))))
    pid = writer.process.pid
    try:
        wait_for(lambda: segments(folder) and segments(folder)[0].stat().st_size == 100_000,
                 "the limit")
        found = verify(folder)
        assert found["valid"] and len(found["notes"]) == 1
        stuck = int(found["head"].split(":")[0])
        time.sleep(0.5)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for(lambda: int(verify(folder)["head"].split(":")[0]) > stuck + 1000, "more records")
    finally:
        code = writer.end()
    assert code == 0
    found = verify(folder)
    assert found["valid"] and not found["notes"]
    ids = [int(e["request_id"].removeprefix("req-")) for e in records(folder)]
    assert ids == list(range(len(ids)))


def test_retention_removes_what_is_expired_and_nothing_else(folder):
    day = 86_400_000
    start = 1_800_000_000_000
    words = ["--start-ms", start, "--step-ms", day // 4, "--retention-days", 30, "--settle"]
    write(folder, "--count", 40, *words)
    assert len(segments(folder)) == 11
    names = [s.name for s in segments(folder)]
    # Thirty days behind the end of their own; a shorter setting changes nothing for what is written.
    write(folder, "--count", 1000, "--start-ms", start + 36 * day, "--retention-days", 1, "--settle",
          "--sync", 1)
    left = [s.name for s in segments(folder)]
    assert names[-1] in left and names[0] not in left
    assert 4 <= len(set(names) & set(left)) <= 6
    found = verify(folder)
    assert found["valid"] and "retention removed" in found["notes"][0]
    said = [e for e in records(folder, "--all") if e["event_type"] == "retention"]
    gone = [removed["segment"] for e in said for removed in e["removed"]]
    assert gone == [name for name in names if name not in left]


def test_one_writer_a_folder(folder):
    writer = Writer(folder, "--count", 0, "--rate", 10)
    try:
        wait_for(lambda: segments(folder), "a segment")
        run = subprocess.run([TOOL, "write", "--dir", str(folder)], capture_output=True, text=True,
                             timeout=20)
        assert run.returncode == 1 and "another process writes" in run.stderr
    finally:
        assert writer.end() == 0
    write(folder, "--count", 1)
    assert verify(folder)["valid"]


def test_follow_goes_over_segments_and_writers(folder):
    write(folder, "--count", 5)
    tail = subprocess.Popen([BINARY, "events", "tail", "--last", "2", "--follow", "--json", "--dir",
                             str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert [json.loads(tail.stdout.readline())["request_id"] for _ in range(2)] == ["req-3", "req-4"]
        for _ in range(3):
            write(folder, "--count", 400, "--segment-bytes", 70_000, "--settle")
            seen = [json.loads(tail.stdout.readline())["request_id"] for _ in range(400)]
            assert seen == [f"req-{n}" for n in range(400)]
        assert len(segments(folder)) > 5
    finally:
        tail.kill()
        tail.wait(10)
