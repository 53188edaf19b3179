"""What only bare sockets show: pieces of requests, odd heads, packed bodies (lines 28, 54)."""

import concurrent.futures
import json
import socket
import time
import zlib

from check import DEMO, HOST, PORT, Skip, asked, chat, check, error, get, main, post, request

SMALL = json.dumps(
    {"model": DEMO, "prompt": "Hi", "stream": False, "options": {"num_predict": 2}}
).encode()


def exchange(*pieces, pause=0.0):
    """Sends bytes, piece by piece; the status and all that comes until the end."""
    with socket.create_connection((HOST, PORT), 30) as plain:
        for piece in pieces:
            plain.sendall(piece)
            time.sleep(pause)
        answer = b""
        while piece := plain.recv(1 << 16):
            answer += piece
    return (int(answer.split(b" ", 2)[1]) if answer else None), answer


def head(line, **fields):
    all_fields = {"Host": f"{HOST}:{PORT}", "Connection": "close", **fields}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in all_fields.items()]
    return "\r\n".join([line, *lines, "", ""]).encode()


@check("-", "a body may come byte by byte and in chunks")
def pieces():
    start = head("POST /api/generate HTTP/1.1", Content_Length=len(SMALL))
    status, answer = exchange(start[:30], start[30:], *[bytes([b]) for b in SMALL], pause=0.001)
    assert status == 200 and b'"done":true' in answer
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in [SMALL[:7], SMALL[7:40], SMALL[40:]])
    status, answer = exchange(
        head("POST /api/generate HTTP/1.1", Transfer_Encoding="chunked"), chunks + b"0\r\n\r\n"
    )
    assert status == 200 and b'"done":true' in answer


@check("-", "HTTP/1.0 and Expect: 100-continue are understood")
def old():
    status, answer = exchange(
        head("POST /api/generate HTTP/1.0", Content_Length=len(SMALL)) + SMALL
    )
    assert status == 200 and b'"done":true' in answer
    start = head("POST /api/generate HTTP/1.1", Content_Length=len(SMALL), Expect="100-continue")
    status, answer = exchange(start, SMALL, pause=0.05)
    assert status in (100, 200) and b'"done":true' in answer


@check("-", "a request that is no HTTP, or smuggles another, is refused")
def broken():
    good = f"Host: {HOST}:{PORT}\r\n".encode()
    for raw in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n" + good + b"\r\n",
        b"POST /api/chat HTTP/1.1\r\n" + good + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /api/chat HTTP/1.1\r\n" + good + b"Content-Length: -1\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\n" + good + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n" + good + b"Host: evil.example\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + good + b"\r\n",
        b"GET / HTTP/1.1\r\n" + good + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + good + b"".join(b"X%d: y\r\n" % n for n in range(5000)) + b"\r\n",
    ]:
        try:
            status, _ = exchange(raw)
        except ConnectionError:
            status = None
        assert status is None or 400 <= status < 500, (status, raw[:60])
    assert get("/").status == 200


@check("-", "connections are used again, and requests may be sent before answers came")
def pipelined():
    ask = f"GET /api/version HTTP/1.1\r\nHost: {HOST}:{PORT}\r\n\r\n".encode()
    status, answer = exchange(ask * 20 + head("GET /api/version HTTP/1.1"))
    assert status == 200 and answer.count(b'{"version"') == 21


@check("-", "an answer that was begun ends, whatever the other end does with its half")
def half_closed():
    with socket.create_connection((HOST, PORT), 30) as plain:
        plain.sendall(head("GET /api/version HTTP/1.1"))
        plain.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := plain.recv(1 << 16):
            answer += piece
    assert b'{"version"' in answer


@check("-", "a body that is no UTF-8, or has half a surrogate, is 400 or a text, never a crash")
def encodings():
    for body in [
        b'{"model":"demo","prompt":"\xff\xfe","stream":false}',
        b"\xff\xfe{\x00}\x00",
        b"\x00",
        b'"x"',
    ]:
        error("/api/generate", body, 400)
    lone = b'{"model":"demo","prompt":"\\ud800","stream":false,"options":{"num_predict":1}}'
    assert post("/api/generate", lone).status in (200, 400)
    mark = "\ufeff".encode() + SMALL
    assert post("/api/generate", mark).status in (200, 400)


@check("-", "keys are known in any case, and unknown ones are told")
def keys():
    body = {
        "MODEL": DEMO,
        "Prompt": "Hi",
        "STREAM": False,
        "Options": {"num_predict": 1},
        "no_such_field": 1,
    }
    reply = post("/api/generate", body)
    assert reply.status == 200 and reply.json()["eval_count"] == 1
    assert "no_such_field" in reply.headers["x-oprel-ignored"]


@check("54", "bodies may be packed with zstd")
def packed():
    try:
        import zstandard
    except ImportError:
        raise Skip("no zstandard package") from None
    body = zstandard.compress(json.dumps(chat("Hi", max_tokens=2)).encode())
    reply = post("/v1/chat/completions", body, headers={"Content-Encoding": "zstd"})
    assert reply.status == 200, reply.body
    reply = post(
        "/v1/responses",
        zstandard.compress(json.dumps({"model": DEMO, "input": "Hi"}).encode()),
        headers={"Content-Encoding": "zstd"},
    )
    assert reply.status == 200, reply.body
    for wrong in [b"no zstd", body[:-3], body[:9] + b"\xff" * 40]:
        reply = post("/v1/chat/completions", wrong, headers={"Content-Encoding": "zstd"})
        assert reply.status == 400, reply.body
    bomb = zstandard.compress(b" " * (1 << 30))
    reply = post("/v1/chat/completions", bomb, headers={"Content-Encoding": "zstd"})
    assert 400 <= reply.status < 500, reply.status


@check("-", "other encodings are refused by name")
def other_packings():
    reply = post("/api/generate", zlib.compress(SMALL), headers={"Content-Encoding": "deflate"})
    assert 400 <= reply.status < 500


@check("-", "a large body is taken, one beyond all measure is refused")
def large():
    padding = "x" * (20 << 20)
    answer = asked("/api/generate", {**json.loads(SMALL), "ignored": padding})
    assert answer["done"]
    status, _ = exchange(head("POST /api/generate HTTP/1.1", Content_Length=1 << 40))
    assert status in (400, 413), status


@check("-", "answers have ids, of the client's choice if they are harmless")
def ids():
    reply = get("/", headers={"X-Request-Id": "abc-1.2"})
    assert reply.headers["x-request-id"] == "abc-1.2"
    assert get("/", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"
    assert (
        request("GET", "/").headers["x-request-id"] != request("GET", "/").headers["x-request-id"]
    )


@check("-", "errors have the shape of the dialect in which they were made")
def shapes():
    openai = asked("/v1/chat/completions", {**chat("Hi"), "model": "none"}, 404)["error"]
    assert (
        openai
        == {
            "message": "model 'none' not found",
            "type": "not_found_error",
            "param": None,
            "code": None,
        }
        or openai["type"] == "not_found_error"
    ), openai
    assert (
        asked("/v1/chat/completions", {"model": DEMO}, 400)["error"]["type"]
        == "invalid_request_error"
    )
    claude = asked("/v1/messages", {**chat("Hi"), "model": "none", "max_tokens": 1}, 404)
    assert claude["type"] == "error" and claude["error"]["type"] == "not_found_error"
    assert claude["request_id"].startswith("req_")
    claude = asked("/v1/messages", chat("Hi"), 400)
    assert claude["error"]["message"] == "max_tokens is required and must be positive", claude


@check("28", "every stream ends by exactly one last event")
def ends():
    def last(path, body):
        reply = post(path, {**body, "stream": True})
        assert reply.status == 200, reply.body[:300]
        return reply

    for seed in range(3):
        options = {"seed": seed, "temperature": 1}
        for path in ["/api/chat", "/api/generate"]:
            lines = last(path, {**chat("Hi"), "prompt": "Hi", "options": options}).lines()
            assert [line["done"] for line in lines].count(True) == 1 and lines[-1]["done"]
        data = [d for _, d in last("/v1/chat/completions", {**chat("Hi"), "seed": seed}).events()]
        assert data.count("[DONE]") == 1 and data[-1] == "[DONE]"
        finished = [json.loads(d)["choices"][0]["finish_reason"] for d in data[:-1]]
        assert finished[-1] and not any(finished[:-1])
        names = [n for n, _ in last("/v1/responses", {"model": DEMO, "input": "Hi"}).events()]
        assert names[0] == "response.created" and names.count("response.completed") == 1
        assert names[-1] == "response.completed"
        names = [n for n, _ in last("/v1/messages", {**chat("Hi"), "max_tokens": 50}).events()]
        assert names[0] == "message_start" and names[-1] == "message_stop"
        assert names.count("message_stop") == names.count("message_delta") == 1


@check("-", "many connections at once are all answered")
def many():
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        replies = list(pool.map(lambda _: get("/api/version").status, range(500)))
    assert replies == [200] * 500


main()
