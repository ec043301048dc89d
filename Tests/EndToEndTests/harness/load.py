"""Clients that ask without pause."""

import threading
import time

from .gateway import exchange
from .message import Incomplete
from .waiting import wait_for


class Load:
    """Clients that ask without pause; counts what was answered and what broke, by kind."""

    def __init__(self, gateway, path, clients=4, keep_alive=True, gap_s=0.002):
        self.ok, self.broken, self.refused, self.wrong = 0, 0, 0, []
        self.lock, self.done = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(
            target=self._work, args=(gateway, f"{path}/{n}", keep_alive, gap_s), daemon=True)
            for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join(15)
            assert not thread.is_alive(), "a client hangs"

    def count(self, name):
        with self.lock:
            setattr(self, name, getattr(self, name) + 1)

    def _work(self, gateway, path, keep_alive, gap_s):
        client = None
        while not self.done.is_set():
            try:
                if client is None:
                    client = gateway.client()
                got = exchange(client, path)
                if got.status == 200 and got.body == b"ok":
                    self.count("ok")
                else:
                    self.wrong.append(got.head)
                if not keep_alive or got.get("connection") == "close":
                    client.close()
                    client = None
                time.sleep(gap_s)
            except ConnectionRefusedError:
                self.count("refused")
            except (Incomplete, OSError):
                self.count("broken")
                client.close() if client else None
                client = None
        if client:
            client.close()

    def wait_more(self, count):
        target = self.ok + count
        wait_for(lambda: self.ok >= target, f"{count} more answers ({self.ok} so far)")
