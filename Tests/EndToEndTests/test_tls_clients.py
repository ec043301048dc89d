"""TLS as others see it: testssl.sh, which looks for what is weak, and a browser."""

import json
import os
import shutil
import subprocess

import pytest

from harness.gateway import die_with_the_tests, settings
from harness.peer import answer
from harness.tls import file, listener, pair

TESTSSL_S = 420
BROWSER_S = 90
LARGE_BYTES = 8 << 20
# Severities of testssl.sh that are no reproach. WARN is about the tool's own OpenSSL.
HARMLESS = {"OK", "INFO", "LOW", "WARN"}
# Protocols, cipher categories, forward secrecy, what the server prefers and shows, HTTP's head, and
# every vulnerability that the tool knows.
GROUPS = ["-p", "-s", "-f", "-P", "-S", "-h", "-U"]
# Findings that show that each group ran to its end.
EXPECTED = {
    "TLS1": "not offered", "TLS1_1": "not offered", "TLS1_2": "offered", "TLS1_3": "offered",
    "cipher_order": "server", "PFS": "offered", "heartbleed": "not vulnerable",
    "secure_client_renego": "not vulnerable", "CRIME_TLS": "not vulnerable",
    "LUCKY13": "not vulnerable", "RC4": "not vulnerable",
}


def needs(*programs):
    """Installed by scripts/install-tools; skipped where that could not be."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)}")


@needs("testssl")
def test_testssl_finds_nothing_above_low(run_gateway, origin, tmp_path):
    """With the defaults, an ECDSA and an RSA certificate for one name. The fields that say what a
    page may do are the origin's to set, and it does."""
    origin.on("/", raw=answer(body=b"ok", fields=[
        ("Content-Security-Policy", "default-src 'none'"), ("X-Content-Type-Options", "nosniff")]))
    gateway = run_gateway(settings(
        origin, listen=[listener(certificates=[pair("site"), pair("site-rsa")])]))
    found = tmp_path / "found.json"
    done = subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none",
         "--openssl", shutil.which("openssl"), "--add-ca", file("ca.pem"),
         "--openssl-timeout", "20", "--connect-timeout", "20",
         "--jsonfile", str(found), *GROUPS, f"localhost:{gateway.port}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TESTSSL_S,
        cwd=tmp_path, preexec_fn=die_with_the_tests)
    findings = json.loads(found.read_text())
    text = done.stdout.decode(errors="replace")
    by_id = {finding["id"]: finding["finding"] for finding in findings}
    for name, words in EXPECTED.items():
        assert words in by_id.get(name, ""), (name, by_id.get(name), text)
    bad = [f"{f['severity']} {f['id']}: {f['finding']}" for f in findings
           if f["severity"] not in HARMLESS]
    assert not bad, "\n".join(bad)


PAGE = """<!doctype html><html><body><pre id="result">not run</pre><script>
async function run() {
  const small = [];
  for (let i = 0; i < 20; i++) small.push(await (await fetch(`small/${i}`)).text());
  const large = new Uint8Array(await (await fetch("large")).arrayBuffer());
  let wrong = 0;
  for (let i = 0; i < large.length; i++) if (large[i] !== i % 251) wrong++;
  const echo = await (await fetch("echo", {method: "POST", body: large})).text();
  return JSON.stringify({small: small.join(" "), bytes: large.length, wrong, echo});
}
run().then(text => text, error => `failed: ${error}`)
     .then(text => { document.getElementById("result").textContent = text; });
</script></body></html>"""


@needs("chromium")
def test_a_browser(run_gateway, origin, path, tmp_path):
    """A page whose script loads twenty small things one after the other, a large one, and sends it
    back. The browser trusts the certificate's key; all else is as in real life."""
    body = bytes(i % 251 for i in range(251)) * (LARGE_BYTES // 251 + 1)
    body = body[:LARGE_BYTES]
    origin.on(f"{path}/page", raw=answer(body=PAGE.encode(), fields=[("Content-Type", "text/html")]))
    origin.on(f"{path}/small/", lambda c, r: c.send(
        answer(body=r.path.rpartition("/")[2].encode())))
    origin.on(f"{path}/large", raw=answer(body=body))
    origin.on(f"{path}/echo", lambda c, r: c.send(
        answer(body=b"same" if r.body == body else b"other")))
    gateway = run_gateway(settings(origin, listen=[listener()]))
    profile = tmp_path / "profile"
    done = subprocess.run(
        ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}",
         f"--ignore-certificate-errors-spki-list={key_hash('site')}", "--no-proxy-server",
         "--host-resolver-rules=MAP site.test 127.0.0.1", "--virtual-time-budget=60000",
         "--dump-dom", f"https://site.test:{gateway.port}{path}/page"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=BROWSER_S, cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)}, preexec_fn=die_with_the_tests)
    dom = done.stdout.decode(errors="replace")
    assert '<pre id="result">' in dom, (dom[-2000:], done.stderr.decode(errors="replace")[-2000:])
    text = dom.partition('<pre id="result">')[2].partition("</pre>")[0].replace("&quot;", '"')
    result = json.loads(text) if text.startswith("{") else text
    assert result == {"small": " ".join(str(i) for i in range(20)), "bytes": LARGE_BYTES,
                      "wrong": 0, "echo": "same"}, text
    seen = origin.seen(path)
    assert all(r.get("x-forwarded-proto") == "https" for r in seen) and len(seen) >= 23
    # Twenty-three requests one after the other; a browser opens some connections in advance.
    metrics = gateway.metrics()
    assert metrics.sum("umbra_connections_accepted_total") <= 8
    assert metrics.sum("umbra_tls_handshakes_total", side="client", result="failed") == 0


def key_hash(name):
    """The SHA-256 of a certificate's public key, in base64: how a browser is told to trust it."""
    def openssl(*arguments, given=b""):
        return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True,
                              timeout=20).stdout

    key = openssl("x509", "-in", file(f"{name}.pem"), "-noout", "-pubkey")
    der = openssl("pkey", "-pubin", "-outform", "DER", given=key)
    return openssl("base64", "-A", given=openssl("dgst", "-sha256", "-binary", given=der)).decode()
