"""The stand-ins, before the official SDKs: they cannot tell."""

import base64
import http.client
import json
import os
import socket
import struct
import subprocess
import threading
import time

import anthropic
import openai
import pytest
from harness.mock import Mock

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
    "required": ["city"],
}
PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
         "rkJggg==")


@pytest.fixture(scope="module")
def openai_mock():
    mock = Mock("openai")
    yield mock
    mock.stop()


@pytest.fixture(scope="module")
def anthropic_mock():
    mock = Mock("anthropic")
    yield mock
    mock.stop()


@pytest.fixture
def gpt(openai_mock):
    with openai.OpenAI(base_url=openai_mock.url + "/v1", api_key="k", timeout=20) as client:
        yield client


@pytest.fixture
def claude(anthropic_mock):
    with anthropic.Anthropic(base_url=anthropic_mock.url, api_key="k", timeout=20) as client:
        yield client


def user(text):
    return [{"role": "user", "content": text}]


def functions(*names):
    return [{"type": "function", "function": {"name": name, "parameters": WEATHER}}
            for name in names]


# OpenAI: chat


def test_chat(gpt):
    answer = gpt.chat.completions.create(model="gpt-4o-mini", messages=user("What is Kubernetes?"))
    again = gpt.chat.completions.create(model="gpt-4o-mini", messages=user("What is Kubernetes?"))
    assert answer.object == "chat.completion" and answer.model == "gpt-4o-mini"
    assert answer.id.startswith("chatcmpl-") and answer.id != again.id
    choice = answer.choices[0]
    assert choice.finish_reason == "stop" and "kubernetes" in choice.message.content
    assert choice.message.content == again.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert abs(answer.created - time.time()) < 60


def test_chat_stream(gpt):
    whole = gpt.chat.completions.create(model="m", messages=user("Explain CORS."))
    chunks = list(gpt.chat.completions.create(
        model="m", messages=user("Explain CORS."), stream=True,
        stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_chat_tools(gpt):
    tools = functions("get_weather", "get_time")
    both = gpt.chat.completions.create(
        model="m", messages=user("Call get_weather and get_time."), tools=tools)
    calls = both.choices[0].message.tool_calls
    assert both.choices[0].finish_reason == "tool_calls"
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert json.loads(calls[0].function.arguments) == {"city": "text", "unit": "C"}
    one = gpt.chat.completions.create(
        model="m", messages=user("Call get_weather and get_time."), tools=tools,
        parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls) == 1
    turn = both.choices[0].message.model_dump(exclude_none=True)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}
               for call in calls]
    after = gpt.chat.completions.create(
        model="m", messages=user("Call get_weather and get_time.") + [turn] + results, tools=tools)
    assert "18 degrees" in after.choices[0].message.content
    with pytest.raises(openai.BadRequestError):
        gpt.chat.completions.create(model="m", messages=user("a") + [turn] + results[:1])


def test_chat_tools_streamed_by_the_helper(gpt):
    with gpt.chat.completions.stream(
            model="m", messages=user("Call get_weather."), tools=functions("get_weather")) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["unit"] == "C"


def test_chat_vision_and_form(gpt):
    parts = [{"type": "text", "text": "What is this?"},
             {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}}]
    seen = gpt.chat.completions.create(model="m", messages=user(parts))
    assert seen.choices[0].message.content.startswith("I was given image/png.")
    schema = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}
    formed = gpt.chat.completions.create(model="m", messages=user("a"), response_format=schema)
    assert json.loads(formed.choices[0].message.content) == {"city": "text", "unit": "C"}


def test_chat_limits_stops_choices_logprobs_refusal(gpt):
    short = gpt.chat.completions.create(
        model="long", messages=user("a"), max_completion_tokens=5, n=2, logprobs=True)
    assert [c.finish_reason for c in short.choices] == ["length", "length"]
    assert len(short.choices[0].logprobs.content) == 5
    stopped = gpt.chat.completions.create(model="echo", messages=user("one two three"), stop=" th")
    assert stopped.choices[0].message.content == "one two"
    refused = gpt.chat.completions.create(model="refusal", messages=user("a")).choices[0].message
    assert refused.content is None and refused.refusal
    echoed = "Grüße 🙂 \"x\"\n\u2028"
    answer = gpt.chat.completions.create(model="echo", messages=user(echoed))
    assert answer.choices[0].message.content == echoed
    stream = gpt.chat.completions.create(model="echo", messages=user(echoed), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream) == echoed


def test_legacy_completions(gpt):
    answer = gpt.completions.create(model="echo", prompt="one two", max_tokens=50)
    assert answer.choices[0].text == "one two"
    chunks = gpt.completions.create(model="echo", prompt="one two", max_tokens=50, stream=True)
    assert "".join(c.choices[0].text for c in chunks) == "one two"


# OpenAI: the other APIs


def test_embeddings(gpt, openai_mock):
    texts = ["a cat sat on the mat", "the cat sat on a mat", "quantum flux"]
    # The SDK asks for base64 by itself.
    vectors = [item.embedding for item in
               gpt.embeddings.create(model="text-embedding-3-small", input=texts).data]
    plain = gpt.embeddings.create(
        model="text-embedding-3-small", input=texts, encoding_format="float")
    assert [len(v) for v in vectors] == [1536] * 3
    for got, wanted in zip(vectors[0], plain.data[0].embedding):
        assert got == pytest.approx(wanted, abs=1e-6)

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b))
    assert cosine(vectors[0], vectors[0]) == pytest.approx(1, abs=1e-4)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.3
    small = gpt.embeddings.create(model="text-embedding-3-large", input="a", dimensions=8,
                                  extra_body={"encoding_format": "base64"})
    raw = small.data[0].embedding
    if isinstance(raw, str):
        raw = struct.unpack("<8f", base64.b64decode(raw))
    assert len(raw) == 8
    assert gpt.embeddings.create(model="m", input=[[1, 2, 3], [4]]).usage.prompt_tokens == 4
    with pytest.raises(openai.BadRequestError):
        gpt.embeddings.create(model="m", input="")


def test_responses(gpt):
    answer = gpt.responses.create(model="echo", input="one two three")
    assert answer.output_text == "one two three" and answer.status == "completed"
    with gpt.responses.stream(model="echo", input="one two three") as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == "one two three"
    assert final.usage.output_tokens == answer.usage.output_tokens
    tool = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}
    for called in (
        gpt.responses.create(model="m", input="call get_weather", tools=[tool]),
        [e for e in gpt.responses.create(model="m", input="call get_weather", tools=[tool],
                                         stream=True)][-1].response,
    ):
        assert called.output[0].type == "function_call"
        assert json.loads(called.output[0].arguments)["city"] == "text"


def test_models(gpt):
    names = [model.id for model in gpt.models.list()]
    assert "gpt-4o-mini" in names
    assert gpt.models.retrieve("gpt-4o").owned_by == "system"
    with pytest.raises(openai.NotFoundError):
        gpt.models.retrieve("nothing")


OPENAI_ERRORS = {400: openai.BadRequestError, 401: openai.AuthenticationError,
                 403: openai.PermissionDeniedError, 404: openai.NotFoundError,
                 409: openai.ConflictError, 422: openai.UnprocessableEntityError,
                 429: openai.RateLimitError, 500: openai.InternalServerError,
                 503: openai.InternalServerError}


@pytest.mark.parametrize("status", OPENAI_ERRORS)
def test_openai_errors(gpt, status):
    with pytest.raises(OPENAI_ERRORS[status]) as error:
        gpt.with_options(max_retries=0).chat.completions.create(
            model=f"error-{status}", messages=user("a"))
    assert error.value.status_code == status and error.value.request_id.startswith("req_")


def test_openai_retries_and_headers(gpt):
    raw = gpt.chat.completions.with_raw_response.create(model="flaky-429", messages=user("a"))
    assert raw.retries_taken == 1 and raw.parse().choices
    assert raw.headers["x-ratelimit-limit-requests"] == "10000"
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) < 2_000_000
    assert raw.headers["openai-processing-ms"].isdigit()


def test_openai_streams_that_fail(gpt):
    def read(model):
        return "".join(c.choices[0].delta.content or "" for c in gpt.chat.completions.create(
            model=model, messages=user("a"), stream=True) if c.choices)
    with pytest.raises(openai.APIError, match="had an error"):
        read("error-in-stream")
    # The SDK passes httpx's own faults of a body on in some versions.
    with pytest.raises(Exception, match="(?i)reset|incomplete|closed|connection"):
        read("cut")
    with pytest.raises(openai.APITimeoutError):
        gpt.with_options(timeout=0.5, max_retries=0).chat.completions.create(
            model="hang", messages=user("a"))


def test_keys():
    mock = Mock("openai", "--key", "right")
    try:
        for key, fits in (("right", True), ("wrong", False)):
            with openai.OpenAI(base_url=mock.url + "/v1", api_key=key) as client:
                if fits:
                    assert client.models.list().data
                else:
                    with pytest.raises(openai.AuthenticationError):
                        client.models.list()
    finally:
        mock.stop()


# Anthropic


def test_messages(claude):
    answer = claude.messages.create(
        model="claude-sonnet-4-20250514", max_tokens=500, messages=user("What is Kubernetes?"),
        system="Be brief.")
    assert answer.type == "message" and answer.role == "assistant"
    assert answer.stop_reason == "end_turn" and "kubernetes" in answer.content[0].text
    assert answer.usage.input_tokens > 5 and answer.usage.output_tokens > 20
    assert answer.id.startswith("msg_01")


def test_messages_stream(claude):
    whole = claude.messages.create(model="m", max_tokens=500, messages=user("Explain CORS."))
    with claude.messages.stream(
            model="m", max_tokens=500, messages=user("Explain CORS.")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens
    kinds = [e.type for e in claude.messages.create(
        model="echo", max_tokens=50, messages=user("a b"), stream=True)]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]


def test_messages_tools(claude):
    tools = [{"name": name, "input_schema": WEATHER} for name in ("get_weather", "get_time")]
    ask = user("Call get_weather and get_time.")
    with claude.messages.stream(model="m", max_tokens=500, messages=ask, tools=tools) as stream:
        streamed = stream.get_final_message()
    whole = claude.messages.create(model="m", max_tokens=500, messages=ask, tools=tools)
    for answer in (whole, streamed):
        assert answer.stop_reason == "tool_use"
        assert [b.name for b in answer.content] == ["get_weather", "get_time"]
        assert answer.content[0].input == {"city": "text", "unit": "C"}
    results = [{"type": "tool_result", "tool_use_id": b.id, "content": "18 degrees"}
               for b in whole.content]
    turn = [{"role": "assistant", "content": [b.model_dump() for b in whole.content]}]
    after = claude.messages.create(
        model="m", max_tokens=500, tools=tools, messages=ask + turn + user(results))
    assert "18 degrees" in after.content[0].text
    with pytest.raises(anthropic.BadRequestError, match="tool_result"):
        claude.messages.create(
            model="m", max_tokens=500, tools=tools, messages=ask + turn + user(results[:1]))


def test_messages_vision_stop_limits_refusal(claude):
    image = {"type": "image",
             "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    seen = claude.messages.create(
        model="m", max_tokens=500, messages=user([image, {"type": "text", "text": "And this?"}]))
    assert seen.content[0].text.startswith("I was given image/png.")
    stopped = claude.messages.create(
        model="echo", max_tokens=50, messages=user("one two three"), stop_sequences=[" th"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " th")
    short = claude.messages.create(model="long", max_tokens=5, messages=user("a"))
    assert short.stop_reason == "max_tokens" and short.usage.output_tokens == 5
    refused = claude.messages.create(model="refusal", max_tokens=5, messages=user("a"))
    assert refused.stop_reason == "refusal"
    assert claude.messages.count_tokens(model="m", messages=user("a" * 400)).input_tokens > 100
    assert claude.models.list().data[0].type == "model"


ANTHROPIC_ERRORS = {400: anthropic.BadRequestError, 401: anthropic.AuthenticationError,
                    403: anthropic.PermissionDeniedError, 404: anthropic.NotFoundError,
                    413: anthropic.APIStatusError, 429: anthropic.RateLimitError,
                    500: anthropic.InternalServerError, 529: anthropic.InternalServerError}


@pytest.mark.parametrize("status", ANTHROPIC_ERRORS)
def test_anthropic_errors(claude, status):
    with pytest.raises(ANTHROPIC_ERRORS[status]) as error:
        claude.with_options(max_retries=0).messages.create(
            model=f"error-{status}", max_tokens=5, messages=user("a"))
    assert error.value.status_code == status
    assert error.value.body["error"]["type"].endswith(("_error", "_too_large"))


def test_anthropic_retries_and_failures(claude):
    raw = claude.messages.with_raw_response.create(
        model="flaky-529", max_tokens=5, messages=user("a"))
    assert raw.retries_taken == 1
    assert raw.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    with pytest.raises(anthropic.APIStatusError, match="had an error"):
        with claude.messages.stream(
                model="error-in-stream", max_tokens=500, messages=user("a")) as stream:
            stream.get_final_message()


# The wire


def test_pace(openai_mock):
    mock = Mock("openai", "--latency-ms", "200", "--tokens-per-second", "50")
    try:
        with openai.OpenAI(base_url=mock.url + "/v1", api_key="k") as client:
            begun = time.monotonic()
            times = [time.monotonic() - begun for _ in client.chat.completions.create(
                model="long", messages=user("a"), max_tokens=21, stream=True)]
    finally:
        mock.stop()
    assert times[0] >= 0.2
    assert times[-1] >= 0.2 + 20 / 50 - 0.05 and times[-1] < 10


def test_same_words_in_another_process(gpt):
    texts = []
    for seed in ("1", "2"):
        mock = Mock("openai", "--seed", seed)
        try:
            with openai.OpenAI(base_url=mock.url + "/v1", api_key="k") as client:
                texts.append(client.chat.completions.create(
                    model="m", messages=user("hello there")).choices[0].message.content)
        finally:
            mock.stop()
    mine = gpt.chat.completions.create(model="m", messages=user("hello there"))
    assert texts[0] == mine.choices[0].message.content != texts[1]


def test_curl_keep_alive_chunked_and_expect(openai_mock):
    body = json.dumps({"model": "echo", "messages": user("x" * 5_000)})
    done = subprocess.run(
        ["curl", "-sS", "-H", "authorization: Bearer k", "-H", "transfer-encoding: chunked",
         "-H", "expect: 100-continue", "-d", body, openai_mock.url + "/v1/chat/completions",
         "--next", "-sS", "-H", "authorization: Bearer k", openai_mock.url + "/v1/models",
         "-w", "\n%{num_connects}"], capture_output=True, text=True, timeout=20, check=True)
    assert "x" * 5_000 in done.stdout and done.stdout.endswith("\n0")


def test_bad_requests(openai_mock):
    def ask(data):
        with socket.create_connection(("127.0.0.1", openai_mock.port), timeout=10) as peer:
            peer.sendall(data)
            answer = b""
            while piece := peer.recv(65_536):
                answer += piece
            return answer
    assert ask(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
    assert ask(head + b"content-length: 99999999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    assert ask(head + b"transfer-encoding: chunked\r\n\r\nzz").startswith(b"HTTP/1.1 400")
    deep = b"[" * 10_000
    reply = ask(head + b"connection: close\r\ncontent-length: 10000\r\n\r\n" + deep)
    assert reply.startswith(b"HTTP/1.1 400") and b"could not parse" in reply


def test_two_hundred_streams(openai_mock):
    body = json.dumps({"model": "long", "stream": True, "messages": user("a")})
    results = []

    def read():
        client = http.client.HTTPConnection("127.0.0.1", openai_mock.port, timeout=60)
        client.request("POST", "/v1/chat/completions", body, {"authorization": "Bearer k"})
        results.append(client.getresponse().read().endswith(b"data: [DONE]\n\n"))
        client.close()
    threads = [threading.Thread(target=read) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 200


def test_who_leaves_is_forgotten_and_who_stays_is_served(openai_mock, gpt):
    """Clients that leave in the middle of an endless stream cost nothing afterwards."""
    for _ in range(20):
        peer = socket.create_connection(("127.0.0.1", openai_mock.port), timeout=10)
        body = json.dumps({"model": "endless", "stream": True, "messages": user("a")}).encode()
        peer.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
                     b"content-length: %d\r\n\r\n" % len(body) + body)
        assert peer.recv(1_000).startswith(b"HTTP/1.1 200")
        peer.close()
    assert gpt.models.list().data

    def open_sockets():
        done = subprocess.run(["ls", f"/proc/{openai_mock.process.pid}/fd"], capture_output=True,
                              text=True, check=True)
        return len(done.stdout.split())
    deadline = time.monotonic() + 10
    while open_sockets() > 12 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert open_sockets() <= 12


def test_help():
    for words in (["--help"], ["openai", "--help"]):
        done = subprocess.run([os.environ["UMBRA_BIN"], "mock", *words], capture_output=True,
                              text=True, check=True)
        assert "--tokens-per-second" in done.stdout
    for words in ([], ["gemini"], ["openai", "--port", "x"], ["openai", "--nonsense"]):
        done = subprocess.run([os.environ["UMBRA_BIN"], "mock", *words], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 2 and done.stderr.startswith("umbra mock: ")
