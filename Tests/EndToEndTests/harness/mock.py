"""A stand-in for a provider: `umbra mock`, on a free port, ended by its pid."""

import os
import re
import subprocess

from .gateway import die_with_the_tests


class Mock:
    def __init__(self, dialect, *options):
        self.process = subprocess.Popen(
            [os.environ["UMBRA_BIN"], "mock", dialect, "--port", "0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            preexec_fn=die_with_the_tests)
        line = self.process.stdout.readline()
        found = re.search(r"listens on (http://\S+)", line)
        if not found:
            self.stop()
            raise AssertionError(f"umbra mock said {line!r}")
        self.url = found.group(1)
        self.port = int(self.url.rsplit(":", 1)[1])

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
