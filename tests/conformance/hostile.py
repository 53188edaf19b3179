"""Connections that do not behave: half open, slow to read, slow to write, gone."""

import json
import socket
import time

from check import DEMO, HOST, PORT, asked, chat, check, gauge, get, main, memory, soon

ENDLESS = {
    "model": DEMO,
    "prompt": "Once upon a time",
    "raw": True,
    "options": {"num_predict": 100000, "temperature": 3},
}


def connected():
    plain = socket.create_connection((HOST, PORT), 30)
    plain.settimeout(30)
    return plain


def head(path, length):
    fields = f"Host: {HOST}:{PORT}\r\nContent-Length: {length}\r\n\r\n"
    return f"POST {path} HTTP/1.1\r\n{fields}".encode()


def posted(path, body):
    """A connection on which a request was sent and nothing was read."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    plain = connected()
    plain.sendall(head(path, len(raw)) + raw)
    return plain


def running():
    return gauge("oprel_sequences_running", "demo") + gauge("oprel_sequences_waiting", "demo")


@check(
    "-",
    "2,000 connections that send nothing, or half a head, hold up nobody and are cut",
    seconds=120,
)
def half_open():
    before = memory()
    open_ones = [connected() for _ in range(1000)]
    for plain in open_ones[:500]:
        plain.sendall(b"POST /api/chat HTTP/1.1\r\nHost: x\r\nX-A: ")
    open_ones += [connected() for _ in range(1000)]
    start = time.monotonic()
    assert get("/api/version").status == 200
    assert asked("/api/chat", chat("Hi", stream=False))["done"]
    assert time.monotonic() - start < 10
    grown = memory() - before
    assert grown < 128 << 20, f"{grown >> 20} MB more"
    # A head must come soon.
    cut = time.monotonic() + 60
    for plain in open_ones:
        plain.settimeout(max(cut - time.monotonic(), 0.01))
        try:
            while plain.recv(4096):
                pass
        except ConnectionError:
            pass
        plain.close()
    assert get("/api/version").status == 200


@check("-", "200 bodies that do not come hold up nobody")
def half_sent():
    open_ones = []
    for _ in range(200):
        plain = connected()
        plain.sendall(head("/api/chat", 5000) + b"{")
        open_ones.append(plain)
    assert asked("/api/chat", chat("Hi", stream=False))["done"]
    for plain in open_ones:
        plain.close()


@check(
    "-", "clients that do not read hold up nobody, and their answers end when they go", seconds=120
)
def slow_readers():
    asked("/load", {"model": DEMO})
    before = memory()
    slow = [
        posted("/api/generate", {**ENDLESS, "options": {**ENDLESS["options"], "seed": n}})
        for n in range(16)
    ]
    soon(20, lambda: running() >= 1)
    time.sleep(1)
    start = time.monotonic()
    assert asked("/api/chat", chat("Hi", stream=False, options={"num_predict": 5}))["done"]
    assert time.monotonic() - start < 30
    grown = memory() - before
    assert grown < 256 << 20, f"{grown >> 20} MB more"
    for plain in slow:
        plain.close()
    soon(5, lambda: running() == 0)


@check("-", "a client that reads byte by byte gets all of it")
def drips():
    body = {"model": DEMO, "prompt": "Hi", "raw": True, "options": {"num_predict": 60, "seed": 1}}
    plain = posted("/api/generate", body)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    said = b""
    while b'"done":true' not in said:
        said += plain.recv(7) or b'"done":true'
    assert said.count(b'"done":false') > 10
    plain.close()


@check(
    "27", "300 clients that go away at once, in every dialect, leave nothing behind", seconds=120
)
def leavers():
    before = memory()
    bodies = [
        ("/api/generate", ENDLESS),
        ("/api/chat", chat("Tell me a story.", options={"temperature": 3, "num_predict": 5000})),
        ("/v1/chat/completions", {**chat("Tell me a story."), "stream": True, "temperature": 2}),
        ("/v1/responses", {"model": DEMO, "input": "Tell me a story.", "stream": True}),
        ("/v1/messages", {**chat("Tell me a story."), "max_tokens": 900, "stream": True}),
        ("/v1/messages", {**chat("Tell me a story."), "max_tokens": 900}),
    ]
    for n in range(300):
        plain = posted(*bodies[n % len(bodies)])
        if n % 3:
            plain.recv(100)
        if n % 2:
            # Closed by a reset.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        plain.close()
    soon(10, lambda: running() == 0)
    assert gauge("oprel_requests_running", "demo") == 0
    grown = memory() - before
    assert grown < 128 << 20, f"{grown >> 20} MB more"
    assert asked("/api/chat", chat("Hi", stream=False))["done"]


main()
