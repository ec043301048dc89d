"""LLM targets: the official SDKs through the gateway, whose keys they get, and nobody else's."""

import json
import os
import re
import subprocess
import time

import anthropic
import openai
import pytest

from harness.gateway import exchange, llm_settings
from harness.mock import Mock
from harness.peer import answer

USER = [{"role": "user", "content": "What is Kubernetes?"}]
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture(scope="module")
def gateway(run_gateway, mocks, tmp_path_factory):
    key = tmp_path_factory.mktemp("keys") / "anthropic.key"
    key.write_text("  right-a\n")
    key.chmod(0o600)
    return run_gateway(llm_settings([
        {"id": "openai", "provider": "openai", "base_url": mocks[0].url,
         "secret_key_ref": {"env": "E2E_OPENAI_KEY"}},
        {"id": "anthropic", "provider": "anthropic", "base_url": mocks[1].url,
         "secret_key_ref": {"file": str(key)}},
    ], routes=[{"match": {"path_prefix": "/v1/messages"}, "target": "anthropic"}]),
        environment={"E2E_OPENAI_KEY": "right-o"})


@pytest.fixture
def gpt(gateway):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="the-client's-own",
                       timeout=20) as client:
        yield client


@pytest.fixture
def claude(gateway):
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}",
                             api_key="the-client's-own", timeout=20) as client:
        yield client


def test_chat_whole_and_streamed(gpt):
    whole = gpt.chat.completions.create(model="gpt-4o-mini", messages=USER)
    chunks = list(gpt.chat.completions.create(
        model="gpt-4o-mini", messages=USER, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content and "kubernetes" in text
    assert chunks[-1].usage == whole.usage


def test_tools_vision_forms(gpt):
    tools = [{"type": "function", "function": {"name": n, "parameters": TOOL}}
             for n in ("get_weather", "get_time")]
    asked = [{"role": "user", "content": "Call get_weather and get_time."}]
    with gpt.chat.completions.stream(model="m", messages=asked, tools=tools) as stream:
        for _ in stream:
            pass
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [c.function.name for c in calls] == ["get_weather", "get_time"]
    parts = [{"type": "text", "text": "?"},
             {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}]
    seen = gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": parts}])
    assert seen.choices[0].message.content.startswith("I was given image/png.")


def test_the_other_apis(gpt):
    assert len(gpt.embeddings.create(model="text-embedding-3-small", input="a").data[0].embedding) == 1536
    assert gpt.responses.create(model="echo", input="one two").output_text == "one two"
    with gpt.responses.stream(model="echo", input="one two") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == "one two"
    assert gpt.completions.create(model="echo", prompt="one two", max_tokens=9).choices[0].text
    assert gpt.models.retrieve("gpt-4o").id == "gpt-4o"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_errors_pass_as_they_are(gpt, status):
    with pytest.raises(openai.APIStatusError) as error:
        gpt.with_options(max_retries=0).chat.completions.create(
            model=f"error-{status}", messages=USER)
    assert error.value.status_code == status and error.value.request_id.startswith("req_")


def test_retries_headers_and_broken_streams(gpt):
    raw = gpt.chat.completions.with_raw_response.create(model="flaky-429", messages=USER)
    assert raw.retries_taken == 1 and raw.headers["x-ratelimit-limit-requests"] == "10000"
    with pytest.raises(openai.APIError, match="had an error"):
        list(gpt.chat.completions.create(model="error-in-stream", messages=USER, stream=True))
    # A stream that is cut must not look whole.
    with pytest.raises(Exception, match="(?i)reset|incomplete|closed|connection"):
        list(gpt.chat.completions.create(model="cut", messages=USER, stream=True))


def test_messages_whole_and_streamed(claude):
    whole = claude.messages.create(model="m", max_tokens=500, messages=USER)
    with claude.messages.stream(model="m", max_tokens=500, messages=USER) as stream:
        assert stream.get_final_message().content[0].text == whole.content[0].text
    tools = [{"name": "get_weather", "input_schema": TOOL}]
    called = claude.messages.create(model="m", max_tokens=500, tools=tools, messages=[
        {"role": "user", "content": "Call get_weather."}])
    assert called.content[0].input == {"city": "text"}
    assert claude.messages.count_tokens(model="m", messages=USER).input_tokens > 3
    with pytest.raises(anthropic.RateLimitError):
        claude.with_options(max_retries=0).messages.create(
            model="error-429", max_tokens=5, messages=USER)


def test_impatient_clients_and_bad_bodies(gateway, gpt, claude):
    with pytest.raises(openai.APITimeoutError):
        gpt.with_options(max_retries=0, timeout=0.5).chat.completions.create(
            model="hang", messages=USER)
    with pytest.raises(anthropic.APITimeoutError):
        claude.with_options(max_retries=0, timeout=0.5).messages.create(
            model="hang", messages=USER, max_tokens=9)
    # What goes to a target of the client's own dialect is the target's to judge.
    deep = b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    for path in ("/v1/chat/completions", "/v1/messages"):
        for body in (b"{", b'"\xff"', deep, b"[" * (11 << 20)):
            reply = gateway.ask(path, method="POST", body=body, fields=[
                ("anthropic-version", "2023-06-01"), ("Content-Type", "application/json")])
            assert reply.status in (400, 413) and json.loads(reply.body)["error"]["message"]
    assert gpt.chat.completions.create(model="m", messages=USER).choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_a_page_is_no_answer(gpt, claude, stream):
    with pytest.raises(openai.InternalServerError) as fault:
        gpt.with_options(max_retries=0).chat.completions.create(
            model="html", messages=USER, stream=stream)
    assert fault.value.status_code == 502 and fault.value.code == "upstream_malformed"
    with pytest.raises(anthropic.InternalServerError) as fault:
        claude.with_options(max_retries=0).messages.create(
            model="html", messages=USER, max_tokens=9, stream=stream)
    assert fault.value.body["error"]["code"] == "upstream_malformed"


@pytest.mark.parametrize("type_", ["text/html; charset=utf-8", "TEXT/HTML", "\t text/html"])
def test_a_page_is_not_asked_for_again(run_gateway, origin, path, type_):
    gateway = run_gateway(llm_settings([
        {"id": "app", "provider": "openai", "base_url": f"http://127.0.0.1:{origin.port}{path}",
         "retries": {"attempts": 3, "on": ["connect", "reset", "502"]}}]))
    origin.on(path, raw=answer(body=b"<html>", fields=[("Content-Type", type_)]))
    with gateway.client() as client:
        for _ in range(3):
            reply = exchange(client, "/v1/chat/completions", method="POST", body=b"{}")
            assert reply.status == 502 and b"upstream_malformed" in reply.body
    assert len(origin.seen(path)) == 3


def test_what_a_provider_gets_of_the_client(run_gateway, origin, path):
    gateway = run_gateway(llm_settings([
        {"id": "app", "provider": "openai", "base_url": f"http://127.0.0.1:{origin.port}/base",
         "secret_key_ref": {"env": "E2E_KEY"}}]), environment={"E2E_KEY": "ours"})
    fields = [("Authorization", "Bearer theirs"), ("X-Api-Key", "theirs"), ("api_key", "theirs"),
              ("X_API_KEY", "theirs"), ("Cookie", "session=theirs"), ("X-Goog-Api-Key", "theirs"),
              ("X-Forwarded-For", "10.1.2.3"), ("Forwarded", "for=10.1.2.3"),
              ("OpenAI-Organization", "org"), ("X-Request-Id", "one")]
    assert gateway.ask(path, fields=fields).status == 200
    seen = origin.seen("/base" + path)[0]
    assert seen.all("authorization") == ["Bearer ours"]
    assert seen.all("host") == [f"127.0.0.1:{origin.port}"]
    assert seen.get("openai-organization") == "org" and seen.get("x-request-id") == "one"
    raw = repr(seen.fields)
    assert "theirs" not in raw and "10.1.2.3" not in raw and "127.0.0.1'" not in raw


def test_without_a_key_of_its_own_the_clients_passes(run_gateway, origin, path):
    gateway = run_gateway(llm_settings([
        {"id": "app", "provider": "anthropic", "base_url": f"http://127.0.0.1:{origin.port}"}]))
    assert gateway.ask(path, fields=[("x-api-key", "theirs")]).status == 200
    seen = origin.seen(path)[0]
    assert seen.all("x-api-key") == ["theirs"] and seen.get("authorization") is None


def azure(name, peer, path):
    return {"id": name, "provider": "openai", "base_url": f"http://127.0.0.1:{peer.port}{path}/{name}",
            "secret_key_ref": {"env": "E2E_KEY"},
            "azure": {"deployment": f"d-{name}", "api_version": "2024-10-21"}}


def targets(peer, path):
    return [(seen.method, seen.target) for seen in peer.seen(path)]


def test_azure_deployments(run_gateway, origin, shadow, path):
    """The official Azure client in front of one, and a deployment as the shadow of OpenAI."""
    plain = {"id": "plain", "provider": "openai", "secret_key_ref": {"env": "E2E_KEY"},
             "base_url": f"http://127.0.0.1:{origin.port}{path}/plain"}
    other = plain | {"id": "other", "base_url": f"http://127.0.0.1:{shadow.port}{path}/other"}
    query = "?api-version=2024-10-21"
    chat = b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}'
    # To Azure, with a shadow that is none.
    gateway = run_gateway(llm_settings(
        [azure("one", origin, path), other],
        traffic_mirror={"primary": "one", "shadow": "other"}), environment={"E2E_KEY": "ours"})
    with openai.AzureOpenAI(azure_endpoint=f"http://127.0.0.1:{gateway.port}", api_key="theirs",
                            api_version="2023-05-15", max_retries=0) as client:
        client.chat.completions.with_raw_response.create(model="x", messages=USER)
    gateway.ask("/v1/embeddings?a=b", method="POST", body=b'{"model": "m", "input": "x"}',
                fields=[("Ocp-Apim-Subscription-Key", "theirs")])
    gateway.ask("/v1/models?limit=1")
    gateway.ask("/v1/responses", method="POST", body=b'{"model": "m", "input": "x"}')
    gateway.ask("/v1/messages", method="POST", body=chat.replace(b"{", b'{"max_tokens": 9, ', 1),
                fields=[("anthropic-version", "2023-06-01")])
    start = f"{path}/one/openai/deployments/d-one"
    assert targets(origin, path) == [
        ("POST", f"{start}/chat/completions{query}"), ("POST", f"{start}/embeddings{query}"),
        ("GET", f"{path}/one/v1/models?limit=1"), ("POST", f"{path}/one/openai/responses{query}"),
        ("POST", f"{start}/chat/completions{query}")]
    for seen in origin.seen(path):
        assert seen.all("api-key") == ["ours"] and seen.get("authorization") is None
        assert seen.get("ocp-apim-subscription-key") is None
    shadow.wait_seen(path, 5)
    assert sorted(targets(shadow, path)) == [
        ("GET", f"{path}/other/v1/models?limit=1")] + [
        ("POST", f"{path}/other/v1/{end}")
        for end in ("chat/completions", "chat/completions", "embeddings", "responses")]
    assert all(seen.all("authorization") == ["Bearer ours"] for seen in shadow.seen(path))
    # The other way round.
    path += "/back"
    plain["base_url"] = f"http://127.0.0.1:{origin.port}{path}/plain"
    gateway = run_gateway(llm_settings(
        [plain, azure("two", shadow, path)],
        traffic_mirror={"primary": "plain", "shadow": "two"}), environment={"E2E_KEY": "ours"})
    gateway.ask("/v1/chat/completions?key=secret", method="POST", body=chat)
    gateway.ask("/v1/responses", method="POST", body=b'{"model": "m", "input": "x"}')
    shadow.wait_seen(path, 2)
    assert targets(origin, path) == [
        ("POST", f"{path}/plain/v1/chat/completions?key=secret"), ("POST", f"{path}/plain/v1/responses")]
    assert sorted(targets(shadow, path)) == [
        ("POST", f"{path}/two/openai/deployments/d-two/chat/completions{query}"),
        ("POST", f"{path}/two/openai/responses{query}")]
    assert all(seen.all("api-key") == ["ours"] for seen in shadow.seen(path))
    # Responses name the deployment as their model.
    assert json.loads(shadow.seen(f"{path}/two/openai/responses")[0].body)["model"] == "d-two"


@pytest.mark.parametrize("whose", ["the route's", "the block's"])
def test_copies_of_a_deployments_route_go_where_their_shadow_has_them(run_gateway, origin, shadow, path, whose):
    plain = {"id": "plain", "provider": "openai", "base_url": f"http://127.0.0.1:{origin.port}{path}/plain",
             "secret_key_ref": {"env": "E2E_KEY"}}
    other = plain | {"id": "other", "base_url": f"http://127.0.0.1:{shadow.port}{path}/other"}
    primary, routed = ("plain", "one") if whose == "the route's" else ("one", "plain")
    gateway = run_gateway(llm_settings(
        [plain, azure("one", origin, path), other],
        routes=[{"name": "r", "match": {"path_prefix": "/r/"}, "target": routed, "rewrite_prefix": "/",
                 "mirror": {"sample_rate": 1.0}}],
        traffic_mirror={"primary": primary, "shadow": "other"}), environment={"E2E_KEY": "ours"})
    chat = b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}'
    # A deployment's path that goes to a target as it is, goes to that one's shadow as it is.
    asked = "openai/deployments/theirs"
    assert gateway.ask(f"/r/{asked}/chat/completions", method="POST", body=chat).status == 200
    shadow.wait_seen(path)
    way = "v1" if routed == "one" else asked
    assert targets(shadow, path) == [("POST", f"{path}/other/{way}/chat/completions")]


def test_a_models_name_is_that_of_the_routes_target(run_gateway, origin, shadow, path):
    """Block's primary OpenAI, the route's target and the shadow Anthropic: both know the name."""
    def target(name, peer, kind):
        return {"id": name, "provider": kind, "base_url": f"http://127.0.0.1:{peer.port}{path}/{name}",
                "secret_key_ref": {"env": "E2E_KEY"}}
    gateway = run_gateway(llm_settings(
        [target("plain", origin, "openai"), target("claude", origin, "anthropic"),
         target("next", shadow, "anthropic")],
        routes=[{"name": "r", "match": {"path_prefix": "/r/"}, "target": "claude", "rewrite_prefix": "/",
                 "mirror": {"sample_rate": 1.0}}],
        traffic_mirror={"primary": "plain", "shadow": "next"}), environment={"E2E_KEY": "ours"})
    body = b'{"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}'
    gateway.ask("/r/v1/messages", method="POST", body=body, fields=[("anthropic-version", "2023-06-01")])
    assert json.loads(shadow.wait_seen(path)[0].body)["model"] == "claude-x"


@pytest.mark.parametrize("field, sent", [
    (("X-Api-Key", "theirs"), ("api-key", "theirs")), (("Api-Key", "theirs"), ("api-key", "theirs")),
    (("Authorization", "Bearer token"), ("authorization", "Bearer token"))])
def test_who_asks_a_deployment_with_a_key_of_his_own(run_gateway, origin, path, field, sent):
    keyless = azure("one", origin, path)
    del keyless["secret_key_ref"]
    gateway = run_gateway(llm_settings([keyless]))
    gateway.ask("/v1/messages", method="POST", fields=[field, ("anthropic-version", "2023-06-01")],
                body=b'{"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}')
    seen = origin.seen(path)[0]
    carried = [(name, seen.get(name)) for name in ("api-key", "x-api-key", "authorization")]
    assert [pair for pair in carried if pair[1]] == [sent]


ANSWER = b'{"id": "1", "object": "chat.completion", "x": 1.0, "text": "' + b"y" * 40_000 + b'"}'


def pieces(framing, body):
    """An answer's wire form, in pieces that are sent one by one."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    if framing == "length":
        return [head + b"Content-Length: %d\r\n\r\n" % len(body), body[:1], body[1:]]
    if framing == "in one":
        return [head + b"Content-Length: %d\r\n\r\n" % len(body) + body]
    split = 15 if framing == "chunks of 15" else len(body)
    chunks = [body[at:at + split] for at in range(0, min(len(body), 60), split)]
    chunks.append(body[60:] if split == 15 else b"")
    wire = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks if c) + b"0\r\n\r\n"
    return [head + b"Transfer-Encoding: chunked\r\n\r\n", wire[:2], wire[2:5], wire[5:]]


@pytest.mark.parametrize("framing", ["length", "in one", "one chunk", "chunks of 15"])
@pytest.mark.parametrize("body, annotated", [
    (ANSWER, True), (b' \n{ "a": [1.0]}', True), (b"{}", False), (b"[1]", False),
    (b"<html></html>", False), (b" " * 200, False)])
def test_chat_answers_tell_who_gave_them(run_gateway, annotating, origin, framing, body, annotated):
    path = f"/{framing.replace(' ', '-')}/{abs(hash(body))}/v1/chat/completions"

    def reply(connection, request):
        for piece in pieces(framing, body):
            connection.sock.sendall(piece)
            time.sleep(0.02)
    origin.on(path, reply)
    got = annotating.ask(path + "?x=1", method="POST", body=b"{}",
                         fields=[("Accept-Encoding", "gzip")])
    assert got.status == 200
    if annotated:
        start = body.index(b'"')
        assert got.body == body[:start] + b'"provider":"openai",' + body[start:]
        assert json.loads(got.body)["provider"] == "openai"
    else:
        assert got.body == body
    assert origin.seen(path)[0].get("accept-encoding") is None
    # The connection is in order afterwards, both ways.
    assert annotating.ask("/after").status == 200


@pytest.fixture(scope="module")
def annotating(run_gateway, origin):
    return run_gateway(llm_settings([
        {"id": "app", "provider": "openai", "base_url": f"http://127.0.0.1:{origin.port}"},
        {"id": "quiet", "provider": "openai", "base_url": f"http://127.0.0.1:{origin.port}",
         "annotate_provider": False}],
        routes=[{"match": {"path_prefix": "/quiet/"}, "target": "quiet"}]))


@pytest.mark.parametrize("path, status, kind, fields", [
    ("/quiet/v1/chat/completions", 200, "application/json", []),
    ("/v1/embeddings", 200, "application/json", []),
    ("/v1/chat/completions", 400, "application/json", []),
    ("/v1/chat/completions", 200, "text/event-stream", []),
    ("/v1/chat/completions", 200, "application/json", [("Content-Encoding", "br")])])
def test_other_answers_are_left_alone(annotating, origin, path, status, kind, fields):
    body = b'{"a": 1}'
    origin.on(path, lambda connection, request: connection.sock.sendall(
        f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n".encode()
        + b"".join(f"{n}: {v}\r\n".encode() for n, v in fields) + b"\r\n" + body))
    got = annotating.ask(path, method="POST", body=b"{}")
    assert got.status == status and got.body == body


def test_the_tutorials_third_step(gateway):
    done = subprocess.run(
        ["sh", "-c", f"curl -s http://127.0.0.1:{gateway.port}/v1/chat/completions "
         "-H 'Content-Type: application/json' -d '{\"model\": \"gpt-4o-mini\", \"messages\": "
         "[{\"role\": \"user\", \"content\": \"Explain technical debt.\"}]}'"],
        capture_output=True, text=True, check=True)
    reply = json.loads(done.stdout)
    assert (reply["model"], reply["provider"]) == ("gpt-4o-mini", "openai")


def test_a_key_that_is_not_set(run_gateway, origin, path):
    gateway = run_gateway(llm_settings([
        {"id": "app", "provider": "openai", "base_url": f"http://127.0.0.1:{origin.port}",
         "secret_key_ref": {"env": "E2E_NOT_SET"}}]))
    reply = gateway.ask(path, method="POST", body=b"{}")
    assert reply.status == 503
    assert json.loads(reply.body)["error"]["code"] == "key_missing"
    assert gateway.ask(path).status == 503
    assert origin.seen(path) == []
    assert re.search(r"WARN .*W013.*E2E_NOT_SET", gateway.text)


def test_each_side_gets_its_own_key(run_gateway, origin, shadow, path):
    def target(name, peer):
        return {"id": name, "provider": "openai", "base_url": f"http://127.0.0.1:{peer.port}",
                "secret_key_ref": {"env": f"E2E_KEY_{name.upper()}"}}
    gateway = run_gateway(llm_settings(
        [target("prod", origin), target("staging", shadow)],
        traffic_mirror={"primary": "prod", "shadow": "staging",
                        "safety": {"methods": ["POST"]}}),
        environment={"E2E_KEY_PROD": "key-of-prod", "E2E_KEY_STAGING": "key-of-staging"})
    body = json.dumps({"model": "m", "messages": USER}).encode()
    path += "/chat/completions"
    assert gateway.ask(path, method="POST", body=body,
                       fields=[("Authorization", "Bearer theirs")]).status == 200
    copy = shadow.wait_seen(path)[0]
    original = origin.seen(path)[0]
    assert original.all("authorization") == ["Bearer key-of-prod"]
    assert copy.all("authorization") == ["Bearer key-of-staging"]
    assert copy.all("host") == [f"127.0.0.1:{shadow.port}"] and copy.body == body
    assert "key-of-prod" not in repr(copy.fields) and "theirs" not in repr(copy.fields)
    assert "key-of" not in gateway.text


def test_streams_are_passed_on_event_by_event(run_gateway, mocks):
    mock = Mock("openai", "--latency-ms", "50", "--tokens-per-second", "10")
    try:
        gateway = run_gateway(llm_settings([{"id": "o", "provider": "openai", "base_url": mock.url}]))
        with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="k") as client:
            times = []
            for _ in client.chat.completions.create(
                    model="long", messages=USER, max_tokens=8, stream=True):
                times.append(time.monotonic())
    finally:
        mock.stop()
    # 7 gaps of 100 ms: held back, they would come together.
    assert times[-1] - times[0] > 0.5


def test_default_urls_and_lint(tmp_path):
    file = tmp_path / "config.yaml"

    def lint(text):
        file.write_text(text)
        done = subprocess.run([os.environ["UMBRA_BIN"], "policy", "lint", "--file", file, "--json"],
                              capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout)
    code, report = lint("providers: {targets: [{id: a, provider: openai}]}\n")
    assert code == 0 and report["valid"]
    for text, wanted in (
        ("providers: {targets: [{id: a, provider: opnai}]}\n", "E001"),
        ("providers: {targets: [{id: a, provider: openai, secret_key: {env: A}}]}\n", "E002"),
        ("providers: {targets: [{id: a, provider: openai, secret_key_ref: {file: none}}]}\n", "E014"),
    ):
        code, report = lint(text)
        assert code == 2 and [e["code"] for e in report["errors"]] == [wanted]
    code, report = lint("listen: 0.0.0.0:8080\nproviders: {targets: [{id: a, provider: openai, "
                        "secret_key_ref: {env: HOME}}]}\n")
    assert code == 2 and [e["code"] for e in report["errors"]] == ["E019"]
    key = tmp_path / "key"
    key.write_text("two words")
    code, report = lint("providers: {targets: [{id: a, provider: openai, "
                        f"secret_key_ref: {{file: {key}}}}}]}}\n")
    assert code == 2 and report["errors"][0]["code"] == "E018"
    assert "two words" not in json.dumps(report)
