"""A socket with a buffer that reads HTTP messages off the wire."""

import socket
import time

from . import message
from .message import Incomplete, Malformed
from .waiting import PROMPT_S

READ_BYTES = 256 * 1024
HEAD_BYTES_MAX = 1 << 20


class Stream:
    def __init__(self, sock, timeout=PROMPT_S):
        self.sock = sock
        self.timeout = timeout
        self.buffer = bytearray()
        self.ended = False
        self.reset = False
        sock.settimeout(timeout)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        """Sends all; a peer that closed meanwhile is no fault (its answer is still read)."""
        try:
            self.sock.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass

    def abort(self):
        """Ends the connection by a reset."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                 (1).to_bytes(4, "little") + (0).to_bytes(4, "little"))
        except OSError:
            pass
        self.close()

    def fill(self):
        """Reads once; false at the end of the stream."""
        if self.ended:
            return False
        try:
            data = self.sock.recv(READ_BYTES)
        except ConnectionResetError:
            self.ended = self.reset = True
            return False
        if not data:
            self.ended = True
            return False
        self.buffer += data
        return True

    def take(self, count):
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def read_exactly(self, count):
        while len(self.buffer) < count:
            if not self.fill():
                raise Incomplete(f"{len(self.buffer)} of {count} bytes")
        return self.take(count)

    def read_line(self):
        while True:
            at = self.buffer.find(b"\n")
            if at >= 0:
                line = self.take(at + 1)
                if not line.endswith(b"\r\n"):
                    raise Malformed(f"a line that ends in a bare LF: {line!r}")
                return line[:-2]
            if len(self.buffer) > HEAD_BYTES_MAX:
                raise Malformed("a line without end")
            if not self.fill():
                raise Incomplete("inside a line")

    def read_to_end(self):
        while self.fill():
            pass
        return self.take(len(self.buffer))

    def read_head(self):
        """The head without its closing empty line, or None where the stream ended before it."""
        scanned = 0
        while True:
            at = self.buffer.find(b"\r\n\r\n", max(0, scanned - 3))
            if at >= 0:
                head = self.take(at)
                self.take(4)
                return head
            scanned = len(self.buffer)
            if scanned > HEAD_BYTES_MAX:
                raise Malformed("a head without end")
            if not self.fill():
                if self.buffer:
                    raise Incomplete(f"inside a head: {bytes(self.buffer[:200])!r}")
                return None

    def read_chunked(self, into):
        body, wire = bytearray(), bytearray()
        try:
            while True:
                line = self.read_line()
                match = message.CHUNK_SIZE.fullmatch(line)
                if not match:
                    raise Malformed(f"chunk size {line!r}")
                size = int(match[1], 16)
                wire += line + b"\r\n"
                if size == 0:
                    break
                into.chunks.append(size)
                data = self.read_exactly(size)
                body += data
                if self.read_exactly(2) != b"\r\n":
                    raise Malformed("no CRLF after a chunk")
                wire += data + b"\r\n"
            lines = []
            while line := self.read_line():
                lines.append(line)
            into.trailers = message.parse_fields(lines)
        except Incomplete as cut:
            cut.message = into
            raise
        finally:
            into.body, into.wire = bytes(body), bytes(wire)

    def read_body(self, into, to_end=False):
        """Reads a body framed by its own head; `to_end` where neither field is there."""
        if into.get("transfer-encoding"):
            into.framing = "chunked"
            self.read_chunked(into)
        elif (length := into.get("content-length")) is not None:
            into.framing = "length"
            try:
                into.body = self.read_exactly(int(length))
            except Incomplete as cut:
                into.body = self.take(len(self.buffer))
                cut.message = into
                raise
        elif to_end:
            into.framing = "close"
            into.body = self.read_to_end()
        return into

    def read_answer(self, method="GET"):
        """The next answer, an interim one (1xx) too."""
        head = self.read_head()
        if head is None:
            raise Incomplete("no answer")
        answer = message.parse_answer_head(head)
        bodyless = method == "HEAD" or answer.status < 200 or answer.status in (204, 304)
        if not bodyless and not (method == "CONNECT" and answer.status < 300):
            self.read_body(answer, to_end=True)
        return answer

    def read_final(self, method="GET"):
        """The next final answer; the interim ones before it are in `interim`."""
        interim = []
        while True:
            answer = self.read_answer(method)
            if answer.status >= 200 or answer.status == 101:
                answer.interim = interim
                return answer
            interim.append(answer)

    def wait_end(self, timeout=PROMPT_S):
        """What came before the peer ended the connection; fails where it does not end."""
        self.sock.settimeout(timeout)
        try:
            return self.read_to_end()
        except TimeoutError:
            raise AssertionError(f"the connection is still open after {timeout:g} s") from None
        finally:
            self.sock.settimeout(self.timeout)

    def is_open(self, for_s=0.05):
        """Whether the peer has left the connection open and silent."""
        self.sock.settimeout(for_s)
        try:
            return self.fill()
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(self.timeout)


def connect(port, host="127.0.0.1", timeout=PROMPT_S, receive_buffer=None):
    """A raw client's connection. Retries nothing: a refused connection is a finding."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(timeout)
    sock.connect((host, port))
    return Stream(sock, timeout)


def send_slowly(stream, data, pieces, gap_s):
    """Sends `data` in `pieces` parts, so that the receiver sees each alone."""
    step = max(1, len(data) // pieces)
    for at in range(0, len(data), step):
        if not stream.send(data[at:at + step]):
            return False
        time.sleep(gap_s)
    return True
