"""Programs that nobody here wrote: curl, nginx, http.client, websockets, asyncio."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import threading

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

from harness import nginx
from harness.gateway import exchange, request_bytes, settings
from harness.peer import answer

MIB = 1 << 20
SIZES = {"small": 1000, "one-mib": MIB, "fifty-mib": 50 * MIB}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """nginx as the origin, with files of random bytes and their hashes."""
    server = nginx.origin(tmp_path_factory.mktemp("origin"))
    server.hashes = {}
    for name, size in SIZES.items():
        data = os.urandom(MIB) * (size // MIB) if size >= MIB else os.urandom(size)
        (server.root / "files" / name).write_bytes(data)
        server.hashes[name] = hashlib.sha256(data).hexdigest()
    (server.root / "files" / "page.html").write_text("<p>hello</p>\n")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def front(run_gateway, files):
    """The gateway before nginx."""
    return run_gateway(settings(files))


def curl(*arguments, data=None):
    run = subprocess.run(["curl", "-sS", "--max-time", "30", *map(str, arguments)], input=data,
                         capture_output=True, timeout=40)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


def url(gateway, path):
    return f"http://127.0.0.1:{gateway.port}{path}"


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.generic
@pytest.mark.parametrize("options", [[], ["--http1.0"], ["-H", "Connection: close"], ["--compressed"]],
                         ids=["plain", "1.0", "close", "compressed"])
def test_curl_get(gateway, origin, path, options):
    origin.on(path, raw=answer(body=b"hello curl"))
    assert curl(*options, url(gateway, path)) == b"hello curl"


@pytest.mark.generic
def test_curl_head(gateway, origin, path):
    origin.on(path, raw=b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nX-A: b\r\n\r\n")
    head = curl("-I", url(gateway, path)).decode()
    assert head.startswith("HTTP/1.1 200") and "X-A: b" in head


@pytest.mark.generic
def test_curl_post(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(answer(body=r.body)))
    assert curl("-d", "a=b&c=d", url(gateway, path)) == b"a=b&c=d"
    assert origin.seen(path)[0].method == "POST"


@pytest.mark.generic
@pytest.mark.parametrize("options", [
    ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"],
    ["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"], ["-H", "Expect:"]],
    ids=["chunked", "expect", "chunked-expect", "no-expect"])
def test_curl_big_upload(gateway, origin, path, tmp_path, options):
    body = os.urandom(MIB) * 5
    (tmp_path / "upload").write_bytes(body)
    origin.on(path, lambda c, r: c.send(answer(body=hashlib.sha256(r.body).hexdigest().encode())))
    got = curl("-T", tmp_path / "upload", *options, url(gateway, path))
    assert got.decode() == hashlib.sha256(body).hexdigest()


@pytest.mark.generic
def test_curl_reuses_its_connection(gateway, origin, path):
    out = curl("-w", "%{num_connects}\n", *[url(gateway, path) for _ in range(5)],
               "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null",
               "-o", "/dev/null").decode()
    assert out.split() == ["1", "0", "0", "0", "0"]


@pytest.mark.generic
def test_curl_upload_that_is_refused_early(gateway, origin, path, tmp_path):
    (tmp_path / "upload").write_bytes(b"x" * MIB)
    origin.on_head(path, lambda c, r: c.send(answer("403 Forbidden", b"no")) and "close")
    got = curl("-T", tmp_path / "upload", "-H", "Expect: 100-continue", "-w", "%{http_code}",
               url(gateway, path))
    assert got == b"no403"


@pytest.mark.parametrize("name", SIZES)
def test_nginx_download(front, files, name, tmp_path):
    curl("-o", tmp_path / "got", url(front, f"/{name}"))
    assert sha256_of(tmp_path / "got") == files.hashes[name]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("options", [[], ["-H", "Transfer-Encoding: chunked"]],
                         ids=["length", "chunked"])
def test_nginx_upload(front, files, name, options):
    kind = "c" if options else "l"
    curl("-f", "-T", files.root / "files" / name, *options, url(front, f"/upload/{name}-{kind}"))
    assert sha256_of(files.root / "files" / "upload" / f"{name}-{kind}") == files.hashes[name]


def test_nginx_ranges_and_conditions(front):
    with front.client() as client:
        first = exchange(client, "/page.html")
        assert first.body == b"<p>hello</p>\n"
        again = exchange(client, "/page.html", fields=[("If-None-Match", first.get("etag"))])
        assert (again.status, again.body) == (304, b"")
        part = exchange(client, "/page.html", fields=[("Range", "bytes=3-7")])
        assert (part.status, part.body) == (206, b"hello")
        assert exchange(client, "/nothing").status == 404
        assert exchange(client, "/page.html", "HEAD").get("content-length") == "13"
        assert exchange(client, "/page.html").body == b"<p>hello</p>\n"


def test_nginx_pipelining(front):
    with front.client() as client:
        client.send(b"".join(request_bytes("/page.html" if n % 2 else "/small")
                             for n in range(20)))
        sizes = [len(client.read_final().body) for _ in range(20)]
    assert sizes == [1000, 13] * 10


@pytest.mark.generic
def test_http_client(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(answer(body=r.body or b"empty")))
    link = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    sockets = set()
    for number in range(5):
        link.request("POST", path, body=b"number %d" % number, headers={"X-N": str(number)})
        response = link.getresponse()
        assert (response.status, response.read()) == (200, b"number %d" % number)
        sockets.add(link.sock.getsockname())
    # An iterable body goes out in chunks.
    link.request("PUT", path, body=iter([b"in ", b"chunks"]), encode_chunked=True,
                 headers={"Transfer-Encoding": "chunked"})
    assert link.getresponse().read() == b"in chunks"
    link.close()
    assert len(sockets) == 1


@pytest.fixture(scope="module")
def echo_socket():
    """A `websockets` server that echoes."""
    def echo(connection):
        for message in connection:
            connection.send(message)

    server = websockets.sync.server.serve(echo, "127.0.0.1", 0, max_size=None)
    server.port = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)


@pytest.fixture(scope="module")
def socket_front(run_gateway, echo_socket):
    return run_gateway(settings(echo_socket, limits={"idle_timeout": "30s"}))


@pytest.mark.parametrize("message", ["hello", "", b"\x00\xff" * 10, b"x" * 300_000, "\u00fc" * 70_000],
                         ids=["text", "empty", "binary", "large", "large-text"])
def test_websockets_echo(socket_front, message):
    with websockets.sync.client.connect(f"ws://127.0.0.1:{socket_front.port}/chat",
                                        max_size=None) as link:
        for _ in range(3):
            link.send(message)
            assert link.recv(timeout=10) == message
        assert link.ping().wait(10)


def test_websockets_close(socket_front):
    with websockets.sync.client.connect(f"ws://127.0.0.1:{socket_front.port}/") as link:
        link.close(1000, "bye")
        with pytest.raises(websockets.exceptions.ConnectionClosedOK):
            link.recv(timeout=10)
        assert link.close_code == 1000


def test_many_websockets_at_once(socket_front):
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(websockets.sync.client.connect(
            f"ws://127.0.0.1:{socket_front.port}/")) for _ in range(20)]
        for number, link in enumerate(links):
            link.send(str(number))
        assert [link.recv(timeout=10) for link in links] == [str(n) for n in range(20)]


@pytest.mark.generic
def test_asyncio_pipelining_on_many_connections(gateway, origin, path):
    origin.on(path, lambda c, r: c.send(answer(body=r.target.encode())))

    async def one(which, count=20):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for number in range(count):
            writer.write(request_bytes(f"{path}/{which}/{number}"))
        await writer.drain()
        got = []
        for _ in range(count):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            got.append((await reader.readexactly(length)).decode())
        writer.close()
        return got == [f"{path}/{which}/{n}" for n in range(count)]

    async def all_of_them():
        return await asyncio.wait_for(asyncio.gather(*[one(n) for n in range(10)]), 20)

    assert asyncio.run(all_of_them()) == [True] * 10


@pytest.mark.generic
def test_json_survives(gateway, origin, path):
    value = {"text": "gr\u00fc\u00df \U0001f44b", "list": list(range(100))}
    data = json.dumps(value, ensure_ascii=False).encode()
    origin.on(path, lambda c, r: c.send(answer(body=r.body)))
    got = curl("--data-binary", "@-", "-H", "Content-Type: application/json", url(gateway, path),
               data=data)
    assert json.loads(got) == value
