"""The four proxies, each as a plain HTTP/1.1 reverse proxy with a pooled keep-alive upstream and
one worker: what an expert would write who wants the most of it. Access logs are off for all.

The peers add no Via, no X-Forwarded-* and no X-Request-Id (Envoy's default id aside); Umbra does
all of it, as by default. Where that is a difference, it is to the peers' advantage.
"""

import json
import os
import socket
import urllib.request

from .processes import (
    Child, Fault, check_free, check_listener, listening_inodes, read, wait_until)

READY_SECONDS = 20.0
# Copies that may be at a shadow at one time; Envoy's own default for requests to a cluster.
SHADOW_IN_FLIGHT = 1024
SHADOW_TIMEOUT_MS = 5000


class Proxy:
    """One running proxy. `mirror_port` None is mirroring off; the setting `certificate` is a file with
    a certificate and its key, and makes it speak TLS to its clients."""

    kind = ""
    can_mirror = True

    def __init__(self, bench, label, port, upstream_port, mirror_port=None, settings=None):
        self.bench = bench
        self.label = label
        self.port = port
        self.upstream_port = upstream_port
        self.mirror_port = mirror_port
        self.settings = settings or {}
        self.certificate = self.settings.get("certificate")
        self.directory = bench.work / "run" / label
        self.directory.mkdir(parents=True, exist_ok=True)
        self.child = None

    def start(self):
        for port in self.ports():
            check_free(port)
        self.write()
        self.child = Child(
            self.settings.get("wrapper", []) + self.command(), self.directory / "log", name=self.label,
            cpus=self.settings.get("cpus", {self.bench.proxy_cpu}),
            environment=self.settings.get("environment"))
        ready = wait_until(
            lambda: self.is_ready() or not self.child.is_running(),
            self.settings.get("ready_seconds", READY_SECONDS))
        if not ready or not self.child.is_running():
            raise Fault(f"{self.label} does not start:\n{self.child.log_tail()}")
        return self

    def ports(self):
        return [self.port]

    def is_ready(self):
        return bool(listening_inodes(self.port))

    def check(self):
        for port in self.ports():
            check_listener(port, self.child)

    def tree(self):
        return self.child.tree()

    def worker_pids(self):
        """The processes that carry the users' requests."""
        return self.tree()

    def requests(self):
        """The proxy's own count of requests so far, or None where it keeps none.

        Looking may itself be counted: `requests_seen_by_looking` says by how much.
        """
        return None

    requests_seen_by_looking = 0

    def end(self):
        if self.child:
            self.child.end()

    def write_file(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path


class Umbra(Proxy):
    kind = "umbra"

    def ports(self):
        return [self.port, self.port + 1]

    def write(self):
        runtime = {"workers": 1, **self.settings.get("runtime", {})}
        inner = ", ".join(f"{key}: {value}" for key, value in runtime.items())
        listen = f"127.0.0.1:{self.port}"
        if self.certificate:
            pair = f"{{certificate: {self.certificate}, key: {self.certificate}}}"
            listen = f'{{address: "{listen}", tls: {pair}}}'
        text = f"""version: '1'
listen: [{listen}]
admin: {{listen: 127.0.0.1:{self.port + 1}}}
runtime: {{{inner}}}
access_log: off
"""
        if "services" in self.settings:
            self.write_file("umbra.yaml", text + self.settings["services"])
            return
        text += f"""providers:
  targets:
    - {{id: app, provider: http, base_url: "http://127.0.0.1:{self.upstream_port}"}}
"""
        if self.mirror_port is not None:
            text += f"""    - {{id: next, provider: http, base_url: "http://127.0.0.1:{self.mirror_port}"}}
traffic_mirror:
  primary: app
  shadow: next
  sample_rate: 1.0
  timeout_ms: {SHADOW_TIMEOUT_MS}
  max_body_bytes: {self.settings.get("max_body_bytes", "1MiB")}
  limits: {{qps: {self.settings.get("qps", 20000)}, in_flight: {SHADOW_IN_FLIGHT}}}
  safety: {{methods: [GET, HEAD, OPTIONS, POST]}}
"""
        self.write_file("umbra.yaml", text)

    def command(self):
        return [
            self.bench.umbra, "gateway", "run", "--policy-config",
            self.directory / "umbra.yaml"]

    def fetch(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 1}{path}", timeout=3) as answer:
            return answer.read().decode()

    def is_ready(self):
        # /readyz speaks of the workers alone; the gateway says it once the shadow process is there too.
        if "Gateway ready" not in (self.directory / "log").read_text(errors="replace"):
            return False
        try:
            self.fetch("/readyz")
            return True
        except OSError:
            return False

    def metrics(self):
        """All samples of /metrics: {name: {labels as text: value}}."""
        found = {}
        for line in self.fetch("/metrics").splitlines():
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name, _, labels = series.partition("{")
                found.setdefault(name, {})[labels.rstrip("}")] = float(value)
        return found

    def requests(self):
        return int(sum(self.metrics().get("umbra_requests_total", {}).values()))

    def roles(self):
        """{role: pids}, by the command line of each process."""
        found = {}
        for pid in self.tree():
            found.setdefault(role_of(pid, root=self.child.pid), []).append(pid)
        return found

    def worker_pids(self):
        workers = self.roles().get("worker", [])
        if not workers:
            raise Fault(f"{self.label}: no worker among {self.roles()}")
        return workers


def role_of(pid, root):
    """supervisor, worker, shadow or admin: the second word of `umbra role NAME …`."""
    if pid == root:
        return "supervisor"
    words = (read(f"/proc/{pid}/cmdline") or "").split("\0")
    return words[words.index("role") + 1] if "role" in words[:-1] else "other"


class Nginx(Proxy):
    kind = "nginx"

    def write(self):
        mirror = upstream = ""
        if self.mirror_port is not None:
            upstream = f"""
    upstream next {{
        server 127.0.0.1:{self.mirror_port};
        keepalive 256;
        keepalive_requests 1000000000;
    }}"""
            mirror = """
        location = /mirror {
            internal;
            proxy_pass http://next$request_uri;
        }"""
        tls = ""
        if self.certificate:
            tls = f"""ssl_certificate {self.certificate};
        ssl_certificate_key {self.certificate};
        ssl_protocols TLSv1.2 TLSv1.3;"""
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "\n".join(
            f"    {name}_temp_path {self.directory}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        # callgrind_control does not find a process that was forked off.
        single = "master_process off;" if "wrapper" in self.settings else ""
        self.write_file("nginx.conf", f"""daemon off;
{single}
{user}
pid {self.directory}/nginx.pid;
error_log {self.directory}/error.log crit;
worker_processes 1;
worker_cpu_affinity {1 << self.bench.proxy_cpu:b};
worker_rlimit_nofile {self.bench.descriptors};
events {{
    use epoll;
    worker_connections 16384;
}}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
{temporary}
    upstream app {{
        server 127.0.0.1:{self.upstream_port};
        keepalive 256;
        keepalive_requests 1000000000;
    }}{upstream}
    server {{
        listen 127.0.0.1:{self.port} {"ssl " if tls else ""}reuseport backlog=4096;
        {tls}
        location / {{
            proxy_pass http://app;
            {"mirror /mirror;" if mirror else ""}
            {self.settings.get("location", "")}
        }}{mirror}
    }}
    server {{
        listen unix:{self.status_path()};
        location / {{ stub_status; }}
    }}
}}
""")
        if os.path.exists(self.status_path()):
            os.unlink(self.status_path())

    def status_path(self):
        return f"{self.directory}/status.sock"

    def command(self):
        return ["nginx", "-p", self.directory, "-c", self.directory / "nginx.conf",
                "-e", self.directory / "error.log"]

    def worker_pids(self):
        return self.tree()[1:] or self.tree()

    requests_seen_by_looking = 1

    def requests(self):
        text = ask_unix(self.status_path(), b"GET / HTTP/1.0\r\n\r\n")
        return int(text[text.index("requests\n") + 9:].split()[2])


class HAProxy(Proxy):
    kind = "haproxy"
    can_mirror = False

    def write(self):
        tls = f" ssl crt {self.certificate} ssl-min-ver TLSv1.2" if self.certificate else ""
        self.write_file("haproxy.cfg", f"""global
    nbthread 1
    cpu-map 1 {self.bench.proxy_cpu}
    maxconn {min(16384, self.bench.descriptors // 2 - 200)}
    hard-stop-after 2s
    stats socket {self.status_path()} mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 600s
    timeout http-request 10s
    timeout http-keep-alive 75s
    http-reuse always
frontend front
    bind 127.0.0.1:{self.port}{tls}
    default_backend app
backend app
    server app 127.0.0.1:{self.upstream_port} pool-max-conn -1
""")

    def status_path(self):
        return f"{self.directory}/status.sock"

    def command(self):
        return ["haproxy", "-db", "-f", self.directory / "haproxy.cfg"]

    def requests(self):
        lines = ask_unix(self.status_path(), b"show stat\n").splitlines()
        names = lines[0].lstrip("# ").split(",")
        for line in lines[1:]:
            row = dict(zip(names, line.split(",")))
            if row.get("pxname") == "front" and row.get("svname") == "FRONTEND":
                return int(row["req_tot"])
        raise Fault(f"{self.label}: no count of requests in 'show stat'")


class Envoy(Proxy):
    kind = "envoy"

    def write(self):
        route = {"cluster": "app", "timeout": "600s"}
        clusters = [self.cluster("app", self.upstream_port)]
        if self.mirror_port is not None:
            route["request_mirror_policies"] = [{
                "cluster": "next",
                "runtime_fraction": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}}]
            clusters.append(self.cluster("next", self.mirror_port))
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network."
                     "http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "front",
            "codec_type": "HTTP1",
            "route_config": {"virtual_hosts": [
                {"name": "all", "domains": ["*"],
                 "routes": [{"match": {"prefix": "/"}, "route": route}]}]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http."
                                          "router.v3.Router"}}],
        }
        self.write_file("envoy.json", json.dumps({"static_resources": {
            "listeners": [{
                "name": "front",
                "address": self.address(self.port),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": manager}]}]}],
            "clusters": clusters}}, indent=1))

    @staticmethod
    def address(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    def cluster(self, name, port):
        return {
            "name": name, "type": "STATIC", "connect_timeout": "2s",
            "load_assignment": {"cluster_name": name, "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": self.address(port)}}]}]}}

    def command(self):
        return [self.bench.envoy, "-c", self.directory / "envoy.json", "--concurrency", 1,
                "--disable-hot-restart", "-l", "error"]


KINDS = {kind.kind: kind for kind in (Umbra, Nginx, HAProxy, Envoy)}


def ask_unix(path, question):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(3)
        client.connect(path)
        client.sendall(question)
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()
