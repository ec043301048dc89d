"""nginx as a real origin, and as the proxy that the scripted peers themselves are tried on."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from .gateway import die_with_the_tests
from .ports import free_port
from .stream import connect
from .waiting import wait_for

COMMON = """
daemon off; master_process off; worker_processes 1;
pid {root}/nginx.pid; error_log {root}/error.log warn;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 0; default_type application/octet-stream;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  {server}
}}
"""

ORIGIN = """
  server {{
    listen 127.0.0.1:{port}; root {root}/files; keepalive_requests 100000;
    location /upload/ {{ dav_methods PUT; create_full_put_path on; }}
  }}
"""

PROXY = """
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_buffering off;
      proxy_request_buffering off; proxy_set_header Host $http_host;
      proxy_set_header Connection $connection_upgrade; proxy_set_header Upgrade $http_upgrade;
      proxy_connect_timeout 2s;
    }}
  }}
"""


class Nginx:
    def __init__(self, directory, server, **values):
        self.root = Path(directory)
        (self.root / "files" / "upload").mkdir(parents=True, exist_ok=True)
        self.port = values["port"] = free_port()
        values["root"] = self.root
        text = COMMON.format(root=self.root, server=server.format(**values))
        (self.root / "nginx.conf").write_text(text)
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen(
            [program, "-p", str(self.root), "-c", str(self.root / "nginx.conf")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=(self.root / "stderr.txt").open("wb"), preexec_fn=die_with_the_tests)
        wait_for(self._listens, lambda: (self.root / "stderr.txt").read_text())

    def _listens(self):
        try:
            connect(self.port).close()
            return True
        except OSError:
            return False

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def origin(directory):
    return Nginx(directory, ORIGIN)


class NginxProxy(Nginx):
    """Has as much of `Gateway`'s face as the generic tests use."""

    log, text = [], ""

    def __init__(self, directory, upstream_port):
        super().__init__(directory, PROXY, upstream=upstream_port)

    def client(self, **options):
        return connect(self.port, **options)

    def ask(self, *arguments, **options):
        from .gateway import exchange
        with self.client() as client:
            return exchange(client, *arguments, **options)

    def watch(self):
        return {self.process.pid}
