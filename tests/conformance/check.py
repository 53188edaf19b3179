"""Checks: how one is written, run and reported; and HTTP without a client library.

A script of checks decorates functions with `check` and ends with `main()`. Each check prints one
line: its outcome, the lines of the acceptance list that it stands for, and what it says.
"""

import http.client
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from urllib.parse import urlsplit

URL = os.environ.get("OPREL_URL", "http://127.0.0.1:11434")
HOST = urlsplit(URL).hostname
PORT = urlsplit(URL).port
DEMO = "demo"
GREEDY = {"temperature": 0}
QUESTION = "How do I start the server?"
# Seconds that a check may take, and that anybody waits for a byte.
LIMIT = float(os.environ.get("OPREL_CHECK_SECONDS", "60"))

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("OPREL_SHARED", ROOT.parent / "shared"))


class Skip(Exception):
    """A check that cannot be made here, and why."""


class Late(Exception):
    """A check that took too long."""


_checks = []


def check(lines, says, seconds=LIMIT):
    """Registers a function as a check of some lines of the acceptance list (`-` for none)."""

    def keep(function):
        _checks.append((lines, says, seconds, function))
        return function

    return keep


def fixture(name):
    """The path of a model that lies beside the repository."""
    path = SHARED / "fixtures" / name
    if not path.is_file():
        raise Skip(f"no {name} in the fixtures folder of $OPREL_SHARED or ../shared")
    return str(path)


def stories():
    return fixture("stories260k-f32.gguf")


def minilm():
    return fixture("all-minilm-l6-v2-q8_0.gguf")


def _late(_signal, _frame):
    raise Late("not done in time")


def main():
    """Runs the checks of a script; words on the command line choose those that contain one."""
    signal.signal(signal.SIGALRM, _late)
    words = sys.argv[1:]
    failed = False
    for lines, says, seconds, function in _checks:
        if words and not any(word in says or word in lines.split(",") for word in words):
            continue
        signal.alarm(int(seconds))
        try:
            function()
            outcome, why = "ok", ""
        except Skip as skip:
            outcome, why = "skip", f": {skip}"
        except BaseException as error:  # a client may raise anything
            if isinstance(error, KeyboardInterrupt):
                raise
            failed, outcome = True, "FAIL"
            why = f": {type(error).__name__}: {error}"[:2000]
            if os.environ.get("OPREL_TRACE"):
                traceback.print_exc()
            elif isinstance(error, AssertionError):
                frame = traceback.extract_tb(error.__traceback__)[-1]
                why += f" [{Path(frame.filename).name}:{frame.lineno} {frame.line}]"
        finally:
            signal.alarm(0)
        print(f"{outcome:4} {lines:8} {says}{why}".replace("\n", " "), flush=True)
    sys.exit(failed)


class Reply:
    """A whole response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def type(self):
        return self.headers.get("content-type", "")

    def json(self):
        return json.loads(self.body)

    def lines(self):
        """The objects of an NDJSON stream."""
        return [json.loads(line) for line in self.body.splitlines()]

    def last(self):
        """The last object of a stream, or the only one; the text of a body without."""
        text = self.body.decode(errors="replace").strip()
        try:
            return json.loads(text.splitlines()[-1]) if text else None
        except ValueError:
            return text

    def events(self):
        """The events of an SSE stream, as pairs of name and data."""
        found = []
        for block in self.body.decode().split("\n\n"):
            pairs = [line.partition(": ") for line in block.splitlines()]
            fields = {name: value for name, _, value in pairs}
            if "data" in fields:
                found.append((fields.get("event"), fields["data"]))
        return found


def request(method, path, body=None, headers=None, timeout=None, host=HOST, port=PORT):
    """One request on a connection of its own; a check's own servers are elsewhere."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout or LIMIT)
    try:
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        connection.request(method, path, body=body, headers=headers or {})
        return Reply(connection.getresponse())
    finally:
        connection.close()


def get(path, **more):
    return request("GET", path, **more)


def post(path, body=None, **more):
    return request("POST", path, body=body, **more)


def asked(path, body, status=200, **more):
    """The JSON answer to a body, whose status must be this."""
    reply = post(path, body, **more)
    assert reply.status == status, f"{reply.status} {reply.body[:500]!r}"
    return reply.json()


def error(path, body, status, says=None, **more):
    """The text of the error that a body must be answered with."""
    text = asked(path, body, status, **more)["error"]
    if isinstance(text, dict):
        text = text["message"]
    assert says is None or text == says, f"{text!r} is not {says!r}"
    return text


def soon(seconds, true):
    """Waits until something is true; how long it took."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, f"not so after {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - start


def gauge(name, model=None):
    """The sum of a gauge or counter over its labels, those of one model if one is named."""
    total = 0.0
    for line in get("/metrics").body.decode().splitlines():
        named = line.startswith(name) and line[len(name)] in "{ "
        if named and (model is None or f'model="{model}"' in line):
            total += float(line.rsplit(" ", 1)[1])
    return total


def loaded():
    return [model["name"] for model in get("/api/ps").json()["models"]]


def chat(text, **more):
    return {"model": DEMO, "messages": [{"role": "user", "content": text}], **more}


def generate(prompt, **more):
    return {"model": DEMO, "prompt": prompt, "stream": False, **more}


def said(body, path="/api/chat"):
    """The text of a stream, and its objects."""
    reply = post(path, body)
    assert reply.status == 200, reply.body[:500]
    objects = reply.lines()
    assert [o["done"] for o in objects] == [False] * (len(objects) - 1) + [True]
    of_generate = path == "/api/generate"
    texts = [o["response"] if of_generate else o["message"]["content"] for o in objects]
    return "".join(texts), objects


def memory():
    """Bytes that the server and its workers hold; the server is the process $OPREL_PID."""
    if "OPREL_PID" not in os.environ:
        raise Skip("$OPREL_PID does not say which process the server is")
    server, total = int(os.environ["OPREL_PID"]), 0
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(entry.name) == server or int(fields[1]) == server:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            continue
    return total
