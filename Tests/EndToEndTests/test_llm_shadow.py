"""LLM shadows: what they get of the user's requests, and that nothing they do reaches the user."""

import json

import anthropic
import openai
import pytest

from harness.event_log import wait_events
from harness.gateway import llm_settings
from harness.metrics import settled
from harness.mock import Mock
from harness.peer import answer
from harness.ports import free_port
from harness.waiting import wait_for

USER = [{"role": "user", "content": "What is Kubernetes?"}]
KEYS = {"E2E_KEY_GPT": "right-o", "E2E_KEY_CLAUDE": "right-a"}


def llm(gpt, claude, models, primary="gpt", **mirror):
    """Two targets with keys of their own, the second mirrored; ports of mocks or of peers."""
    config = llm_settings([
        {"id": name, "provider": provider, "base_url": f"http://127.0.0.1:{peer.port}",
         "secret_key_ref": {"env": f"E2E_KEY_{name.upper()}"}}
        for name, provider, peer in (("gpt", "openai", gpt), ("claude", "anthropic", claude))])
    config["traffic_mirror"] = {
        "primary": primary, "shadow": "claude" if primary == "gpt" else "gpt",
        "model_mapping": models, **mirror}
    config["access_log"] = {"path": "access.log"}
    return config


def openai_client(gateway):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="users",
                         max_retries=0, timeout=20)


def chat(gateway, model="gpt-4o-mini", stream=False, **over):
    """The answer, or all of its chunks."""
    with openai_client(gateway) as client:
        reply = client.chat.completions.create(model=model, messages=USER, stream=stream, **over)
        return list(reply) if stream else reply


def messages(gateway, model="claude-3", stream=False):
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="users",
                             max_retries=0, timeout=20) as client:
        reply = client.messages.create(model=model, max_tokens=300, messages=USER, stream=stream)
        return list(reply) if stream else reply


def test_both_ways_whole_and_streamed(run_gateway, mocks):
    """Real stand-ins on both sides: each takes only its own key, path and form."""
    gateway = run_gateway(llm(*mocks, {"gpt-4o-mini": "claude-3"}), environment=KEYS)
    assert "kubernetes" in chat(gateway).choices[0].message.content
    assert chat(gateway, stream=True)[-1].choices[0].finish_reason == "stop"
    found = settled(gateway, eligible=2, sent=2)
    # The stand-in answers 400, 401 or 404 to what is wrong: those would be "ok" as well.
    assert found.results() == {"ok": 2} and shadow_statuses(gateway) == [200, 200]

    gateway = run_gateway(llm(*mocks, {"claude-3": "gpt-4o-mini"}, primary="claude"),
                          environment=KEYS)
    assert "kubernetes" in messages(gateway).content[0].text
    assert messages(gateway, stream=True)[-1].type == "message_stop"
    settled(gateway, eligible=2, sent=2)
    assert shadow_statuses(gateway) == [200, 200]


def shadow_statuses(gateway):
    file = gateway.directory / "access.log"
    wait_for(lambda: len(file.read_text().splitlines()) == 2, "two lines")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [copy["status"] for line in lines for copy in line["shadows"]]


def test_what_the_shadow_gets(run_gateway, origin, shadow):
    gateway = run_gateway(llm(origin, shadow, {"gpt-4o-mini": "claude-3"}),
                          environment=KEYS)
    path = "/seen/v1/chat/completions"
    body = {"model": "gpt-4o-mini", "seed": 7, "stream": True, "stop": ["END"],
            "messages": [{"role": "system", "content": "Be terse."}, *USER]}
    fields = [("Authorization", "Bearer users"), ("Cookie", "c=users"), ("OpenAI-Project", "p"),
              ("Accept-Encoding", "gzip"), ("X-Request-Id", "r-1")]
    assert gateway.ask(path, method="POST", body=json.dumps(body).encode(),
                       fields=fields).status == 200
    copy = shadow.wait_seen("/seen/v1/messages")[0]
    original = origin.seen(path)[0]
    assert original.all("authorization") == ["Bearer right-o"]
    assert json.loads(original.body) == body
    assert copy.all("x-api-key") == ["right-a"] and copy.all("host") == [f"127.0.0.1:{shadow.port}"]
    assert copy.all("anthropic-version") == ["2023-06-01"]
    assert copy.get("x-umbra-shadow") == "true" and copy.get("x-request-id") == "r-1"
    raw = repr(copy.fields).lower()
    assert "users" not in raw and "right-o" not in raw and "openai" not in raw
    assert copy.get("accept-encoding") is None
    assert json.loads(copy.body) == {
        "model": "claude-3", "max_tokens": 4096, "stream": True, "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be terse."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": USER[0]["content"]}]}]}
    assert "right-" not in gateway.text


def test_same_dialect_under_its_own_name(run_gateway, origin, shadow):
    config = llm(origin, shadow, {"gpt-4o-mini": "small"})
    config["providers"]["targets"][1]["provider"] = "openai"
    gateway = run_gateway(config, environment=KEYS)
    path = "/same/v1/chat/completions"
    for model, stream in (("gpt-4o-mini", True), ("other", False)):
        body = json.dumps({"model": model, "messages": USER, "stream": stream}).encode()
        assert gateway.ask(path, method="POST", body=body).status == 200
    # Each on a connection of its own, perhaps: in either order.
    other, mapped = sorted((json.loads(copy.body) for copy in shadow.wait_seen(path, 2)),
                           key=lambda body: body["model"])
    assert mapped["model"] == "small" and mapped["stream_options"] == {"include_usage": True}
    assert other == {"model": "other", "messages": USER, "stream": False}
    assert "stream_options" not in json.loads(origin.seen(path)[0].body)


def test_the_copy_of_a_translated_request_is_the_clients(run_gateway, origin, shadow):
    """The primary gets messages, the shadow what the client asked: it speaks the client's API."""
    config = llm(shadow, origin, {"claude-3": "gpt-4o-mini"}, primary="claude")
    gateway = run_gateway(config, environment=KEYS)
    origin.on("/twice/v1/messages", raw=answer(fields=[("Content-Type", "application/json")], body=json.dumps({
        "id": "m", "type": "message", "role": "assistant", "model": "claude-3", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "It is one."}],
        "usage": {"input_tokens": 1, "output_tokens": 1}}).encode()))
    path = "/twice/v1/chat/completions"
    body = {"model": "claude-3", "messages": USER, "stop": ["END"]}
    reply = gateway.ask(path, method="POST", body=json.dumps(body).encode(),
                        fields=[("Authorization", "Bearer users"), ("X-Forwarded-For", "10.1.2.3")])
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "It is one."
    assert json.loads(origin.seen("/twice/v1/messages")[0].body)["stop_sequences"] == ["END"]
    copy = shadow.wait_seen(path)[0]
    assert json.loads(copy.body) == {**body, "model": "gpt-4o-mini"}
    assert copy.all("authorization") == ["Bearer right-o"] and copy.get("x-api-key") is None
    raw = repr(copy.fields)
    assert "users" not in raw and "right-a" not in raw and "10.1.2.3" not in raw


@pytest.mark.parametrize("primary", ["gpt", "claude"])
def test_what_a_policy_takes_out_never_reaches_the_shadow(run_gateway, origin, shadow, primary):
    """Whether the primary's request is translated or not."""
    peers = (origin, shadow) if primary == "gpt" else (shadow, origin)
    config = llm(*peers, {"m": "n"}, primary=primary)
    config["policies"] = {"chain": ["pii-detector", "content_filter"], "policy": {
        "pii-detector": {"action": "redact"},
        "content_filter": {"action": "block", "patterns": ["forbidden"]}}}
    gateway = run_gateway(config, environment=KEYS)
    path = f"/policy-{primary}/v1/chat/completions"
    for text in ("a forbidden word", "write to jane.doe@example.org"):
        gateway.ask(path, method="POST", body=json.dumps(
            {"model": "m", "messages": [{"role": "user", "content": text}]}).encode())
    copies = shadow.wait_seen(f"/policy-{primary}/")
    settled(gateway, sent=1)
    assert len(copies) == 1 and len(shadow.seen(f"/policy-{primary}/")) == 1
    assert b"write to" in copies[0].body and b"jane.doe" not in copies[0].body
    assert json.loads(copies[0].body)["model"] == "n"


def test_what_cannot_be_sent_is_counted(run_gateway, mocks):
    gateway = run_gateway(llm(*mocks, {"gpt-4o-mini": "claude-3"}), environment=KEYS)
    chat(gateway, model="gpt-4o")
    for path, body in (("/v1/embeddings", b'{"model": "gpt-4o-mini", "input": "x"}'),
                       ("/v1/chat/completions", b'{"model": "gpt-4o-mini", '),
                       ("/v1/chat/completions", b"[" * 10_000),
                       ("/v1/chat/completions", b'{"model": "gpt-4o-mini", "messages": "Hi"}')):
        gateway.ask(path, method="POST", body=body, fields=[("Authorization", "Bearer users")])
    # Neither is a read of a model: no copy, and nothing to count.
    gateway.ask("/v1/models")
    gateway.ask("/v1/files", method="POST", body=b"{}")
    found = settled(gateway, eligible=5, sent=0)
    assert found.dropped() == {"unmapped_model": 1, "untranslatable": 4}


@pytest.mark.parametrize("tools, sent", [(None, 1), ("none", 0), ("all", 2)])
def test_what_a_provider_would_run_itself_is_not_asked_for_twice(run_gateway, mocks, tools, sent):
    """The same API on both sides: a client's function, and a server that the provider would call."""
    config = llm(mocks[0], mocks[0], {})
    config["providers"]["targets"][1] |= {"provider": "openai", "secret_key_ref": {"env": "E2E_KEY_GPT"}}
    if tools:
        config["traffic_mirror"]["safety"] = {"tools": tools}
    gateway = run_gateway(config, environment=KEYS)
    mcp = {"type": "mcp", "server_label": "s", "server_url": "https://example.org"}
    with openai_client(gateway) as client:
        client.responses.create(model="m", input="Hi", tools=[{
            "type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}])
        client.responses.create(model="m", input="Hi", tools=[mcp])
    found = settled(gateway, eligible=2, sampled=2, sent=sent)
    assert found.dropped() == ({"side_effects": 2 - sent} if sent < 2 else {})


@pytest.mark.parametrize("model, stream, result", [
    ("hang", False, "timeout"), ("hang", True, "timeout"), ("endless", True, "timeout"),
    ("html", False, "error"), ("html", True, "error"), ("cut", False, "error"),
    ("cut", True, "error"), ("error-500", False, "error"), ("error-in-stream", True, "ok"),
    ("invalid-json", False, "ok"), ("error-429", True, "ok")])
def test_a_shadow_on_a_bad_day(run_gateway, mocks, model, stream, result):
    gateway = run_gateway(llm(*mocks, {"gpt-4o-mini": model}, timeout_ms=4000),
                          environment=KEYS)
    reply = chat(gateway, stream=stream)
    if stream:
        assert reply[-1].choices[0].finish_reason == "stop"
    else:
        assert reply.choices[0].finish_reason == "stop"
    if result == "timeout":
        # The user's answer is whole, and the copy is still out.
        assert gateway.metrics().results() == {}
    assert settled(gateway, eligible=1, sent=1).results() == {result: 1}


@pytest.mark.parametrize("cancels", [False, True])
def test_users_who_leave_in_the_middle(run_gateway, tmp_path, cancels):
    """Their copies are read to the end, unless `cancel_with_client` is set."""
    gpt, claude = Mock("openai", "--tokens-per-second", "50"), Mock(
        "anthropic", "--tokens-per-second", "50")
    try:
        gateway = run_gateway(
            llm(gpt, claude, {"endless": "claude-3"}, cancel_with_client=cancels)
            | {"event_log": {"directory": str(tmp_path / "events"), "sync": "100ms"}},
            environment=KEYS)
        with openai_client(gateway) as client:
            stream = client.chat.completions.create(model="endless", messages=USER, stream=True)
            assert next(stream) and next(stream)
            stream.close()
        found = settled(gateway, eligible=1, sent=1)
        assert found.results() == ({"cancelled": 1} if cancels else {"ok": 1})
        event = wait_events(tmp_path / "events", 1)[0]
        shadow = event["traffic_mirror"]["shadow"]
        assert shadow["status"] == ("cancelled" if cancels else "success")
        # What was there of it is measured all the same.
        assert shadow["latency_ms"] > 0
    finally:
        gpt.stop()
        claude.stop()


@pytest.mark.parametrize("model, word, over", [
    ("claude-3", "success", {}), ("html", "invalid_answer", {}), ("cut", "reset", {}),
    ("hang", "timeout", {"timeout_ms": 1000}), ("error-500", "error_5xx", {}),
    ("error-429", "rate_limited", {}), ("invalid-json", "invalid_answer", {}),
    ("long", "too_large", {"max_answer_bytes": "1KiB"})])
def test_events_tell_how_it_ended(run_gateway, mocks, tmp_path, model, word, over):
    config = llm(*mocks, {"long": model}, **over)
    config["event_log"] = {"directory": str(tmp_path / "events"), "sync": "50ms"}
    gateway = run_gateway(config, environment=KEYS)
    chat(gateway, model="long", seed=1, max_tokens=900)
    settled(gateway, eligible=1, sent=1)
    event = wait_events(tmp_path / "events", 1)[0]
    pair = event["traffic_mirror"]
    assert (pair["shadow"]["status"], pair["primary"]["status"]) == (word, "success")
    assert pair["shadow"]["model"] == model and event["translation_loss"] == ["seed: dropped"]
    if word == "success":
        assert pair["shadow"]["input_tokens"] > 0 and pair["shadow"]["output_tokens"] > 0
        assert 0 <= pair["comparison"]["content_similarity"] <= 1


def test_a_shadow_that_is_gone(run_gateway, mocks):
    class Gone:
        port = free_port()
    gateway = run_gateway(llm(mocks[0], Gone, {"gpt-4o-mini": "claude-3"}),
                          environment=KEYS)
    for _ in range(8):
        assert chat(gateway).choices[0].finish_reason == "stop"
    dropped = settled(gateway, eligible=8, sent=0).dropped()
    assert dropped["connect_failed"] >= 5 and sum(dropped.values()) == 8
    assert set(dropped) <= {"connect_failed", "breaker_open"}


def test_an_endless_stream_ends_at_its_bound(run_gateway, mocks):
    gateway = run_gateway(llm(*mocks, {"gpt-4o-mini": "endless"}, max_answer_bytes="64KiB"),
                          environment=KEYS)
    chat(gateway, stream=True)
    found = settled(gateway, eligible=1, sent=1)
    assert found.results() == {"error": 1}
    assert found.sum("umbra_mirror_answer_bytes_total") < 200_000


def test_the_users_leaving_does_not_end_the_copy(run_gateway, mocks):
    mock = Mock("anthropic", "--latency-ms", "400")
    try:
        gateway = run_gateway(llm(mocks[0], mock, {"long": "claude-3"}), environment=KEYS)
        with openai_client(gateway) as client:
            stream = client.chat.completions.create(model="long", messages=USER, stream=True)
            next(iter(stream))
            stream.close()
        settled(gateway, eligible=1, sent=1)
        assert settled(gateway).results() == {"ok": 1}
    finally:
        mock.stop()


def test_large_and_hostile_bodies(run_gateway, mocks):
    """10 MiB, 1,000 tools, deep nesting: a counted drop or a copy, and the shadow process lives."""
    config = llm(*mocks, {"gpt-4o-mini": "claude-3"}, max_body_bytes="64MiB")
    gateway = run_gateway(config, environment=KEYS)
    tools = [{"type": "function", "function": {"name": f"tool_{n}", "parameters": {
        "type": "object", "properties": {"x": {"type": "string"}}}}} for n in range(1_000)]
    assert chat(gateway, tools=tools).choices[0].finish_reason == "stop"
    for body in (b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"'
                 + b"y" * (10 << 20) + b'"}]}',
                 b'{"model":"gpt-4o-mini","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
                 b'{"model":"gpt-4o-mini","messages":[' + b"0," * 1_500_000 + b"0]}"):
        gateway.ask("/v1/chat/completions", method="POST", body=body,
                    fields=[("Authorization", "Bearer users")])
    found = settled(gateway, eligible=4, sent=1)
    assert sum(found.dropped().values()) == 3 and found.dropped()["untranslatable"] == 2
    assert found.sum("umbra_process_restarts_total") == 0
