"""A registry of Ollama's protocol for tests: manifests and blobs from memory, and faults when asked for."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "application/vnd.ollama.image.model"
CONFIG = "application/vnd.docker.container.image.v1+json"


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Registry:
    """Models by `user/name:tag`. `cut_after` bytes of blobs connections break; `flip` is a digest that is sent wrong."""

    def __init__(self):
        self.manifests, self.blobs = {}, {}
        self.cut_after, self.flip = None, None
        # Bytes of blobs that were sent.
        self.sent = 0
        self.lock = threading.Lock()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                registry.answer(self)

            def do_HEAD(self):
                registry.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name, model):
        """A model whose weights are these bytes; what it is called there."""
        config = json.dumps({"model_format": "gguf", "file_type": "F32"}).encode()
        layers = [(CONFIG, config), (MODEL, model)]
        described = [
            {"mediaType": kind, "digest": digest(content), "size": len(content)}
            for kind, content in layers
        ]
        for _, content in layers:
            self.blobs[digest(content)] = content
        manifest = {"schemaVersion": 2, "config": described[0], "layers": described[1:]}
        self.manifests[name] = json.dumps(manifest).encode()
        return f"{self.host}/{name}"

    def answer(self, request):
        kind, _, what = request.path.removeprefix("/v2/").rpartition("/")
        name, _, kind = kind.rpartition("/")
        found = self.manifests.get(f"{name}:{what}") if kind == "manifests" else self.blobs.get(what)
        if found is None:
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start, end = 0, len(found)
        asked = request.headers.get("Range", "").removeprefix("bytes=")
        if asked:
            first, _, last = asked.partition("-")
            start, end = int(first), min(int(last or end - 1) + 1, end)
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(end - start))
        request.send_header("Accept-Ranges", "bytes")
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(found)}")
        request.end_headers()
        if request.command == "HEAD":
            return
        if kind == "manifests":
            request.wfile.write(found[start:end])
        else:
            self.send(request, what, found[start:end])

    def send(self, request, what, content):
        if what == self.flip:
            content = bytes([content[0] ^ 1]) + content[1:]
        for at in range(0, len(content), 1 << 16):
            piece = content[at : at + (1 << 16)]
            with self.lock:
                if self.cut_after is not None and self.sent >= self.cut_after:
                    request.close_connection = True
                    request.connection.close()
                    return
                self.sent += len(piece)
            try:
                request.wfile.write(piece)
            except OSError:
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
