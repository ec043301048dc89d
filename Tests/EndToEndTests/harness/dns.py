"""A scripted DNS server on loopback, UDP and TCP on one port: it says what the test has it say,
truth or not, and remembers what it was asked."""

import socket
import struct
import threading
import time

from .waiting import wait_for

A, AAAA = 1, 28
NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5


def _question(message):
    """Name and type of the first question."""
    labels, place = [], 12
    while message[place]:
        end = place + 1 + message[place]
        labels.append(message[place + 1:end].decode())
        place = end
    return ".".join(labels).lower(), struct.unpack("!H", message[place + 1:place + 3])[0]


def wire_name(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


class Question:
    def __init__(self, message):
        self.message = message
        self.id = struct.unpack("!H", message[:2])[0]
        self.name, self.type = _question(message)
        self.at = time.monotonic()

    def answer(self, addresses=(), ttl=1, code=0, cut=False, id=None, name=None, records=None):
        """A message that answers this question; `id` and `name` make it a lie."""
        family = socket.AF_INET if self.type == A else socket.AF_INET6
        data = [socket.inet_pton(family, a) for a in addresses if (":" in a) == (self.type == AAAA)]
        if records is None:
            records = b"".join(
                b"\xc0\x0c" + struct.pack("!HHIH", self.type, 1, ttl, len(d)) + d for d in data)
            count = len(data)
        else:
            count = 1
        asked = wire_name(name or self.name) + struct.pack("!HH", self.type, 1)
        flags = 0x8180 | code | (0x0200 if cut else 0)
        head = struct.pack("!HHHHHH", self.id if id is None else id, flags, 1, count, 0, 0)
        return head + asked + records


class DNSServer:
    """`script(question)` gives the datagrams that are sent back; `addresses` is the usual one:
    a mapping from names to their addresses, everything else does not exist."""

    def __init__(self, addresses=None, ttl=1):
        self.addresses = dict(addresses or {})
        self.ttl = ttl
        self.script = self.truth
        self.stream_script = self.truth
        self.questions, self.streams = [], []
        self.stopping = False
        while True:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind(("127.0.0.1", 0))
            self.port = self.socket.getsockname()[1]
            self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self.listener.bind(("127.0.0.1", self.port))
            except OSError:
                self.socket.close()
                self.listener.close()
                continue
            break
        self.listener.listen(64)
        threading.Thread(target=self._datagrams, daemon=True).start()
        threading.Thread(target=self._streams, daemon=True).start()

    def truth(self, question):
        known = self.addresses.get(question.name)
        if known is None:
            return [question.answer(code=NXDOMAIN)]
        return [question.answer(known, ttl=self.ttl)]

    def _datagrams(self):
        while not self.stopping:
            try:
                message, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            if len(message) < 17:  # the socket is shut down
                continue
            question = Question(message)
            self.questions.append(question)
            for answer in self.script(question) or []:
                try:
                    self.socket.sendto(answer, peer)
                except OSError:
                    pass

    def _streams(self):
        while not self.stopping:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            try:
                link.settimeout(5)
                data = b""
                while len(data) < 2 or len(data) < 2 + struct.unpack("!H", data[:2])[0]:
                    piece = link.recv(4096)
                    if not piece:
                        break
                    data += piece
                else:
                    question = Question(data[2:])
                    self.streams.append(question)
                    for answer in self.stream_script(question) or []:
                        link.sendall(struct.pack("!H", len(answer)) + answer)
            except OSError:
                pass
            finally:
                link.close()

    def asked(self, name):
        return [q for q in list(self.questions) if q.name == name]

    def wait_asked(self, name, more=2, timeout=20):
        """Until the name was asked for `more` times from now on."""
        count = len(self.asked(name)) + more
        wait_for(lambda: len(self.asked(name)) >= count, f"{more} more questions for {name}",
                 timeout)

    def stop(self):
        self.stopping = True
        for sock in (self.socket, self.listener):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
