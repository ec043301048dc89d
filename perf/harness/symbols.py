"""Where CPU time goes: perf's samples as a table, Swift's names made readable."""

import re
import shutil
import subprocess

from .processes import Fault
from .sampling import SAMPLES_PER_SECOND, Perf, threads_option

LINE = re.compile(r"^\s*([\d.]+)%\s+(\d+)\s+\[(.)\]\s+(.*?)\s*$")


def record(pids, directory, run):
    """Samples the processes with their stacks while `run()` runs; the path of the data."""
    data = directory / "perf.data"
    perf = Perf(["record", "-q", "-g", "-F", SAMPLES_PER_SECOND, "-e", "cpu-clock", "-o", data]
                + threads_option(pids), directory / "perf.log")
    try:
        done = run()
    finally:
        perf.stop()
    return done, data


def shares(data):
    """[(share, 'user' or 'kernel', function)], the largest first."""
    text = subprocess.run(
        ["perf", "report", "-i", str(data), "--stdio", "--no-children", "-g", "none",
         "--percent-limit", "0", "-F", "overhead,sample,sym"],
        capture_output=True, text=True).stdout
    found = []
    for line in text.splitlines():
        match = LINE.match(line)
        if match:
            kind = "kernel" if match.group(3) in "kKgH" else "user"
            found.append((int(match.group(2)), kind, match.group(4)))
    total = sum(samples for samples, _, _ in found)
    if not total:
        raise Fault(f"perf took no samples; see {data}")
    names = demangle([name for _, _, name in found])
    rows = [(samples / total, kind, name)
            for (samples, kind, _), name in zip(found, names)]
    return sorted(rows, reverse=True), total


def demangle(names):
    """Swift's names as a person reads them; as they are where there is no `swift`."""
    if not names or not shutil.which("swift"):
        return names
    done = subprocess.run(
        ["swift", "demangle", "--compact", "--simplified"], input="\n".join(names), text=True,
        capture_output=True)
    lines = done.stdout.splitlines()
    return lines if len(lines) == len(names) else names


def shorten(name, width):
    return name if len(name) <= width else name[:width - 1] + "…"
