"""A server of its own for a test: a free port, a temporary home, an end that is checked."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from check import request


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A running `oprel serve`."""

    def __init__(self, *arguments, **environment):
        self.home = Path(tempfile.mkdtemp(prefix="oprel-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = self.home / "run" / "oprel.sock"
        self.log = self.home / "serve.log"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OLLAMA_", "OPREL_")) and not name.lower().endswith("_proxy")
        }
        self.environment = {**inherited, "OPREL_HOME": str(self.home), **environment}
        command = [os.environ["OPREL_BIN"], "serve", "--port", str(self.port), *arguments]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_until_it_listens()

    def _wait_until_it_listens(self):
        until = time.monotonic() + 30
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"oprel serve does not listen:\n{self.log.read_text()}")

    def request(self, method, path, body=None, **more):
        return request(method, path, body, host="127.0.0.1", port=self.port, **more)

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def children(self):
        """Processes of the server that are alive, besides itself."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except (OSError, IndexError):
                continue
            own = f"OPREL_HOME={self.home}".encode() in environment.split(b"\0")
            if own and state != "Z" and int(entry.name) != self.process.pid:
                found.append(int(entry.name))
        return found

    def rss(self):
        """Bytes of memory that the server itself holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self, seconds=60):
        """Its exit code after it was asked to stop; nothing of it may be left."""
        if self.process.poll() is None:
            self.terminate()
        try:
            code = self.process.wait(seconds)
            until = time.monotonic() + 2
            while self.children() and time.monotonic() < until:
                time.sleep(0.02)
            left = self.children()
            assert not left, f"processes are left: {left}"
            assert not self.socket.exists(), "its socket is left"
            return code
        finally:
            self.remove()

    def remove(self):
        for pid in [self.process.pid, *self.children()]:
            if pid != self.process.pid or self.process.poll() is None:
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()
