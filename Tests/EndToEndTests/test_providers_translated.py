"""Targets of the other dialect: an OpenAI SDK in front of Anthropic and the other way round cannot
tell that the gateway translates, whole or streamed, in good times and in bad."""

import concurrent.futures
import json
import re
import time

import anthropic
import openai
import pydantic
import pytest

from harness.gateway import chunked, exchange, llm_settings
from harness.mock import Mock
from harness.peer import answer

USER = [{"role": "user", "content": "What is Kubernetes?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTIONS = [{"type": "function", "function": {"name": n, "parameters": SCHEMA}}
             for n in ("get_weather", "get_time")]
TOOLS = [{"name": n, "input_schema": SCHEMA} for n in ("get_weather", "get_time")]
PIXEL = "A" * 400_000


def routed(openai_url, anthropic_url, **over):
    """`/chat/…` goes to Anthropic, `/messages/…` to OpenAI."""
    config = llm_settings([
        {"id": "anthropic", "provider": "anthropic", "base_url": anthropic_url,
         "secret_key_ref": {"env": "E2E_ANTHROPIC"}},
        {"id": "openai", "provider": "openai", "base_url": openai_url,
         "secret_key_ref": {"env": "E2E_OPENAI"}}])
    config["routes"] = [
        {"match": {"path_prefix": "/to-openai/"}, "rewrite_prefix": "/", "target": "openai"},
        {"match": {"path_prefix": "/to-anthropic/"}, "rewrite_prefix": "/", "target": "anthropic"}]
    config.update(over)
    return config


KEYS = {"E2E_OPENAI": "right-o", "E2E_ANTHROPIC": "right-a"}


@pytest.fixture(scope="module")
def mocks():
    # Bodies of 10 MiB are tokens enough for many minutes.
    pair = [Mock(dialect, "--key", key, "--tokens-per-minute", "1000000000")
            for dialect, key in (("openai", "right-o"), ("anthropic", "right-a"))]
    yield pair
    for mock in pair:
        mock.stop()


@pytest.fixture(scope="module")
def gateway(run_gateway, mocks):
    return run_gateway(routed(mocks[0].url, mocks[1].url), environment=KEYS)


@pytest.fixture(scope="module")
def peers(run_gateway, origin):
    """Both targets are the scripted origin, which may be slow for a second at most."""
    url = f"http://127.0.0.1:{origin.port}"
    return run_gateway(routed(url, url, limits={"answer_timeout": "1s"}), environment=KEYS)


@pytest.fixture
def gpt(gateway):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/to-anthropic/v1",
                       api_key="the-client's-own", timeout=20) as client:
        yield client


@pytest.fixture
def claude(gateway):
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}/to-openai",
                             api_key="the-client's-own", timeout=20) as client:
        yield client


@pytest.fixture
def direct(mocks):
    """What each side's own SDK gets of its provider."""
    with openai.OpenAI(base_url=mocks[0].url + "/v1", api_key="right-o") as gpt, \
            anthropic.Anthropic(base_url=mocks[1].url, api_key="right-a") as claude:
        yield gpt, claude


# The OpenAI SDK in front of Anthropic


def test_chat(gpt, direct):
    raw = gpt.chat.completions.with_raw_response.create(model="m", messages=USER, max_tokens=500)
    got = raw.parse()
    own = direct[1].messages.create(model="m", messages=USER, max_tokens=500)
    assert got.choices[0].message.content == own.content[0].text
    assert got.choices[0].finish_reason == "stop" and got.model == "m"
    assert got.object == "chat.completion" and got.id.startswith("chatcmpl-")
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (
        own.usage.input_tokens, own.usage.output_tokens)
    assert got._request_id.startswith("req_") and got.provider == "anthropic"
    assert int(raw.headers["x-ratelimit-limit-requests"]) > 0
    assert re.fullmatch(r"[0-9]+m?s", raw.headers["x-ratelimit-reset-tokens"])
    assert abs(got.created - time.time()) < 60


def test_chat_streamed(gpt, direct):
    whole = gpt.chat.completions.create(model="m", messages=USER, max_tokens=500)
    chunks = list(gpt.chat.completions.create(
        model="m", messages=USER, max_tokens=500, stream=True,
        stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 5
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    plain = list(gpt.chat.completions.create(model="m", messages=USER, stream=True))
    assert all(c.usage is None for c in plain)


def test_chat_tools(gpt):
    asked = [{"role": "user", "content": "Call get_weather and get_time."}]
    whole = gpt.chat.completions.create(model="m", messages=asked, tools=FUNCTIONS)
    with gpt.chat.completions.stream(model="m", messages=asked, tools=FUNCTIONS) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    for got in (whole, streamed):
        calls = got.choices[0].message.tool_calls
        assert got.choices[0].finish_reason == "tool_calls"
        assert [c.function.name for c in calls] == ["get_weather", "get_time"]
        assert [json.loads(c.function.arguments) for c in calls] == [{"city": "text"}] * 2
    after = asked + [whole.choices[0].message.model_dump(exclude_none=True)] + [
        {"role": "tool", "tool_call_id": c.id, "content": "sunny"}
        for c in whole.choices[0].message.tool_calls]
    last = gpt.chat.completions.create(model="m", messages=after, tools=FUNCTIONS)
    assert last.choices[0].message.content


def test_chat_in_a_form_with_images_and_systems(gpt):
    class Place(pydantic.BaseModel):
        city: str
    formed = gpt.chat.completions.parse(model="m", messages=USER, response_format=Place)
    assert formed.choices[0].message.parsed == Place(city="text")
    parts = [{"type": "text", "text": "?"},
             {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}}]
    seen = gpt.chat.completions.create(model="m", messages=[
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}])
    assert seen.choices[0].message.content.startswith("I was given image/png.")


@pytest.mark.parametrize("status, kind", [
    (400, openai.BadRequestError), (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError), (404, openai.NotFoundError),
    (429, openai.RateLimitError), (500, openai.InternalServerError),
    (529, openai.InternalServerError)])
@pytest.mark.parametrize("stream", [False, True])
def test_chat_errors(gpt, status, kind, stream):
    with pytest.raises(kind) as error:
        gpt.with_options(max_retries=0).chat.completions.create(
            model=f"error-{status}", messages=USER, stream=stream)
    assert error.value.status_code == (503 if status == 529 else status)
    assert error.value.request_id.startswith("req_")
    assert error.value.type and error.value.code and error.value.body["message"]


def test_chat_retries(gpt):
    raw = gpt.chat.completions.with_raw_response.create(model="flaky-429", messages=USER)
    assert raw.retries_taken == 1 and raw.parse().choices[0].message.content


@pytest.mark.parametrize("model", ["error-in-stream", "cut"])
def test_chat_streams_that_fail(gpt, model):
    got = []
    with pytest.raises(openai.APIError, match="had an error|ended before"):
        for chunk in gpt.chat.completions.create(model=model, messages=USER, stream=True):
            got.append(chunk)
    assert got and all(c.choices[0].finish_reason is None for c in got)


@pytest.mark.parametrize("model, stream", [
    ("html", False), ("html", True), ("invalid-json", False), ("cut", False)])
@pytest.mark.parametrize("sdk", ["gpt", "claude"])
def test_answers_that_are_none(request, sdk, model, stream):
    client = request.getfixturevalue(sdk).with_options(max_retries=0)
    with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)) as error:
        if sdk == "gpt":
            client.chat.completions.create(model=model, messages=USER, stream=stream)
        else:
            client.messages.create(model=model, messages=USER, max_tokens=99, stream=stream)
    assert error.value.status_code == 502
    body = error.value.body if sdk == "gpt" else error.value.body["error"]
    assert body["code"] == ("upstream_reset" if model == "cut" else "upstream_malformed")


def test_an_endless_stream_ends_with_its_client(gpt, gateway):
    for _ in range(3):
        stream = gpt.chat.completions.create(model="endless", messages=USER, stream=True)
        for count, _ in enumerate(stream):
            if count == 20:
                break
        stream.close()
    assert gpt.chat.completions.create(model="m", messages=USER).choices[0].message.content


def test_clients_that_lose_patience(gpt, claude):
    with pytest.raises(openai.APITimeoutError):
        gpt.with_options(max_retries=0, timeout=0.5).chat.completions.create(
            model="hang", messages=USER)
    with pytest.raises(anthropic.APITimeoutError):
        claude.with_options(max_retries=0, timeout=0.5).messages.create(
            model="hang", messages=USER, max_tokens=9)
    assert gpt.chat.completions.create(model="m", messages=USER).choices[0].message.content


def test_many_at_a_time_are_not_mixed(gpt, claude):
    def chat(number):
        said = f"number {number} " * (1 + number % 7)
        stream = gpt.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": said}], stream=True)
        return said, "".join(c.choices[0].delta.content or "" for c in stream)

    def message(number):
        said = f"number {number} " * (1 + number % 7)
        return said, claude.messages.create(
            model="echo", messages=[{"role": "user", "content": said}], max_tokens=99).content[0].text
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for said, got in [*pool.map(chat, range(60)), *pool.map(message, range(60))]:
            assert got.strip() == said.strip()


# The Anthropic SDK in front of OpenAI


def test_messages(claude, direct):
    got = claude.messages.create(model="m", messages=USER, max_tokens=500)
    own = direct[0].chat.completions.create(model="m", messages=USER, max_tokens=500)
    assert got.content[0].text == own.choices[0].message.content
    assert got.stop_reason == "end_turn" and got.role == "assistant" and got.type == "message"
    assert got.id.startswith("msg_") and got._request_id.startswith("req_")
    assert (got.usage.input_tokens, got.usage.output_tokens) == (
        own.usage.prompt_tokens, own.usage.completion_tokens)
    with claude.messages.stream(model="m", messages=USER, max_tokens=500) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == got.content[0].text
    assert final.usage.output_tokens == got.usage.output_tokens
    beta = claude.beta.messages.create(model="m", messages=USER, max_tokens=500)
    assert beta.content[0].text == got.content[0].text
    cut = claude.messages.create(model="m", messages=USER, max_tokens=3)
    assert cut.stop_reason == "max_tokens"


def test_messages_tools_and_images(claude):
    asked = [{"role": "user", "content": "Call get_weather and get_time."}]
    whole = claude.messages.create(model="m", max_tokens=500, messages=asked, tools=TOOLS)
    with claude.messages.stream(model="m", max_tokens=500, messages=asked, tools=TOOLS) as stream:
        streamed = stream.get_final_message()
    for got in (whole, streamed):
        uses = [block for block in got.content if block.type == "tool_use"]
        assert [u.name for u in uses] == ["get_weather", "get_time"]
        assert [u.input for u in uses] == [{"city": "text"}] * 2 and got.stop_reason == "tool_use"
    results = [{"type": "tool_result", "tool_use_id": u.id, "content": "sunny"}
               for u in whole.content if u.type == "tool_use"]
    last = claude.messages.create(model="m", max_tokens=500, tools=TOOLS, messages=asked + [
        {"role": "assistant", "content": [b.model_dump() for b in whole.content]},
        {"role": "user", "content": results}])
    assert last.content[0].text
    seen = claude.messages.create(model="m", max_tokens=500, system="Be brief.", messages=[
        {"role": "user", "content": [{"type": "text", "text": "?"}, {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]}])
    assert seen.content[0].text.startswith("I was given image/png.")


@pytest.mark.parametrize("status, kind, name", [
    (400, anthropic.BadRequestError, "invalid_request_error"),
    (401, anthropic.AuthenticationError, "authentication_error"),
    (403, anthropic.PermissionDeniedError, "permission_error"),
    (404, anthropic.NotFoundError, "not_found_error"),
    (429, anthropic.RateLimitError, "rate_limit_error"),
    (500, anthropic.InternalServerError, "api_error"),
    (503, anthropic.APIStatusError, "overloaded_error")])
def test_messages_errors(claude, status, kind, name):
    with pytest.raises(kind) as error:
        claude.with_options(max_retries=0).messages.create(
            model=f"error-{status}", messages=USER, max_tokens=99)
    assert error.value.status_code == (529 if status == 503 else status)
    assert error.value.body["type"] == "error" and error.value.body["error"]["type"] == name
    assert error.value.request_id.startswith("req_")


def test_messages_retries_and_streams_that_fail(claude):
    raw = claude.messages.with_raw_response.create(
        model="flaky-429", messages=USER, max_tokens=99)
    assert raw.retries_taken == 1
    assert raw.headers["anthropic-ratelimit-tokens-reset"].endswith("Z")
    for model in ("error-in-stream", "cut"):
        with pytest.raises(anthropic.APIStatusError, match="had an error|ended before"):
            with claude.messages.stream(model=model, messages=USER, max_tokens=99) as stream:
                stream.get_final_message()


# Bad requests

ENDS = [("/to-anthropic/v1/chat/completions", False), ("/to-openai/v1/messages", True)]
CHAT = {"model": "m", "max_tokens": 99, "messages": USER}


def bad(path, body, speaks_messages, gateway, status=400):
    reply = gateway.ask(path, method="POST", body=body)
    told = json.loads(reply.body)
    assert reply.status == status, told
    assert ("type" in told) == speaks_messages and told["error"]["message"]
    if status == 400:
        assert reply.get("x-should-retry") == "false"
        assert told["error"]["type"] == "invalid_request_error"
    return told["error"]


@pytest.mark.parametrize("path, speaks_messages", ENDS)
def test_bad_bodies_are_told_in_the_clients_language(gateway, path, speaks_messages):
    deep = b'{"model": "m", "messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    for body in (b"", b"{", b"<html>", b'{"a": "\xff"}', deep, b'{"model": 1}', b"[]", b"{} {}",
                 json.dumps(dict(CHAT, messages="x")).encode(),
                 json.dumps(dict(CHAT, messages=[])).encode(),
                 json.dumps(dict(CHAT, messages=[7])).encode(),
                 json.dumps(dict(CHAT, max_tokens="many")).encode(),
                 json.dumps(dict(CHAT, stream="yes")).encode(),
                 json.dumps(dict(CHAT, tools={"a": 1})).encode()):
        bad(path, body, speaks_messages, gateway)
    assert "deep" in bad(path, deep, speaks_messages, gateway)["message"]
    # The same connection goes on.
    with gateway.client() as client:
        assert exchange(client, path, "POST", body=b"{").status == 400
        whole = json.dumps(CHAT).encode()
        assert exchange(client, path, "POST", body=whole).status == 200
        assert exchange(client, path, "POST", [("Transfer-Encoding", "chunked")],
                        chunked(whole[:9], whole[9:])).status == 200


@pytest.mark.parametrize("path, speaks_messages", ENDS)
def test_large_bodies(gateway, path, speaks_messages):
    room = (10 << 20) - len(json.dumps(dict(CHAT, messages=[{"role": "user", "content": ""}])))
    whole = json.dumps(
        dict(CHAT, messages=[{"role": "user", "content": "x" * room}])).encode()
    assert len(whole) == 10 << 20
    assert gateway.ask(path, method="POST", body=whole).status == 200
    error = bad(path, whole + b" ", speaks_messages, gateway, status=413)
    assert error["code"] == "body_too_large"
    with gateway.client() as client:
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        try:
            for at in range(0, 12 << 20, 1 << 16):
                client.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        except OSError:
            pass
        assert client.read_final("POST").status == 413
    schema = {"type": "object", "properties": {}}
    many = [{"name": f"tool_{n}", "input_schema": schema} if speaks_messages else
            {"type": "function", "function": {"name": f"tool_{n}", "parameters": schema}}
            for n in range(1_000)]
    reply = gateway.ask(path, method="POST", body=json.dumps(dict(CHAT, tools=many)).encode())
    assert reply.status in (200, 400) and json.loads(reply.body)


def test_a_body_that_stops(run_gateway, mocks):
    gateway = run_gateway(routed(mocks[0].url, mocks[1].url, limits={"body_timeout": "1s"}),
                          environment=KEYS)
    for path, speaks_messages in ENDS:
        with gateway.client() as client:
            client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{{".encode())
            reply = client.read_final("POST")
        told = json.loads(reply.body)
        assert reply.status == 408 and ("type" in told) == speaks_messages


# What goes over the wire

MESSAGE = json.dumps({
    "type": "message", "id": "msg_1", "role": "assistant", "model": "c",
    "content": [{"type": "text", "text": "Grüße"}], "stop_reason": "end_turn",
    "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 2}}).encode()


def stream(*events):
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n"
                   for e in events).encode()


EVENTS = stream(
    {"type": "message_start", "message": {
        "id": "msg_1", "model": "c", "usage": {"input_tokens": 1, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüße 🦉"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"})


def test_what_the_target_gets(peers, origin):
    origin.on("/v1/messages", raw=answer(
        body=MESSAGE, fields=[("Content-Type", "application/json"), ("Request-Id", "req_7")]))
    origin.on("/v1/chat/completions", raw=answer("400 Bad Request", body=b"{}"))
    got = peers.ask("/to-anthropic/v1/chat/completions?a=b", "POST", body=json.dumps(CHAT).encode(),
                    fields=[("Authorization", "Bearer theirs"), ("OpenAI-Organization", "o"),
                            ("Content-Type", "text/plain"), ("Accept-Encoding", "gzip"),
                            ("Expect", "100-continue"), ("X-Own", "1"), ("Cookie", "a=theirs")])
    assert json.loads(got.body)["choices"][0]["message"]["content"] == "Grüße"
    assert got.get("x-request-id") == "req_7" and got.get("content-type") == "application/json"
    seen = origin.seen("/v1/messages")[-1]
    assert seen.path == "/v1/messages" and seen.get("x-api-key") == "right-a"
    assert seen.get("anthropic-version") == "2023-06-01" and seen.get("x-own") == "1"
    assert seen.get("content-type") == "application/json"
    for name in ("authorization", "openai-organization", "accept-encoding", "expect", "cookie"):
        assert seen.get(name) is None, name
    body = json.loads(seen.body)
    assert body["messages"] == [{"role": "user", "content": USER[0]["content"]}] or \
        body["messages"][0]["content"][0]["text"] == USER[0]["content"]
    got = peers.ask("/to-openai/v1/messages?beta=true", "POST", body=json.dumps(CHAT).encode(),
                    fields=[("x-api-key", "theirs"), ("anthropic-version", "2023-06-01")])
    assert got.status == 400 and json.loads(got.body)["type"] == "error"
    seen = origin.seen("/v1/chat/completions")[-1]
    assert seen.path == "/v1/chat/completions" and seen.get("authorization") == "Bearer right-o"
    assert seen.get("anthropic-version") is None and seen.get("x-api-key") is None


def test_the_clients_key_goes_where_the_target_looks(run_gateway, origin):
    url = f"http://127.0.0.1:{origin.port}"
    config = routed(url, url)
    for target in config["providers"]["targets"]:
        del target["secret_key_ref"]
    gateway = run_gateway(config)
    origin.on("/v1/messages", raw=answer(body=MESSAGE))
    origin.on("/v1/chat/completions", raw=answer("400 Bad Request", body=b"{}"))
    body = json.dumps(CHAT).encode()
    gateway.ask(ENDS[0][0], "POST", body=body, fields=[("Authorization", "bearer theirs")])
    assert origin.seen("/v1/messages")[-1].all("x-api-key") == ["theirs"]
    assert origin.seen("/v1/messages")[-1].get("authorization") is None
    gateway.ask(ENDS[1][0], "POST", body=body, fields=[("x-api-key", "theirs")])
    assert origin.seen("/v1/chat")[-1].all("authorization") == ["Bearer theirs"]


@pytest.mark.parametrize("framing", ["chunks", "bytes", "close", "length"])
def test_streams_however_they_come(peers, origin, framing):
    def reply(connection, request):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        if framing == "length":
            connection.send(head + b"Content-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS)
        elif framing == "close":
            connection.send(head + b"\r\n" + EVENTS)
            return "close"
        elif framing == "chunks":
            connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(EVENTS))
        else:
            connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for at in range(len(EVENTS)):
                # Every character is split, and every event.
                connection.send(b"1\r\n" + EVENTS[at:at + 1] + b"\r\n")
                if at % 16 == 0:
                    time.sleep(0.001)
            connection.send(b"0\r\n\r\n")
        return None
    origin.on("/v1/messages", reply)
    body = json.dumps(dict(CHAT, stream=True, stream_options={"include_usage": True})).encode()
    with peers.client() as client:
        for _ in range(2):
            got = exchange(client, ENDS[0][0], "POST", body=body)
            assert got.status == 200 and got.get("content-type").startswith("text/event-stream")
            lines = [line[6:] for line in got.body.decode().split("\n\n") if line]
            assert lines[-1] == "[DONE]"
            chunks = [json.loads(line) for line in lines[:-1]]
            text = "".join(c["choices"][0]["delta"].get("content") or ""
                           for c in chunks if c["choices"])
            assert text == "Grüße 🦉" and chunks[-1]["usage"]["total_tokens"] == 10
    used = {r.connection for r in origin.seen("/v1/messages")[-2:]}
    assert len(used) == (2 if framing == "close" else 1)


def test_a_stream_for_an_old_client(peers, origin):
    origin.on("/v1/messages", lambda connection, request: connection.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunked(EVENTS)))
    body = json.dumps(dict(CHAT, stream=True)).encode()
    with peers.client() as client:
        client.send(b"POST " + ENDS[0][0].encode() + b" HTTP/1.0\r\nContent-Length: %d\r\n\r\n"
                    % len(body) + body)
        raw = client.read_to_end()
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert b"chunked" not in head and rest.endswith(b"data: [DONE]\n\n")
    assert rest.startswith(b"data: {")


def test_a_target_that_keeps_its_connection_open_behind_the_end(peers, origin):
    def reply(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(EVENTS) + EVENTS + b"\r\n")
        # The last chunk never comes.
        connection.sock.settimeout(20)
        connection.sock.recv(1)
    origin.on("/v1/messages", reply)
    body = json.dumps(dict(CHAT, stream=True)).encode()
    got = peers.ask(ENDS[0][0], "POST", body=body)
    assert got.body.endswith(b"data: [DONE]\n\n")


def test_targets_that_say_nothing(peers, origin):
    body = json.dumps(dict(CHAT, stream=True)).encode()
    begun = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
             b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 60 + EVENTS[:60] + b"\r\n")

    def silent(said):
        def reply(connection, request):
            connection.send(said)
            connection.sock.settimeout(20)
            connection.sock.recv(1)
        return reply
    origin.on("/v1/messages", silent(b""))
    got = peers.ask(ENDS[0][0], "POST", body=body)
    assert got.status == 504 and json.loads(got.body)["error"]["code"] == "upstream_timeout"
    origin.on("/v1/messages", silent(begun))
    got = peers.ask(ENDS[0][0], "POST", body=body)
    assert got.status == 200 and b'"error"' in got.body and b"[DONE]" not in got.body
    origin.on("/v1/messages", silent(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"))
    got = peers.ask(ENDS[0][0], "POST", body=json.dumps(CHAT).encode())
    assert got.status == 504 and json.loads(got.body)["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize("raw", [
    answer("301 Moved", fields=[("Location", "https://elsewhere.test/")]),
    answer(body=MESSAGE, fields=[("Content-Encoding", "gzip")]),
    answer(body=b""), answer("204 No Content"), answer(body=b"[1, 2]"), answer(body=b'{"a": 1}'),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc\r\nxyz",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{"])
def test_answers_that_cannot_be_translated(peers, origin, raw):
    origin.on("/v1/messages", raw=raw)
    got = peers.ask(ENDS[0][0], "POST", body=json.dumps(CHAT).encode())
    assert got.status == 502, got.body
    assert json.loads(got.body)["error"]["code"] == "upstream_malformed"


def test_a_target_that_is_not_there(run_gateway, mocks):
    gateway = run_gateway(routed("http://127.0.0.1:1", "http://127.0.0.1:1"), environment=KEYS)
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/to-anthropic/v1", api_key="k",
                       max_retries=0) as gpt:
        with pytest.raises(openai.InternalServerError) as error:
            gpt.chat.completions.create(model="m", messages=USER)
        assert error.value.status_code == 502 and error.value.code == "upstream_refused"
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}/to-openai", api_key="k",
                             max_retries=0) as claude:
        with pytest.raises(anthropic.InternalServerError) as error:
            claude.messages.create(model="m", messages=USER, max_tokens=9)
        assert error.value.body["type"] == "error"
        assert error.value.body["error"]["type"] == "api_error"
        # On a path that is passed through the client's language is known by its version field.
        with pytest.raises(anthropic.InternalServerError) as error:
            claude.models.list()
        assert error.value.body["type"] == "error"


def test_first_tokens_are_not_held_back(run_gateway, mocks):
    slow = Mock("anthropic", "--latency-ms", "50", "--tokens-per-second", "10")
    try:
        gateway = run_gateway(routed(mocks[0].url, slow.url), environment=KEYS)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/to-anthropic/v1",
                           api_key="k") as client:
            times = [time.monotonic() for _ in client.chat.completions.create(
                model="long", messages=USER, max_tokens=8, stream=True)]
    finally:
        slow.stop()
    # 7 gaps of 100 ms: held back, they would come together.
    assert times[-1] - times[0] > 0.5


def test_the_copy_is_what_the_client_sent(run_gateway, origin, shadow):
    def target(name, provider, peer):
        return {"id": name, "provider": provider, "base_url": f"http://127.0.0.1:{peer.port}/{name}",
                "secret_key_ref": {"env": f"E2E_KEY_{name.upper()}"}}
    config = routed("http://127.0.0.1:1", "http://127.0.0.1:1")
    del config["routes"]
    config["providers"]["targets"] = [
        target("prod", "anthropic", origin), target("next", "openai", shadow)]
    config["traffic_mirror"] = {"primary": "prod", "shadow": "next", "safety": {"methods": ["POST"]},
                                # The client names the primary's models, whatever it speaks itself.
                                "model_mapping": {CHAT["model"]: CHAT["model"]}}
    gateway = run_gateway(
        config, environment={"E2E_KEY_PROD": "key-of-prod", "E2E_KEY_NEXT": "key-of-next"})
    origin.on("/prod/v1/messages", raw=answer(body=MESSAGE))
    body = json.dumps(CHAT, indent=1).encode()
    got = gateway.ask("/v1/chat/completions", "POST", [("Transfer-Encoding", "chunked")],
                      chunked(body[:50], body[50:]))
    assert got.status == 200
    copy = shadow.wait_seen("/next/v1/chat/completions")[0]
    assert json.loads(copy.body) == CHAT
    assert copy.all("authorization") == ["Bearer key-of-next"]
    assert "key-of-prod" not in repr(copy.fields)
    sent = origin.seen("/prod/v1/messages")[0]
    assert sent.get("x-request-id") == copy.get("x-request-id")
