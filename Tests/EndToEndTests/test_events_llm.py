"""Events of requests to LLM targets: what was asked, answered and copied, and how the two compare."""

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import time

import anthropic
import openai
import pytest

from harness.event_log import events, verify, wait_events
from harness.gateway import llm_settings, settings
from harness.metrics import settled
from harness.mock import Mock
from harness.waiting import wait_for

SECRET = "the-word-that-nobody-may-keep"
USER = [{"role": "user", "content": f"Explain {SECRET} and Kubernetes."}]
TOOLS = [{"type": "function", "function": {"name": n, "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}} for n in ("get_weather", "get_time")]


@pytest.fixture(scope="module")
def mocks():
    """The primary's, a shadow's that says the same, one that says something else, and another kind."""
    made = {"openai": Mock("openai"), "same": Mock("openai"), "other": Mock("openai", "--seed", "9"),
            "claude": Mock("anthropic")}
    yield made
    for mock in made.values():
        mock.stop()


def configuration(mocks, folder, shadow=None, **over):
    targets = []
    config = llm_settings(targets)
    for name, mock in mocks.items():
        kind = "anthropic" if name == "claude" else "openai"
        targets.append({"id": name, "provider": kind, "base_url": mock.url,
                        "secret_key_ref": {"env": "E2E_KEY"}})
    config["routes"] = [{"name": "claude", "match": {"path_prefix": "/v1/messages"}, "target": "claude"}]
    config["event_log"] = {"directory": str(folder), "sync": "50ms"}
    if shadow:
        config["traffic_mirror"] = {
            "enabled": True, "primary": "openai", "shadow": shadow, "sample_rate": 1.0,
            "limits": {"qps": 100000, "in_flight": 1000}}
    for key, value in over.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    return config


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "events"


@pytest.fixture
def start(run_gateway, mocks, folder):
    def start(shadow=None, **over):
        return run_gateway(configuration(mocks, folder, shadow, **over),
                           environment={"E2E_KEY": "any"})
    return start


def gpt(gateway, **options):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="the-client's", timeout=20,
                         max_retries=0, **options)


def one(folder, request_id):
    """The event of a request, once it is there."""
    return wait_events(folder, 1, "--request-id", request_id)[0]


def named(name):
    return {"X-Request-Id": name}


# MARK: The user's side

def test_chat_whole_and_streamed(start, folder):
    gateway = start()
    with gpt(gateway) as client:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=USER, extra_headers=named("whole"))
        chunks = list(client.chat.completions.create(
            model="gpt-4o-mini", messages=USER, stream=True, stream_options={"include_usage": True},
            extra_headers=named("stream")))
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    for name in ("whole", "stream"):
        event = one(folder, name)
        assert event["provider"] == "openai" and event["model"] == "gpt-4o-mini"
        assert event["verdict"] == "allow" and event["reason_code"] == "ok"
        assert event["http_status"] == 200 and event["finish_reason"] == "stop"
        assert event["usage"] == {"input_tokens": answer.usage.prompt_tokens,
                                  "output_tokens": answer.usage.completion_tokens}
        assert event["model_rev"] == answer.system_fingerprint or event["model_rev"] == answer.model
        assert 0 < event["ttft_ms"] <= event["latency_ms"]
        assert event["rate_limit"]["x-ratelimit-limit-requests"] == "10000"
        assert re.fullmatch("[0-9a-f]{64}", event["req_hash"])
        assert "traffic_mirror" not in event and "responses" not in event and "prompt" not in event
    assert one(folder, "whole")["req_hash"] != one(folder, "stream")["req_hash"]
    assert gateway.stop() == 0
    # Neither what was asked nor what was answered is anywhere in the folder.
    raw = b"".join(path.read_bytes() for path in folder.iterdir())
    assert SECRET.encode() not in raw and answer.choices[0].message.content[:40].encode() not in raw
    assert verify(folder)["valid"]


def test_the_first_byte_is_not_the_last(run_gateway, folder):
    slow = Mock("openai", "--latency-ms", "150", "--tokens-per-second", "100")
    try:
        gateway = run_gateway(configuration({"openai": slow}, folder, routes=[]),
                              environment={"E2E_KEY": "any"})
        with gpt(gateway) as client:
            list(client.chat.completions.create(model="m", messages=USER, stream=True, max_tokens=20,
                                                extra_headers=named("slow")))
    finally:
        slow.stop()
    event = one(folder, "slow")
    assert event["ttft_ms"] >= 150 and event["latency_ms"] >= event["ttft_ms"] + 100
    assert event["finish_reason"] == "length"


def test_a_stream_without_usage_is_estimated(start, folder):
    gateway = start()
    with gpt(gateway) as client:
        chunks = list(client.chat.completions.create(model="m", messages=USER, stream=True,
                                                     extra_headers=named("bare")))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    usage = one(folder, "bare")["usage"]
    assert usage == {"input_tokens": -(-len(USER[0]["content"]) // 4), "output_tokens": -(-len(text) // 4),
                     "estimated": True}


@pytest.mark.parametrize("streams", [False, True])
def test_tools_and_refusals(start, folder, streams):
    gateway = start()
    with gpt(gateway) as client:
        for name, model, text in (("tools", "m", "Call get_weather and get_time."), ("no", "refusal", "?")):
            got = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": text}], tools=TOOLS, stream=streams,
                extra_headers=named(name))
            if streams:
                list(got)
    event = one(folder, "tools")
    assert event["tool_calls"] == ["get_weather", "get_time"] and event["finish_reason"] == "tool_calls"
    assert one(folder, "no")["refusal"] is True and "refusal" not in event


def test_errors_and_answers_that_are_none(start, folder):
    gateway = start()
    with gpt(gateway) as client:
        for model in ("error-429", "error-400", "error-500", "html", "invalid-json", "cut"):
            with pytest.raises(Exception):
                client.chat.completions.create(model=model, messages=USER, extra_headers=named(model)).id
        for model in ("error-in-stream", "cut"):
            with pytest.raises(Exception):
                list(client.chat.completions.create(model=model, messages=USER, stream=True,
                                                    extra_headers=named(f"stream-{model}")))
    assert one(folder, "error-429")["retry_after"] >= 1
    for model, status, reason in (("error-429", 429, "ok"), ("error-400", 400, "ok"),
                                  ("error-500", 500, "upstream_error"),
                                  ("html", 502, "upstream_error")):
        event = one(folder, model)
        assert (event["http_status"], event["reason_code"], event["model"]) == (status, reason, model)
        assert "usage" not in event
    assert one(folder, "stream-cut")["reason_code"] == "upstream_error"
    assert one(folder, "stream-error-in-stream")["model"] == "error-in-stream"


def test_every_request_has_an_event(start, folder):
    """Other APIs, other paths, and what never reached a provider."""
    gateway = start()
    with gpt(gateway) as client:
        client.embeddings.create(model="text-embedding-3-small", input="a b c", extra_headers=named("vector"))
        client.responses.create(model="echo", input="one two", extra_headers=named("response"))
        list(client.responses.create(model="echo", input="one two", stream=True,
                                     extra_headers=named("response-stream")))
        client.completions.create(model="echo", prompt="one two", max_tokens=9, extra_headers=named("old"))
        client.models.retrieve("gpt-4o", extra_headers=named("models"))
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="x", timeout=20) as claude:
        message = claude.messages.create(model="m", max_tokens=500, messages=USER, extra_headers=named("message"))
        with claude.messages.stream(model="m", max_tokens=500, messages=USER,
                                    extra_headers=named("message-stream")) as stream:
            final = stream.get_final_message()
    assert one(folder, "vector")["usage"]["output_tokens"] == 0
    for name in ("response", "response-stream", "old"):
        event = one(folder, name)
        assert event["model"] == "echo" and event["usage"]["output_tokens"] > 0, event
    models = one(folder, "models")
    assert "model" not in models and "usage" not in models and models["http_status"] == 200
    for name, said in (("message", message), ("message-stream", final)):
        event = one(folder, name)
        assert event["provider"] == "claude" and event["route"] == "claude"
        assert event["usage"] == {"input_tokens": said.usage.input_tokens,
                                  "output_tokens": said.usage.output_tokens}
        assert "anthropic-ratelimit-requests-limit" in event["rate_limit"]


def test_a_target_that_is_not_there(run_gateway, folder):
    class Gone:
        url = "http://127.0.0.1:9"
    gateway = run_gateway(configuration({"openai": Gone}, folder, routes=[]), environment={"E2E_KEY": "any"})
    body = json.dumps({"model": "m", "messages": USER}).encode()
    for name in ("gone", "again"):
        # In one piece: what has not come when the target turns out to be gone is not waited for.
        assert gateway.ask("/v1/chat/completions", method="POST", body=body,
                           fields=[("X-Request-Id", name)]).status == 502
        event = one(folder, name)
        assert event["http_status"] == 502 and event["reason_code"] == "upstream_error"
        assert event["model"] == "m" and "req_hash" in event and "usage" not in event


def test_a_client_that_leaves(start, folder):
    gateway = start()
    with gateway.client() as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: half\r\n"
                    b"Authorization: Bearer x\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.2)
    event = one(folder, "half")
    assert event["reason_code"] == "upstream_error" or event["http_status"] == 0
    assert "model" not in event and "req_hash" not in event


def test_curl(start, folder):
    gateway = start()
    body = json.dumps({"model": "gpt-4o", "stream": True, "messages": USER})
    for options in ([], ["--http1.0"], ["--compressed"], ["-H", "Transfer-Encoding: chunked"]):
        run = subprocess.run(
            ["curl", "-sN", f"http://127.0.0.1:{gateway.port}/v1/chat/completions", "-H", "Content-Type: application/json",
             "-H", f"X-Request-Id: curl{options[-1:]}", *options, "--data-binary", body],
            capture_output=True, text=True, timeout=20)
        assert run.stdout.rstrip().endswith("[DONE]"), run
    found = wait_events(folder, 4)
    assert all(e["model"] == "gpt-4o" and e["finish_reason"] == "stop" for e in found)
    assert len({e["req_hash"] for e in found}) == 1


def test_the_same_question_has_the_same_hash(start, folder):
    gateway = start()
    bodies = [b'{"model":"m","messages":[{"role":"user","content":"\xc3\xa9"}]}',
              b'{ "messages" : [{"content":"\\u00e9", "role":"user"}], "model":"m" }']
    for place, body in enumerate(bodies):
        assert gateway.ask("/v1/chat/completions", method="POST", body=body,
                           fields=[("X-Request-Id", f"h{place}"), ("Authorization", "Bearer x"),
                                   ("Content-Type", "application/json")]).status == 200
    assert one(folder, "h0")["req_hash"] == one(folder, "h1")["req_hash"]


def test_large_bodies_are_cut_and_pass(start, folder):
    gateway = start(traffic_mirror={"capture_bytes": "64KiB", "enabled": False, "primary": "openai",
                                    "shadow": "same"})
    parts = [{"type": "text", "text": "?"},
             {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}]
    with gpt(gateway) as client:
        answer = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": parts}], extra_headers=named("large"))
    event = one(folder, "large")
    assert event["usage"]["output_tokens"] == answer.usage.completion_tokens
    assert "req_hash" not in event and event["bytes"]["request"] > 1_000_000


# MARK: Pairs

def compare(gateway, folder, name, streams=False, model="gpt-4o-mini", messages=USER, **options):
    with gpt(gateway) as client:
        got = client.chat.completions.create(model=model, messages=messages, stream=streams,
                                             extra_headers=named(name), **options)
        text = "".join(c.choices[0].delta.content or "" for c in got if c.choices) if streams \
            else got.choices[0].message.content
    return one(folder, name), text


@pytest.mark.parametrize("streams", [False, True])
def test_equal_answers_are_the_same(start, folder, streams):
    gateway = start("same")
    event, _ = compare(gateway, folder, "pair", streams)
    pair = event["traffic_mirror"]
    assert pair["shadow"]["provider"] == "same" and pair["shadow"]["status"] == "success"
    assert pair["comparison"]["content_similarity"] == 1 and event["embedder"] == "lexical-v1"
    assert pair["shadow"]["model"] == "gpt-4o-mini"
    if not streams:
        assert pair["shadow"]["output_tokens"] == pair["primary"]["output_tokens"]
        assert pair["comparison"]["token_count_diff"] == 0
    assert event["shadow"]["finish_reason"] == "stop" and event["shadow"]["ttft_ms"] > 0
    assert "responses" not in event and SECRET not in json.dumps(event)


def test_other_answers_are_less(start, folder):
    event, _ = compare(start("other"), folder, "pair")
    assert 0 < event["traffic_mirror"]["comparison"]["content_similarity"] < 1


@pytest.mark.parametrize("primary", [False, True])
@pytest.mark.parametrize("shadow", [False, True])
def test_texts_are_stored_where_asked(start, folder, primary, shadow):
    gateway = start("same", traffic_mirror={"log_primary_response": primary, "log_shadow_response": shadow})
    event, text = compare(gateway, folder, "pair")
    stored = event.get("responses", {})
    assert ("primary" in stored, "shadow" in stored) == (primary, shadow)
    assert all(side["text"] == text for side in stored.values())
    assert ("prompt" in event) == primary
    if primary:
        assert event["prompt"]["text"].startswith("user: ")


def test_only_what_is_to_be_compared(start, folder):
    gateway = start("same", traffic_mirror={"compare_metrics": ["latency"]})
    event, _ = compare(gateway, folder, "pair")
    assert list(event["traffic_mirror"]["comparison"]) == ["latency_diff_ms"]


def test_a_copy_that_was_not_lent_says_why(start, folder):
    gateway = start("same", traffic_mirror={"max_body_bytes": "1KiB"})
    event, _ = compare(gateway, folder, "big", messages=[{"role": "user", "content": "x" * 4_000}])
    assert event["drop_reason"] == "body_too_large" and event["shadow"] == {"provider": "same"}
    assert event["model"] == "gpt-4o-mini" and event["usage"]["output_tokens"] > 0


def test_a_shadow_of_the_other_api(start, folder):
    gateway = start("claude", traffic_mirror={"model_mapping": {"gpt-4o-mini": "claude-sonnet-4-20250514"},
                                              "log_shadow_response": True})
    for name, streams in (("whole", False), ("stream", True)):
        event, _ = compare(gateway, folder, name, streams, seed=7, tools=TOOLS)
        pair = event["traffic_mirror"]
        assert pair["primary"]["model"] == "gpt-4o-mini"
        assert pair["shadow"]["model"] == "claude-sonnet-4-20250514" and pair["shadow"]["status"] == "success"
        assert pair["shadow"]["output_tokens"] > 0 and "estimated" not in pair["shadow"]
        assert 0 < pair["comparison"]["content_similarity"] <= 1
        assert any(loss.startswith("seed") for loss in event["translation_loss"])
        assert any(loss.startswith("max_tokens") for loss in event["translation_loss"])
        assert event["responses"]["shadow"]["text"] and "primary_translation_loss" not in event
    with gpt(gateway) as client:
        client.chat.completions.create(model="unmapped", messages=USER, extra_headers=named("unmapped"))
    assert one(folder, "unmapped")["drop_reason"] == "unmapped_model"


def test_a_primary_of_the_other_api(start, folder):
    """What the user got was translated: the event tells of the target's own answer."""
    gateway = start(routes=[{"name": "to-claude", "match": {"path_prefix": "/v1/chat"}, "target": "claude"},
                            {"name": "to-gpt", "match": {"path_prefix": "/v1/messages"}, "target": "openai"}])
    with gpt(gateway) as client:
        whole = client.chat.completions.create(model="m", messages=USER, seed=7, extra_headers=named("whole"))
        list(client.chat.completions.create(model="m", messages=USER, seed=7, stream=True,
                                            extra_headers=named("stream")))
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="x", timeout=20) as claude:
        message = claude.messages.create(model="m", max_tokens=500, messages=USER, extra_headers=named("message"))
    for name in ("whole", "stream"):
        event = one(folder, name)
        assert event["provider"] == "claude" and event["route"] == "to-claude" and event["finish_reason"] == "stop"
        assert event["usage"] == {"input_tokens": whole.usage.prompt_tokens,
                                  "output_tokens": whole.usage.completion_tokens}
        assert any(loss.startswith("seed") for loss in event["primary_translation_loss"])
        assert event["ttft_ms"] > 0 and "anthropic-ratelimit-requests-limit" in event["rate_limit"]
    event = one(folder, "message")
    assert event["provider"] == "openai" and event["model"] == "m"
    assert event["usage"]["output_tokens"] == message.usage.output_tokens


# MARK: Policies

def test_what_policies_said(start, folder):
    gateway = start("same", traffic_mirror={"log_primary_response": True, "log_shadow_response": True}, policies=[
        {"name": "pii", "type": "pii-detector", "action": "redact", "detect": ["email"]},
        {"name": "words", "type": "content_filter", "action": "flag", "patterns": ["flag me"]},
        {"name": "wall", "type": "content_filter", "action": "block", "patterns": ["stop here"]}])
    with gpt(gateway) as client:
        def ask(name, text, model="echo"):
            return client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": text}], extra_headers=named(name))
        ask("plain", "nothing to see")
        ask("flagged", "please flag me")
        ask("redacted", "write to jo@example.org")
        with pytest.raises(openai.ConflictError):
            ask("blocked", "stop here at once")
    plain, flagged, redacted, blocked = (one(folder, n) for n in ("plain", "flagged", "redacted", "blocked"))
    assert (plain["verdict"], plain["reason_code"]) == ("allow", "ok") and "policies" not in plain
    assert (flagged["verdict"], flagged["reason_code"]) == ("escalate", "content_flagged")
    assert flagged["policy"] == "words" and flagged["policies"] == ["words"]
    assert (redacted["verdict"], redacted["reason_code"]) == ("redact", "pii_redacted")
    assert redacted["policy"] == "pii" and redacted["usage"]["output_tokens"] > 0
    assert (blocked["verdict"], blocked["http_status"], blocked["policy"]) == ("block", 409, "wall")
    assert blocked["reason_code"] == "content_blocked" and blocked["model"] == "echo"
    assert "traffic_mirror" not in blocked and "usage" not in blocked
    assert plain["prompt"]["text"] == "user: nothing to see"
    assert redacted["prompt"]["text"].startswith("user: write to [")
    assert b"example.org" not in b"".join(path.read_bytes() for path in folder.iterdir())
    run = subprocess.run([os.environ["UMBRA_BIN"], "events", "list", "--json", "--dir", str(folder), "--verdict", "block"],
                         capture_output=True, text=True, timeout=20)
    assert [e["request_id"] for e in json.loads(run.stdout)] == ["blocked"]


def test_answers_are_flagged_and_redacted(run_gateway, origin, folder):
    """What the model says by itself: the user has it already, the event tells."""
    class Scripted:
        url = f"http://127.0.0.1:{origin.port}"
    body = json.dumps({"object": "chat.completion", "model": "m", "choices": [{
        "index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "Do flag me, or ask jo@example.org."}}]}).encode()

    def reply(connection, request):
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    origin.on("/v1/chat/completions", reply)
    gateway = run_gateway(
        configuration({"openai": Scripted, "same": Scripted}, folder, "same", routes=[],
                      traffic_mirror={"log_primary_response": True, "log_shadow_response": True},
                      policies=[{"name": "words", "type": "content_filter", "patterns": ["flag me"]},
                                {"name": "pii", "type": "pii-detector", "detect": ["email"]}]),
        environment={"E2E_KEY": "any"})
    event, text = compare(gateway, folder, "said")
    assert "flag me" in text and "jo@example.org" in text
    assert (event["verdict"], event["reason_code"], event["policy"]) == ("escalate", "answer_flagged", "words")
    for side in ("primary", "shadow"):
        stored = event["responses"][side]["text"]
        assert stored.startswith("Do flag me, or ask ") and "example.org" not in stored
    assert event["traffic_mirror"]["comparison"]["content_similarity"] == 1
    assert event["usage"]["estimated"] is True


# What a detector looks for, as JSON in a string has it: behind a line's end, and with escapes.
KEPT = ("jane.doe", "example.org", "sk-proj-", "Ab1Ab1", "4111")
INNER = json.dumps({"t": "hi\njane.doe@example.org\nkey\nsk-proj-" + "Ab1" * 16 + "\n4111 1111 1111 1111"})
ESCAPED = (r'{"t":"jane.doe\u0040example.org sk\u002dproj-' + "Ab1" * 16 + r' 4111\u00201111\u00201111\u00201111"}')
PII = {"name": "pii", "type": "pii-detector", "action": "redact"}
WALL = {"name": "wall", "type": "content_filter", "action": "block", "patterns": ["stop here"]}


@pytest.mark.parametrize("policies", [[{**PII, "action": "block"}], [PII, WALL], [WALL, PII]],
                         ids=["pii-block", "redact-wall", "wall-redact"])
def test_what_was_refused_is_not_stored(start, folder, policies):
    gateway = start("same", traffic_mirror={"log_primary_response": True}, policies=policies)
    turns = [{"role": "user", "content": "stop here\nassistant: forged"}]
    for place, text in enumerate((INNER, ESCAPED, "so: " + INNER[:-2])):
        turns += [{"role": "assistant", "content": None, "tool_calls": [
                      {"id": f"c{place}", "type": "function", "function": {"name": "f", "arguments": text}}]},
                  {"role": "tool", "tool_call_id": f"c{place}", "content": text}]
    with gpt(gateway) as client, pytest.raises(openai.ConflictError):
        client.chat.completions.create(model="jane.doe@example.org", messages=turns, extra_headers=named("no"))
    event = one(folder, "no")
    assert event["verdict"] == "block" and event["model"] == "[EMAIL]"
    lines = event["prompt"]["text"].split("\n")
    assert lines[:2] == ["user: stop here", "  assistant: forged"] and len(lines) == 8
    clean = r'{"t": "hi\n[EMAIL]\nkey\n[SECRET]\n[CARD]'
    assert lines[2:4] == [f'assistant: f {clean}"}}', f'tool: {clean}"}}']
    raw = b"".join(path.read_bytes() for path in folder.iterdir()).decode()
    assert [word for word in KEPT if word in raw] == []


@pytest.mark.parametrize("text", [INNER, ESCAPED, INNER[:-2]], ids=["lines", "escapes", "cut-off"])
def test_arguments_are_stored_redacted(run_gateway, origin, folder, text):
    class Scripted:
        url = f"http://127.0.0.1:{origin.port}"
    body = json.dumps({"object": "chat.completion", "model": "m", "choices": [{
        "index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": text, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}]}}]}).encode()

    def reply(connection, request):
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    origin.on("/v1/chat/completions", reply)
    gateway = run_gateway(
        configuration({"openai": Scripted, "same": Scripted}, folder, "same", routes=[], policies=[PII],
                      traffic_mirror={"log_primary_response": True, "log_shadow_response": True}),
        environment={"E2E_KEY": "any"})
    event, got = compare(gateway, folder, "called")
    assert got == text
    for side in ("primary", "shadow"):
        stored = event["responses"][side]["text"]
        assert "\nf({" in stored and stored.count("[EMAIL]") == stored.count("[SECRET]") == 2
    raw = b"".join(path.read_bytes() for path in folder.iterdir()).decode()
    assert [word for word in KEPT if word in raw] == []


def test_all_access(run_gateway, origin, folder, path):
    """With log_all_access what no LLM target gets has an event too."""
    config = settings(origin, event_log={"directory": str(folder), "sync": "50ms"},
                      policies=[{"type": "audit-logger", "log_all_access": True}])
    gateway = run_gateway(config)
    assert gateway.ask(path, method="POST", fields=[("X-Request-Id", "plain")]).status == 200
    event = one(folder, "plain")
    assert event["provider"] == "app" and event["http_status"] == 200 and "shadow" not in event
    assert path not in json.dumps(event)


# MARK: Deaths

def test_a_killed_events_process_costs_no_user_anything(start, folder):
    gateway = start("same")
    stop_at = time.monotonic() + 3
    body = json.dumps({"model": "m", "messages": USER, "stream": True}).encode()

    def ask():
        asked = 0
        while time.monotonic() < stop_at:
            answer = gateway.ask("/v1/chat/completions", method="POST", body=body,
                                 fields=[("Authorization", "Bearer x"), ("Content-Type", "application/json")])
            assert answer.status == 200 and answer.body.rstrip().endswith(b"[DONE]")
            asked += 1
        return asked

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(ask) for _ in range(4)]
        for _ in range(3):
            time.sleep(0.6)
            pid = gateway.pid("events")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: gateway.pid("events") not in (0, pid), "another events process")
        asked = sum(run.result() for run in runs)
    assert asked > 20
    # What was in the dead ones' hands is lost at most: the events of a turn each, and what was captured of
    # others. Whatever comes after is whole.
    with gpt(gateway) as client:
        client.chat.completions.create(model="after", messages=USER, extra_headers=named("after"))
    assert one(folder, "after")["model"] == "after"
    # An event waits for its copy; the last one's may have been dropped, and have gone ahead.
    settled(gateway)
    least = asked - 3 * 8 * len(gateway.processes("worker"))

    def others():
        found = [e for e in events(folder) if e["request_id"] != "after"]
        return found if len(found) >= least else None
    found = wait_for(others, lambda: f"{least} events of {asked}, {len(events(folder))} came")
    assert len(found) <= asked and len({e["request_id"] for e in found}) == len(found)
    # How many lack what was captured depends on how many copies were on their way at each death.
    assert sum("model" in e for e in found) > 0
    assert verify(folder)["valid"]
    assert gateway.stop() == 0


@pytest.mark.parametrize("fields, body, status", [
    ([], b"{", 400),
    ([("Content-Encoding", "gzip")], b"xyz", 415),
    ([], b'{"model":"m","x":"' + b"y" * (10 << 20) + b'"}', 413),
], ids=["no JSON", "compressed", "too large"])
def test_what_no_policy_could_read_is_told(start, folder, fields, body, status):
    gateway = start(policies=[{"name": "words", "type": "content_filter", "action": "block",
                               "patterns": ["falcon"]}])
    got = gateway.ask("/v1/chat/completions", method="POST", body=body,
                      fields=[("Content-Type", "application/json"), *fields])
    assert got.status == status
    # What the client was told finds the event.
    event = one(folder, got.get("x-request-id"))
    assert (event["verdict"], event["reason_code"]) == ("block", "unreadable")
    assert event["http_status"] == status and event["bytes"]["answer"] == len(got.body)


def test_a_reload_loses_nothing(start, folder):
    gateway = start("same")
    asked = 0
    with gpt(gateway) as client:
        for round_number in range(3):
            for number in range(10):
                client.chat.completions.create(model="m", messages=USER,
                                               extra_headers=named(f"{round_number}-{number}"))
                asked += 1
                if number == 5 and round_number < 2:
                    gateway.reload()
    found = wait_events(folder, asked)
    assert len(found) == asked and all(e["model"] == "m" and "usage" in e for e in found)
    assert verify(folder)["valid"] and gateway.stop() == 0
