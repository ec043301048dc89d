"""Chats through an LLM target: their CPU against the same bytes to a plain target, what a translation
adds, what users of 200 streams feel of mirroring, and how much later the first token comes. Umbra alone;
the providers are its own stand-ins."""

import json
import socket
import time

from ..bench import STOLEN_SHARE_MAX_LATENCY
from ..processes import Child, Fault, listening_inodes, wait_until
from ..report import Result

BODY_BYTES = 4_096
CONNECTIONS = 16
STREAMS = 200
# A stream lasts some seconds, as a person reads.
STREAM_TOKENS_PER_SECOND = 20
FIRST_TOKENS = 100
PATH = "/v1/chat/completions"
FIELDS = ["Content-Type: application/json", "Authorization: Bearer client", "User-Agent: OpenAI/Python 1.55.0"]
KEYS = {"OPENAI_API_KEY": "bench", "ANTHROPIC_API_KEY": "bench"}
READY_SECONDS = 10.0


class Mock(Child):
    """`umbra mock`: a provider on loopback."""

    def __init__(self, bench, dialect, tokens_per_second=0):
        self.port = bench.port()
        super().__init__(
            [bench.umbra, "mock", dialect, "--port", self.port, "--tokens-per-second", tokens_per_second,
             "--requests-per-minute", 1_000_000_000, "--tokens-per-minute", 1_000_000_000],
            bench.work / f"mock-{self.port}.log", cpus={bench.load_cpu}, name=f"mock {dialect}")
        ready = wait_until(lambda: bool(listening_inodes(self.port)) or not self.is_running(), READY_SECONDS)
        if not ready or not self.is_running():
            raise Fault(f"{self.name} does not start:\n{self.log_tail()}")


def target(name, provider, mock):
    key = "" if provider == "http" else f", secret_key_ref: {{env: {provider.upper()}_API_KEY}}"
    return f'    - {{id: {name}, provider: {provider}, base_url: "http://127.0.0.1:{mock.port}"{key}}}\n'


def gateway(bench, label, targets, mirror="", events=True):
    folder = bench.work / "run" / label / "events"
    log = f'{{directory: "{folder}"}}' if events else "off"
    services = f"event_log: {log}\nproviders:\n  targets:\n{targets}{mirror}"
    return bench.proxy("umbra", Port(0), label=label, services=services, environment=KEYS)


class Port:
    """The upstream's place in a gateway whose services are written out."""

    def __init__(self, port):
        self.port = port


def body_file(bench, name, model, stream):
    message = {"role": "user", "content": ""}
    body = {"model": model, "messages": [message], "max_tokens": 64}
    if stream:
        body["stream"] = True
    words = "what is known of edge proxies and of the traffic that they copy? "
    room = BODY_BYTES - len(json.dumps(body))
    message["content"] = (words * (room // len(words) + 1))[:room]
    path = bench.work / f"{name}.json"
    path.write_text(json.dumps(body))
    return path


def run(bench, kinds):
    result = Result("chat", "Chats through LLM targets: CPU, translation, mirrored streams, the first token")
    if "umbra" not in kinds:
        return result
    cpu(bench, result)
    streams(bench, result)
    first_token(bench, result)
    result.notes.append(
        f"bodies of {BODY_BYTES:,} bytes; the stand-ins answer with some 50 tokens; event_log on unless said otherwise")
    return result


def cpu(bench, result):
    openai, anthropic = Mock(bench, "openai"), Mock(bench, "anthropic")
    gateways = {
        "plain": gateway(bench, "chat-plain", target("app", "http", openai), events=False),
        "passed through, no events": gateway(
            bench, "chat-pass", target("app", "openai", openai), events=False),
        "passed through": gateway(bench, "chat-events", target("app", "openai", openai)),
        "translated, no events": gateway(
            bench, "chat-translated", target("app", "anthropic", anthropic), events=False),
    }
    body = body_file(bench, "chat", "gpt-4o-mini", stream=False)
    values = {name: [] for name in gateways}
    for index in range(bench.rounds):
        for name, proxy in bench.order(list(gateways.items()), index):
            done = bench.measure(
                proxy, result, f"{name} {index + 1}/{bench.rounds}", tail=0.3, connections=CONNECTIONS,
                method="POST", path=PATH, body_file=body, fields=FIELDS)
            values[name].append(done)
            result.figure("worker CPU per chat", "µs", name).values.append(done.worker_us)
            result.figure("CPU per chat, all processes", "µs", name).values.append(done.cpu_us)
    bench.finish(result, gateways.values(), [])
    for mock in (openai, anthropic):
        mock.end()
    plain = values["plain"]

    def ratios(name, measure):
        return [measure(done) / measure(other) for done, other in zip(values[name], plain)]

    result.row("worker CPU per chat, passed through / plain proxy", "",
               ratios("passed through, no events", lambda done: done.worker_us), 1.5)
    result.row("CPU per chat of all processes, with its event / plain proxy", "",
               ratios("passed through", lambda done: done.cpu_us))
    result.row(
        "worker time that a translated chat of 4 KiB adds", "µs",
        [done.worker_us - other.worker_us for done, other in zip(values["translated, no events"], plain)], 150)


def streams(bench, result):
    openai = Mock(bench, "openai", STREAM_TOKENS_PER_SECOND)
    anthropic = Mock(bench, "anthropic", STREAM_TOKENS_PER_SECOND)
    targets = target("app", "openai", openai) + target("next", "anthropic", anthropic)
    mirror = (
        "traffic_mirror: {primary: app, shadow: next, sample_rate: 1.0, model_mapping: {gpt-4o-mini: claude},\n"
        f"  limits: {{qps: 20000, in_flight: {2 * STREAMS}}}}}\n")
    off = gateway(bench, "streams-off", targets)
    on = gateway(bench, "streams-on", targets, mirror)
    body = body_file(bench, "stream", "gpt-4o-mini", stream=True)
    ratios = []
    for index in range(bench.rounds):
        p99 = {}
        for proxy in (off, on) if index % 2 == 0 else (on, off):
            done = bench.measure(
                proxy, result, f"{STREAMS} streams {index + 1}/{bench.rounds}", tail=0.3, connections=STREAMS,
                method="POST", path=PATH, body_file=body, fields=FIELDS, grace=20.0,
                seconds=max(bench.seconds, 4.0), warmup=1.0, stolen_max=STOLEN_SHARE_MAX_LATENCY)
            p99[proxy] = done.load.p99_ms
            label = "mirrored" if proxy is on else "not mirrored"
            result.figure(f"P99 of a stream, {STREAMS} at a time", "ms", label).values.append(done.load.p99_ms)
        ratios.append(p99[on] / p99[off])
    sent = sum(on.metrics().get("umbra_mirror_sent_total", {}).values())
    result.figure("copies sent", "", "mirrored").values.append(sent)
    if not sent:
        result.faults.append("no stream was mirrored")
    bench.finish(result, [off, on], [])
    for mock in (openai, anthropic):
        mock.end()
    result.row(f"P99 of {STREAMS} streams, mirrored / off", "", ratios, 1.05)


def first_token(bench, result):
    openai = Mock(bench, "openai", STREAM_TOKENS_PER_SECOND)
    proxy = gateway(bench, "first-token", target("app", "openai", openai))
    content = body_file(bench, "first", "gpt-4o-mini", stream=True).read_bytes()
    times = {openai.port: [], proxy.port: []}
    for index in range(FIRST_TOKENS):
        for port in sorted(times, reverse=index % 2 == 0):
            times[port].append(first_content(port, content))
    delays = [through - direct for direct, through in zip(times[openai.port], times[proxy.port])]
    for label, port in (("direct", openai.port), ("through", proxy.port)):
        result.figure("until the first token", "ms", label).values += times[port]
    proxy.end()
    openai.end()
    result.row("how much later the first token comes", "ms", delays, 1.0)


def first_content(port, content):
    """Milliseconds from the request to the first piece of text of its stream."""
    head = "".join(f"{field}\r\n" for field in FIELDS)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        client.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        seen = b""
        while b'"content":"' not in seen.replace(b'"content":""', b""):
            piece = client.recv(65536)
            if not piece:
                raise Fault(f"no stream from port {port}: {seen[:300]!r}")
            seen += piece
        return (time.perf_counter() - started) * 1000
