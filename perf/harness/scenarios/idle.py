"""Memory of idle keep-alive connections: what the processes grow by when thousands stay open."""

import selectors
import socket
import time

from ..processes import Fault, memory
from ..report import Result

CONNECTIONS = 5_000
BATCH = 64
SETTLE_SECONDS = 1.0


def run(bench, kinds):
    result = Result("idle", f"Memory of {CONNECTIONS:,} idle keep-alive connections")
    origin = bench.origin()
    for index in range(max(1, min(3, bench.rounds))):
        for kind in bench.order(kinds, index):
            proxy = bench.proxy(kind, origin, label=f"{kind}-{index}")
            bench.progress(f"idle: round {index + 1}: {kind}")
            # Warm: buffers, pools and code that the first requests bring in are not the connections'.
            bench.measure(proxy, result, "warm-up", seconds=1.0)
            time.sleep(SETTLE_SECONDS)
            before = memory(proxy.tree()).pss
            for what, asks in (("connected only", False), ("after one request each", True)):
                clients = open_connections(proxy.port, asks)
                time.sleep(SETTLE_SECONDS)
                grown = memory(proxy.tree()).pss - before
                result.figure(f"per connection, {what}", "KiB", kind).values.append(grown / CONNECTIONS)
                for client in clients:
                    client.close()
                time.sleep(SETTLE_SECONDS)
            proxy.end()
    bench.finish(result, [], [origin])
    if "umbra" in kinds:
        result.row("KiB per idle connection, after one request each", "KiB",
                   result.values("per connection, after one request each", "umbra"), 0.5)
        result.row("KiB per idle connection, connected only", "KiB",
                   result.values("per connection, connected only", "umbra"), 0.5)
    return result


def open_connections(port, asks):
    """Opens them some at a time, so that no accept queue overflows."""
    clients = []
    request = b"GET /idle HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    while len(clients) < CONNECTIONS:
        batch = [socket.create_connection(("127.0.0.1", port), timeout=5)
                 for _ in range(min(BATCH, CONNECTIONS - len(clients)))]
        if asks:
            for client in batch:
                client.sendall(request)
            read_answers(batch)
        clients += batch
    return clients


def read_answers(batch):
    """Reads each one's whole answer: a head and 1,024 bytes."""
    waiting = {client: b"" for client in batch}
    with selectors.DefaultSelector() as selector:
        for client in batch:
            selector.register(client, selectors.EVENT_READ)
        while waiting:
            events = selector.select(timeout=5)
            if not events:
                raise Fault(f"{len(waiting)} connections had no answer within 5 s")
            for key, _ in events:
                client = key.fileobj
                data = client.recv(65536)
                if not data:
                    raise Fault("a connection was closed that should have stayed open")
                waiting[client] += data
                if len(waiting[client].partition(b"\r\n\r\n")[2]) >= 1024:
                    selector.unregister(client)
                    del waiting[client]
