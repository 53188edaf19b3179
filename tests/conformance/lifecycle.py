"""Servers of their own: starting, loading, company, stopping (lines 6, 28, 46-50)."""

import concurrent.futures
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from check import DEMO, Skip, check, main, soon, stories
from server import Server, free_port

ENDLESS = {
    "model": DEMO,
    "prompt": "Once upon a time",
    "raw": True,
    "options": {"num_predict": 100000, "temperature": 3, "seed": 1},
}


def short(n=8, model=DEMO, **more):
    return {"model": model, "prompt": "Hi", "stream": False, "options": {"num_predict": n}, **more}


class Stream(threading.Thread):
    """An answer that is read line by line beside the check."""

    def __init__(self, server, body, path="/api/generate"):
        super().__init__(daemon=True)
        self.lines, self.begun, self.cut = [], threading.Event(), False
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.body, self.path = body, path
        self.start()

    def run(self):
        try:
            self.connection.request("POST", self.path, json.dumps(self.body))
            for line in self.connection.getresponse():
                if line.strip():
                    self.lines.append(line)
                    self.begun.set()
        except (OSError, http.client.HTTPException):
            self.cut = True
        self.begun.set()

    def begin(self):
        assert self.begun.wait(30) and self.lines, "nothing came"
        return self


@check("50", "an idle server stops at once, with exit code 0 and nothing left")
def idle():
    server = Server()
    server.post("/api/generate", short())
    assert server.children() and server.socket.exists()
    start = time.monotonic()
    code = server.end()
    assert code == 0 and time.monotonic() - start < 5, code


@check("50", "SIGTERM under load: answers under way finish, others are refused")
def drains():
    with Server() as server:
        server.post("/load", {"model": DEMO})
        bodies = [
            {
                "model": DEMO,
                "prompt": "Once",
                "raw": True,
                "options": {"num_predict": 400, "seed": n, "temperature": 2},
            }
            for n in range(4)
        ]
        streams = [Stream(server, body).begin() for body in bodies]
        server.terminate()
        time.sleep(0.3)
        try:
            status = server.post("/api/generate", short()).status
        except OSError:
            status = None
        assert status in (None, 503), status
        for stream in streams:
            stream.join(40)
            last = json.loads(stream.lines[-1])
            assert last["done"] and last["done_reason"] in ("stop", "length"), last
        assert server.end(40) == 0


@check("50", "a second SIGTERM waits for nothing")
def hurries():
    with Server() as server:
        streams = [
            Stream(server, {**ENDLESS, "options": {**ENDLESS["options"], "seed": n}}).begin()
            for n in range(3)
        ]
        server.terminate()
        time.sleep(0.3)
        assert server.process.poll() is None, "it did not wait for answers"
        start = time.monotonic()
        code = server.end(20)
        assert code == 0 and time.monotonic() - start < 10, code
        for stream in streams:
            stream.join(10)
            assert not stream.is_alive()


@check("50", "a worker does not outlive a server that is killed")
def orphans():
    with Server() as server:
        server.post("/api/generate", short())
        workers = server.children()
        assert workers
        server.process.kill()
        server.process.wait()
        soon(5, lambda: not server.children())


@check(
    "-", "a port or a socket that is taken is told of, and a dead server's socket is not in the way"
)
def taken():
    with Server() as server:
        command = [os.environ["OPREL_BIN"], "serve", "--port", str(server.port), "--no-socket"]
        second = subprocess.run(
            command, env=server.environment, capture_output=True, text=True, timeout=30
        )
        assert second.returncode not in (0, -6) and "another oprel" in second.stderr, second
        command = [os.environ["OPREL_BIN"], "serve", "--port", str(free_port())]
        second = subprocess.run(
            command, env=server.environment, capture_output=True, text=True, timeout=30
        )
        assert second.returncode not in (0, -6) and "oprel.sock" in second.stderr, second
        server.process.kill()
        server.process.wait()
        assert server.socket.exists()
        third = subprocess.Popen(command, env=server.environment, stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            assert third.poll() is None
            with socket.socket(socket.AF_UNIX) as unix:
                unix.connect(str(server.socket))
                unix.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert b"Ollama is running" in unix.makefile("rb").read()
        finally:
            third.send_signal(signal.SIGTERM)
            assert third.wait(20) == 0


@check("6", "a server for other machines still refuses names that are not its own")
def open_to_all():
    with Server("--host", "0.0.0.0", "--insecure-no-auth", "--allow-host", "box.lan") as server:

        def status(host):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/api/tags", headers={"Host": host})
            return connection.getresponse().status

        assert status("evil.example") == 403
        assert status("box.lan") == status("localhost") == 200


@check("28", "a worker that is killed in the middle is not noticed, but for a pause")
def crashes():
    with Server() as server:
        body = {
            "model": DEMO,
            "prompt": "Once",
            "raw": True,
            "options": {"num_predict": 1500, "seed": 5, "temperature": 1},
        }
        whole = server.post("/api/generate", {**body, "stream": False}).json()["response"]
        stream = Stream(server, body).begin()
        soon(20, lambda: len(stream.lines) > 20)
        for pid in server.children():
            os.kill(pid, signal.SIGKILL)
        stream.join(50)
        lines = [json.loads(line) for line in stream.lines]
        assert [line.get("done", True) for line in lines].count(True) == 1, lines[-1]
        assert lines[-1]["done"], lines[-1]
        assert "".join(line["response"] for line in lines) == whole
        assert server.post("/api/generate", short()).status == 200
        assert server.end() == 0


@check("46", "requests on one model run together, and all finish")
def together():
    with Server() as server:
        server.post("/load", {"model": DEMO})
        body = {
            "model": DEMO,
            "prompt": "Once",
            "raw": True,
            "stream": False,
            "options": {"num_predict": 200, "temperature": 2},
        }
        bodies = [{**body, "options": {**body["options"], "seed": n}} for n in range(8)]
        start = time.monotonic()
        alone = [server.post("/api/generate", one).json()["response"] for one in bodies]
        serial = time.monotonic() - start
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            side_by_side = list(
                pool.map(lambda one: server.post("/api/generate", one).json()["response"], bodies)
            )
        parallel = time.monotonic() - start
        assert side_by_side == alone
        # Loosely: other work on the machine must not fail it.
        assert parallel < 1.5 * serial, (parallel, serial)


@check("46", "four answers at a time come at twice the speed of one after another", seconds=300)
def twice_as_fast():
    if "OPREL_LARGE" not in os.environ:
        raise Skip("$OPREL_LARGE names no model whose weights are larger than caches")
    body = {"model": os.environ["OPREL_LARGE"], "prompt": "Once", "max_tokens": 64}
    # Hot, so that no text repeats what could be proposed of it.
    body = {**body, "ignore_eos": True, "temperature": 2}
    with Server() as server:

        def one(seed):
            answer = server.post("/v1/completions", {**body, "seed": seed}, timeout=300)
            assert answer.status == 200, answer.body
            assert answer.json()["usage"]["completion_tokens"] == 64, answer.body

        def took(at_a_time):
            start = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
                list(pool.map(one, range(4)))
            return time.monotonic() - start

        took(4)
        # The best of some: what else the machine does only makes it slower.
        serial, parallel = (min(took(n) for _ in range(3)) for n in (1, 4))
        print(f"{256 / serial:.1f} tokens/s one by one, {256 / parallel:.1f} at a time", file=sys.stderr)
        assert serial >= 2 * parallel, (serial, parallel)


@check("47", "a full queue is 503, with the words of the field and a time to try again")
def queue():
    with Server(OPREL_MAX_QUEUE="1") as server:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: server.post("/api/generate", short(1)), range(24)))
        refused = [answer for answer in answers if answer.status != 200]
        assert refused and len(refused) < 24, [answer.status for answer in answers]
        for answer in refused:
            assert (answer.status, answer.json()["error"]) == (
                503,
                "server busy, please try again.  maximum pending requests exceeded",
            )
            assert int(answer.headers["retry-after"]) > 0


@check("48", "a second model takes the place of the first, but not while it is busy")
def eviction():
    other = stories()
    with Server(OPREL_MAX_LOADED_MODELS="1") as server:

        def names():
            return [model["name"] for model in server.get("/api/ps").json()["models"]]

        server.post("/api/generate", short())
        assert names() == ["demo:latest"]
        assert server.post("/api/generate", short(model=other)).status == 200
        assert names() == [other]
        body = {**ENDLESS, "options": {**ENDLESS["options"], "num_predict": 600}}
        stream = Stream(server, body).begin()
        assert server.post("/api/generate", short(model=other)).status == 200
        stream.join(30)
        last = json.loads(stream.lines[-1])
        assert last["done"] and last["eval_count"] > 0 and names() == [other], last


class Group:
    """A control group of its own: what is started in it may hold so many bytes together."""

    def __init__(self, limit):
        own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        mount, named = Path("/sys/fs/cgroup"), {name: path for _, name, path in own}
        # The first version of control groups has a mount for memory, the second has one for all.
        name, file = ("memory", "memory.limit_in_bytes") if "memory" in named else ("", "memory.max")
        mount = mount / name
        self.outer = mount / named[name].lstrip("/")
        self.folder = mount / f"oprel-test-{os.getpid()}"
        try:
            self.folder.mkdir()
            (self.folder / file).write_text(str(limit))
        except OSError as error:
            self.remove()
            raise Skip(f"no control group for memory can be made here: {error}") from error

    def server(self, **environment):
        """A server in the group: what is started is where its parent is."""
        self.enter(self.folder)
        try:
            return Server(**environment)
        finally:
            self.enter(self.outer)

    @staticmethod
    def enter(folder):
        (folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        until = time.monotonic() + 5
        while self.folder.exists():
            try:
                self.folder.rmdir()
            except OSError:
                # Its last process may not be quite gone.
                if time.monotonic() > until:
                    return
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


@check("48", "memory that is really short, as a control group has it, makes a model give way")
def short_of_memory():
    other = stories()
    # Less than is best left free, and more than enough.
    for limit, stays in [(400 << 20, False), (4 << 30, True)]:
        with Group(limit) as group, group.server() as server:

            def names():
                return {model["name"] for model in server.get("/api/ps").json()["models"]}  # noqa: B023

            assert server.post("/api/generate", short()).status == 200
            assert server.post("/api/generate", short(model=other)).status == 200
            assert names() == ({"demo:latest", other} if stays else {other})
            form = {"type": "array", "items": {"enum": ["on and on"]}, "minItems": 600}
            body = {**ENDLESS, "format": form}
            body["options"] = {"num_predict": 600}
            stream = Stream(server, body).begin()
            assert server.post("/api/generate", short(model=other)).status == 200
            stream.join(30)
            last = json.loads(stream.lines[-1])
            assert last["done"] and last["eval_count"] == 600, last
            assert names() == ({"demo:latest", other} if stays else {other})


@check("49", "another num_ctx does not load the model again")
def contexts():
    with Server() as server:
        server.post("/load", {"model": DEMO})
        workers = server.children()
        for n in [64, 1024, 256, 512]:
            body = short(2)
            body["options"]["num_ctx"] = n
            assert server.post("/api/generate", body).status == 200
        assert server.children() == workers


@check("-", "a model goes when it was idle for as long as the server is told")
def keep_alive():
    with Server(OLLAMA_KEEP_ALIVE="1s") as server:
        server.post("/api/generate", short())
        workers = server.children()
        assert workers
        soon(10, lambda: not server.children())
        assert server.get("/api/ps").json()["models"] == []
        server.post("/api/generate", short(keep_alive=-1))
        time.sleep(2)
        assert len(server.children()) == 1


@check("48", "models that come and go under load fail nobody")
def churn():
    other, until = stories(), time.monotonic() + 8
    with Server() as server:

        def client(n):
            done, dice = 0, random.Random(n)
            while time.monotonic() < until:
                name = dice.choice([DEMO, DEMO, other])
                bodies = [
                    ("/api/generate", {"model": name, "keep_alive": 0}),
                    ("/unload", {"model": name}),
                    ("/api/embed", {"model": name, "input": ["x"] * dice.randrange(1, 9)}),
                    (
                        "/api/generate",
                        short(dice.randrange(1, 30), name, keep_alive=dice.choice([0, 1, "1ms"])),
                    ),
                    ("/v1/completions", {"model": name, "prompt": "Hi", "max_tokens": 3, "n": 2}),
                ]
                path, body = dice.choice(bodies)
                answer = server.post(path, body)
                assert answer.status == 200, (path, body, answer.status, answer.body)
                done += 1
            return done

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            assert sum(pool.map(client, range(12))) > 12
        assert server.end() == 0


@check("-", "a file that is no model is refused and takes nothing down")
def no_model():
    with Server() as server:
        bad = server.home / "bad.gguf"
        for content in [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 4096, b"x" * 10000]:
            bad.write_bytes(content)
            answer = server.post("/api/generate", short(model=str(bad)))
            assert answer.status >= 400 and answer.json()["error"], (answer.status, answer.body)
            assert server.post("/api/show", {"model": str(bad)}).status >= 400
        assert server.post("/api/generate", short(model=str(server.home))).status == 404
        assert server.post("/api/generate", short()).status == 200
        assert server.get("/api/ps").json()["models"][0]["name"] == "demo:latest"


main()
