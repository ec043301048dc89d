"""Listening ports outside the kernel's range for outgoing connections, so that nothing that this
machine connects meanwhile can take one between the choice and the bind."""

import os
import random
import socket

FIRST, LAST = 23000, 23999
_random = random.Random(os.getpid())
_given = set()


def free_port():
    for _ in range(2000):
        port = _random.randint(FIRST, LAST)
        if port in _given:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no free port")
