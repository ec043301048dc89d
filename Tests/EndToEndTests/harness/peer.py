"""A scripted HTTP server: origin or shadow. It records what it was sent, exactly, and answers as
the test tells it to, byte by byte where need be."""

import socket
import threading
import time
import traceback

from . import message
from .message import Incomplete, Malformed
from .stream import Stream
from .waiting import PROMPT_S, wait_for

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status="200 OK", body=b"", fields=(), version="HTTP/1.1"):
    """A plain answer with a Content-Length."""
    lines = [f"{version} {status}"] + [f"{n}: {v}" for n, v in fields]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class PeerConnection(Stream):
    def __init__(self, peer, sock, index):
        super().__init__(sock, timeout=60)
        self.peer = peer
        self.index = index
        self.served = 0
        self.accepted_at = time.monotonic()

    def read_request_body(self, request):
        if "100-continue" in (request.get("expect") or "").lower() and self.peer.auto_continue:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.read_body(request)
        self.peer.record(request)


class Peer:
    """Handlers are `f(connection, request)`, chosen by the longest path that begins the target;
    without one the answer is 200 `ok`. A handler returning `"close"` ends the connection."""

    def __init__(self, name="origin", port=0, host="127.0.0.1"):
        self.name = name
        self.host = host
        self.auto_continue = True
        self.handlers = {}
        self.default = lambda connection, request: connection.send(OK)
        self.accept = None
        self.heads, self.requests, self.fragments, self.faults = [], [], [], []
        self.connections = []
        self.lock = threading.Lock()
        self.stopping = False
        self.listener = None
        self.port = port
        self.listen()

    def listen(self, backlog=1024):
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((self.host, self.port))
        self.port = self.listener.getsockname()[1]
        self.listener.listen(backlog)
        self.stopping = False
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def on(self, path, handler=None, raw=None, read_body=True):
        """Answers requests whose path begins with `path` by a handler or by these bytes."""
        if raw is not None:
            def handler(connection, request):
                connection.send(raw)
        self.handlers[path] = (handler, read_body)

    def on_head(self, path, handler):
        """As `on`, called before the body is read."""
        self.on(path, handler, read_body=False)

    def record(self, request):
        with self.lock:
            self.requests.append(request)

    def seen(self, path, of=None):
        """The complete requests whose path begins with `path`."""
        with self.lock:
            return [r for r in (of if of is not None else self.requests)
                    if r.path.startswith(path)]

    def wait_seen(self, path, count=1, timeout=PROMPT_S):
        wait_for(lambda: len(self.seen(path)) >= count,
                 lambda: f"{count} at {self.name} under {path}, {len(self.seen(path))} came",
                 timeout)
        return self.seen(path)

    @property
    def open_connections(self):
        with self.lock:
            return [c for c in self.connections if c.sock.fileno() >= 0]

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                connection = PeerConnection(self, sock, len(self.connections))
                self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            if self.accept is not None:
                self.accept(connection)
            else:
                self._converse(connection)
        except (OSError, ValueError):
            pass
        except Incomplete as cut:
            with self.lock:
                self.fragments.append(cut)
        except Exception:
            with self.lock:
                self.faults.append(traceback.format_exc())
        finally:
            connection.close()

    def _converse(self, connection):
        while (head := connection.read_head()) is not None:
            request = message.parse_request_head(head)
            request.at = time.monotonic()
            request.connection = connection.index
            with self.lock:
                self.heads.append(request)
            handler, read_body = self._handler(request.path)
            if read_body:
                connection.read_request_body(request)
            connection.served += 1
            if handler(connection, request) == "close" or connection.sock.fileno() < 0:
                return

    def _handler(self, path):
        best = max((p for p in list(self.handlers) if path.startswith(p)), key=len, default=None)
        return self.handlers[best] if best is not None else (self.default, True)

    def drop_connections(self):
        for connection in self.open_connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self.stopping = True
        # shutdown wakes the accepting thread; close alone would leave it in accept().
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.drop_connections()


__all__ = ["Peer", "PeerConnection", "OK", "answer", "Malformed", "Incomplete"]
