"""Clients that ask without pause."""

import threading
import time
from collections import Counter

from .gateway import exchange
from .message import Incomplete
from .waiting import wait_for


class Load:
    """Clients that ask without pause, each for a path of its own unless `own_paths` is false; every
    request is accounted for."""

    def __init__(self, gateway, path, clients=4, keep_alive=True, gap_s=0.002, own_paths=True):
        # Answers by status; heads of those that are not the origin's `ok`; what broke, in words.
        self.statuses, self.wrong, self.faults = Counter(), [], []
        self.refused = 0
        self.lock, self.done = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(
            target=self._work, daemon=True,
            args=(gateway, f"{path}/{n}" if own_paths else path, keep_alive, gap_s))
            for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive(), "a client hangs"

    @property
    def answered(self):
        with self.lock:
            return sum(self.statuses.values())

    @property
    def ok(self):
        return self.answered - len(self.wrong)

    @property
    def broken(self):
        return len(self.faults)

    def _work(self, gateway, path, keep_alive, gap_s):
        client = None
        while not self.done.is_set():
            try:
                if client is None:
                    client = gateway.client()
                got = exchange(client, path)
                with self.lock:
                    self.statuses[got.status] += 1
                    if got.status != 200 or got.body != b"ok":
                        self.wrong.append(got.head)
                if not keep_alive or got.get("connection") == "close":
                    client.close()
                    client = None
                time.sleep(gap_s)
            except ConnectionRefusedError:
                with self.lock:
                    self.refused += 1
            except (Incomplete, OSError) as fault:
                with self.lock:
                    self.faults.append(repr(fault))
                client.close() if client else None
                client = None
        if client:
            client.close()

    def wait_more(self, count, timeout=30):
        target = self.ok + count
        wait_for(lambda: self.ok >= target, f"{count} more answers", timeout)
