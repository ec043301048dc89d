"""What stands in an event log, by the commands that people use."""

import json
import subprocess

from .gateway import BINARY
from .waiting import wait_for


def events(folder, *words):
    if "--last" not in words:
        words = ("--last", "10000", *words)
    run = subprocess.run([BINARY, "events", "list", "--json", "--dir", str(folder), *words],
                         capture_output=True, text=True, timeout=30)
    return json.loads(run.stdout) if run.returncode == 0 else []


def verify(folder):
    run = subprocess.run([BINARY, "events", "verify", "--json", "--dir", str(folder)],
                         capture_output=True, text=True, timeout=30)
    return json.loads(run.stdout)


def wait_events(folder, count, *words):
    return wait_for(lambda: (found := events(folder, *words)) and len(found) >= count and found,
                    lambda: f"{count} events, there are {len(events(folder, *words))}")
