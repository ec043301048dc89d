"""HTTP/1.1 messages as the wire has them. Strict on purpose: what a lenient reader would
forgive is a fault of the sender here."""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9][0-9]) ([^\r\n\0]*)")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[^\r\n]*)?)")


class Malformed(AssertionError):
    """The peer under test wrote something that is not HTTP."""


class Incomplete(Exception):
    """The connection ended inside a message; `message` holds what there was of it."""

    def __init__(self, why, message=None):
        super().__init__(why)
        self.message = message


@dataclass
class Message:
    start: bytes = b""
    fields: list = field(default_factory=list)
    body: bytes = b""
    trailers: list = field(default_factory=list)
    head: bytes = b""
    framing: str = "none"
    # The sizes of the chunks as they came, where the body was chunked.
    chunks: list = field(default_factory=list)
    # The chunked body's own bytes.
    wire: bytes = b""

    def all(self, name):
        """Every value of a field, in order."""
        return [v.decode("latin-1") for n, v in self.fields if n.lower() == name.lower().encode()]

    def get(self, name, default=None):
        """The field's value; several lines are joined as RFC 9110, section 5.3, allows."""
        values = self.all(name)
        return ", ".join(values) if values else default

    def trailer(self, name):
        values = [v for n, v in self.trailers if n.lower() == name.lower().encode()]
        return values[0].decode("latin-1") if values else None


@dataclass
class Answer(Message):
    version: str = ""
    status: int = 0
    reason: str = ""
    interim: list = field(default_factory=list)


@dataclass
class Request(Message):
    method: str = ""
    target: str = ""
    version: str = ""
    connection: int = -1
    at: float = 0.0

    @property
    def path(self):
        rest = self.target
        if "://" in rest.split("?")[0]:
            rest = "/" + rest.split("://", 1)[1].partition("/")[2]
        return rest.split("?", 1)[0]


def parse_fields(lines):
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name) or re.search(rb"[\r\n\0]", value):
            raise Malformed(f"not a field line: {line!r}")
        fields.append((name, value.strip(b" \t")))
    return fields


def parse_head(head, into):
    """`head` without its closing empty line."""
    if re.search(rb"(?<!\r)\n|\r(?!\n)", head):
        raise Malformed(f"a bare CR or LF in {head!r}")
    lines = head.split(b"\r\n")
    into.start, into.head = lines[0], head
    into.fields = parse_fields(lines[1:])
    lengths = into.all("content-length")
    codings = into.all("transfer-encoding")
    if len(lengths) > 1 or (lengths and codings):
        raise Malformed(f"two framings: {head!r}")
    if lengths and not re.fullmatch(r"[0-9]+", lengths[0]):
        raise Malformed(f"Content-Length {lengths[0]!r}")
    if codings and [c.lower() for c in codings] != ["chunked"]:
        raise Malformed(f"Transfer-Encoding {codings!r}")
    return into


def parse_answer_head(head):
    answer = Answer()
    parse_head(head, answer)
    match = STATUS_LINE.fullmatch(answer.start)
    if not match:
        raise Malformed(f"status line {answer.start!r}")
    answer.version = match[1].decode()
    answer.status = int(match[2])
    answer.reason = match[3].decode("latin-1")
    return answer


def parse_request_head(head):
    request = Request()
    parse_head(head, request)
    parts = request.start.split(b" ")
    if len(parts) != 3 or not re.fullmatch(rb"HTTP/1\.[01]", parts[2]):
        raise Malformed(f"request line {request.start!r}")
    request.method, request.target = parts[0].decode(), parts[1].decode("latin-1")
    request.version = parts[2].decode()
    return request
