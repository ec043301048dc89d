"""`umbra demo`: what it prints is what it did."""
import json
import re
import subprocess

from harness.gateway import BINARY

# Step 6 of the tutorial.
SUMS = """[.[] | select(.traffic_mirror != null) | .traffic_mirror] | {
total_mirrored: length,
avg_primary_latency_ms: (map(.primary.latency_ms) | add / length | round),
avg_shadow_latency_ms: (map(.shadow.latency_ms) | add / length | round),
avg_similarity: (map(.comparison.content_similarity) | add / length * 100 | round / 100),
avg_primary_output_tokens: (map(.primary.output_tokens) | add / length | round),
avg_shadow_output_tokens: (map(.shadow.output_tokens) | add / length | round),
shadow_failures: (map(select(.shadow.status != "success")) | length)
}"""


def test_the_tutorial_and_the_cost(tmp_path):
    events = tmp_path / "events"
    demo = subprocess.run(
        [BINARY, "demo", "--once", "--seconds", "1", "--rate", "200", "--events", events],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )
    assert demo.returncode == 0, demo.stderr
    output = demo.stdout
    printed = dict(re.findall(r"^((?:total|avg|shadow)_\w+) +(\S+)$", output, re.M))

    # The same numbers as the tutorial's own commands give.
    listed = subprocess.run(
        [BINARY, "events", "list", "--dir", events, "--last", "50", "--format", "json"],
        capture_output=True, text=True, check=True, timeout=30,
    ).stdout
    sums = json.loads(
        subprocess.run(["jq", SUMS], input=listed, capture_output=True, text=True, check=True).stdout
    )
    assert sums["total_mirrored"] == 5
    assert sums["shadow_failures"] == 0
    assert 0 < sums["avg_similarity"] <= 1
    assert {name: float(value) for name, value in printed.items()} == sums

    # A line for each chat, with the numbers of its event.
    pairs = [event["traffic_mirror"] for event in json.loads(listed)]
    lines = re.findall(r"^\S.*[.?] +(\d+) +(\d+) +(\d+) +(\d+) +(\d\.\d\d)$", output, re.M)
    assert [tuple(map(int, line[:4])) for line in lines] == [
        (
            round(pair["primary"]["latency_ms"]), pair["primary"]["output_tokens"],
            round(pair["shadow"]["latency_ms"]), pair["shadow"]["output_tokens"],
        )
        for pair in pairs
    ]
    assert {pair["shadow"]["model"] for pair in pairs} == {"claude-sonnet-4-20250514"}

    # The second part: everybody was answered, and the cap held some copies back.
    row = {name.strip(): cells for name, cells in re.findall(r"^(\S.*?|  \S.*?)  +(.*)$", output, re.M)}
    answered = row["requests answered"].split()
    assert answered == row["of those offered"].split()
    assert int(answered[0]) > 0
    assert int(row["eligible for the shadow"]) >= int(answered[1])
    assert int(row["sampled"]) == int(row["mirrored (sent)"]) + sum(
        int(cells) for name, cells in row.items() if name.startswith("dropped: ")
    )
    assert float(row["P99 on / off, median of 3 pairs"]) > 0


def test_it_ends_on_a_signal_and_leaves_nothing(tmp_path):
    demo = subprocess.Popen(
        [BINARY, "demo", "--seconds", "1", "--rate", "50"],
        cwd=tmp_path, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    try:
        for line in demo.stdout:
            if line.startswith("The gateways go on serving"):
                break
        else:
            raise AssertionError("it never served")
        demo.send_signal(2)
        assert demo.wait(timeout=30) == 130
    finally:
        demo.kill()
        demo.wait()
    assert list(tmp_path.iterdir()) == []
