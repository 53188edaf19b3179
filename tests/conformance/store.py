"""The store: names, layers, downloads, and stores of others (lines 4, 35-43, 57, 58)."""

import http.client
import json
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path

from check import GREEDY, check, main, stories
from registry import CONFIG, MODEL, Registry, digest
from server import Server

BIN = os.environ["OPREL_BIN"]
# Of a download: what a part has at most.
PART = 16 << 20


def well(server, method, path, body=None):
    reply = server.request(method, path, body)
    said = reply.last()
    failed = isinstance(said, dict) and said.get("error")
    assert reply.status in (200, 201) and not failed, (reply.status, said)
    return said


def blobs(server):
    return {path.name for path in (server.home / "models" / "blobs").glob("sha256-*")}


def manifest(server, name):
    path = server.home / "models" / "manifests" / "registry.ollama.ai" / "library" / name / "latest"
    return json.loads(path.read_text())


def weights(manifest):
    return [layer["digest"] for layer in manifest["layers"] if layer["mediaType"] == MODEL]


def add_stories(server, name="base"):
    """A model of the store, from a file that is sent."""
    content = Path(stories()).read_bytes()
    of = digest(content)
    well(server, "POST", f"/api/blobs/{of}", content)
    well(server, "POST", "/api/create", {"model": name, "files": {"stories.gguf": of}})
    return of


def answer(server, name):
    body = {"model": name, "prompt": "Once", "stream": False, "options": {**GREEDY, "num_predict": 4}}
    return well(server, "POST", "/api/generate", body)["response"]


def names(server):
    listed = well(server, "GET", "/api/tags")["models"]
    return [model["name"] for model in listed if model["name"] != "demo:latest"]


@check("35,36", "a model made of another shares its weights, and a copy outlives what it was made of")
def shared():
    with Server() as server:
        of = add_stories(server)
        before = blobs(server)
        well(server, "POST", "/api/create", {"model": "mine", "from": "base", "system": "Be short."})
        assert weights(manifest(server, "mine")) == weights(manifest(server, "base")) == [of]
        assert len(blobs(server) - before) <= 2, blobs(server) - before
        assert well(server, "POST", "/api/show", {"model": "mine"})["system"] == "Be short."
        said = answer(server, "base")
        well(server, "POST", "/api/copy", {"source": "base", "destination": "yours"})
        well(server, "DELETE", "/api/delete", {"model": "base"})
        assert answer(server, "yours") == said and said
        well(server, "DELETE", "/api/delete", {"model": "yours"})
        assert of.replace(":", "-") in blobs(server), "another one still names it"
        well(server, "DELETE", "/api/delete", {"model": "mine"})
        assert of.replace(":", "-") not in blobs(server)


@check("37,38", "blobs are what they are called, and their names are no paths")
def named():
    with Server() as server:
        wrong = "sha256:" + "0" * 64
        reply = server.post(f"/api/blobs/{wrong}", b"not that")
        assert reply.status == 400 and reply.json()["error"], (reply.status, reply.body)
        assert not blobs(server)
        assert server.request("HEAD", f"/api/blobs/{wrong}").status == 404
        assert server.request("HEAD", "/api/blobs/sha256:zz").status == 400
        for path in ("..%2f..%2fetc%2fpasswd", "sha256:..%2f..%2fx", "%2e%2e%2f%2e%2e", "..%5cx"):
            for method in ("HEAD", "POST"):
                body = None if method == "HEAD" else b"x"
                status = server.request(method, f"/api/blobs/{path}", body).status
                assert status in (400, 404), (method, path, status)


@check("39,40", "names are found in any case, shown as they were given, and deleted once")
def deleted():
    with Server() as server:
        add_stories(server, "MyModel")
        assert names(server) == ["MyModel:latest"]
        assert answer(server, "mymodel")
        assert server.request("DELETE", "/api/delete", {"model": "MYMODEL"}).status == 200
        assert server.request("DELETE", "/api/delete", {"model": "MyModel"}).status == 404
        assert names(server) == []


@check("41", "a pull that was cut goes on, and fetches no finished part again")
def resumed():
    content = random.Random(1).randbytes(5 * PART)
    with Registry() as registry, Server() as server:
        name = registry.add("library/large:latest", content)
        pull = {"model": name, "insecure": True}
        half = len(content) // 2
        registry.cut_after = half
        # It tries again by itself for a while: what asked goes away instead.
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/api/pull", body=json.dumps(pull))
        until = time.monotonic() + 20
        while registry.sent < half and time.monotonic() < until:
            time.sleep(0.01)
        connection.close()
        time.sleep(0.3)
        assert not names(server), "half a model is none"
        registry.cut_after = None
        assert well(server, "POST", "/api/pull", pull)["status"] == "success"
        again = registry.sent - len(content)
        # What was on its way in each part, and no part that was done.
        assert again <= 2 * PART, f"{again} bytes again"
        stored = server.home / "models" / "blobs" / digest(content).replace(":", "-")
        assert stored.read_bytes() == content


@check("42", "what was not sent as it is called is found, thrown away and fetched again")
def corrupt():
    content = random.Random(2).randbytes(PART + 5)
    with Registry() as registry, Server() as server:
        name = registry.add("library/flipped:latest", content)
        pull = {"model": name, "insecure": True}
        registry.flip = digest(content)
        reply = server.post("/api/pull", pull, timeout=120)
        assert reply.status >= 400 or reply.last()["error"], (reply.status, reply.body)
        assert digest(content).replace(":", "-") not in blobs(server) and not names(server)
        registry.flip = None
        assert well(server, "POST", "/api/pull", pull)["status"] == "success"


@check("43", "a store made by Ollama is listed and runs in place")
def of_others():
    content = Path(stories()).read_bytes()
    config = json.dumps({"model_format": "gguf", "model_family": "llama", "file_type": "F32"}).encode()
    with tempfile.TemporaryDirectory(prefix="oprel-") as folder:
        models = Path(folder)
        (models / "blobs").mkdir()
        at = models / "manifests" / "registry.ollama.ai" / "library" / "tales"
        at.mkdir(parents=True)
        layers = []
        for kind, blob in ((CONFIG, config), (MODEL, content)):
            (models / "blobs" / digest(blob).replace(":", "-")).write_bytes(blob)
            layers.append({"mediaType": kind, "digest": digest(blob), "size": len(blob)})
        described = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": layers[0],
            "layers": layers[1:],
        }
        (at / "latest").write_text(json.dumps(described))
        with Server(OLLAMA_MODELS=folder) as server:
            assert names(server) == ["tales:latest"]
            assert answer(server, "tales")
            assert len(list((models / "blobs").iterdir())) == 2, "nothing is copied"
            assert not blobs(server)


@check("57", "list prints columns that can be parsed as today's")
def listed():
    with Server() as server:
        add_stories(server, "tales")
        ended = subprocess.run([BIN, "list"], env=server.environment, capture_output=True, text=True, timeout=60)
        lines = ended.stdout.splitlines()
        assert lines[0].split() == ["NAME", "ID", "SIZE", "MODIFIED"], lines
        name, ident, size, unit, *_ = lines[-1].split()
        assert name == "tales:latest" and len(ident) == 12, lines
        assert float(size) > 0 and unit in ("KB", "MB", "GB"), lines


@check("58", "run of a model that is not here pulls it and answers")
def pulled():
    content = Path(stories()).read_bytes()
    with Registry() as registry, tempfile.TemporaryDirectory(prefix="oprel-") as home:
        name = registry.add("library/tales:latest", content)
        environment = {**os.environ, "OPREL_HOME": home, "OPREL_HOST": "127.0.0.1:1"}

        def run(*arguments):
            command = [BIN, *arguments]
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

        refused = run("run", name, "Once", "-n", "4")
        assert refused.returncode and "--insecure" in refused.stderr, refused
        # What a registry with TLS needs no word for.
        ended = run("pull", name, "--insecure")
        assert ended.returncode == 0, ended
        first = run("run", name, "Once", "-n", "4", "--seed", "1")
        assert first.returncode == 0 and first.stdout.strip(), first
        sent = registry.sent
        assert run("run", name, "Once", "-n", "4", "--seed", "1").stdout == first.stdout
        assert registry.sent == sent, "the second time it is here"


main()
