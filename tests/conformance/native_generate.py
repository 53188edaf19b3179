"""`/api/generate` and `/api/chat`, over plain HTTP: bodies, models, limits (lines 7-17, 25-27)."""

import concurrent.futures
import json
import socket
import time

from check import (
    DEMO,
    GREEDY,
    HOST,
    PORT,
    QUESTION,
    asked,
    chat,
    check,
    error,
    gauge,
    generate,
    loaded,
    main,
    post,
    said,
    soon,
    stories,
)


@check("7", "without `stream` NDJSON comes, of that content type")
def streams():
    for path, body in [
        ("/api/chat", chat("Hello")),
        ("/api/generate", {"model": DEMO, "prompt": "Hello"}),
    ]:
        reply = post(path, body)
        assert reply.type == "application/x-ndjson"
        assert reply.headers.get("transfer-encoding") == "chunked"
        assert reply.body.endswith(b"}\n") and len(reply.lines()) > 1
        for line in reply.lines():
            assert line["model"] == "demo:latest" and line["created_at"].endswith("Z")


@check("8", "`stream: false` gives one object, with counts and times")
def whole():
    for path, body in [
        ("/api/chat", chat("Hello", stream=False)),
        ("/api/generate", generate("Hello")),
    ]:
        reply = post(path, body)
        assert reply.type == "application/json; charset=utf-8"
        answer = reply.json()
        assert answer["done"] is True and answer["done_reason"] == "stop"
        for count in [
            "prompt_eval_count",
            "eval_count",
            "total_duration",
            "load_duration",
            "prompt_eval_duration",
            "eval_duration",
        ]:
            assert answer[count] > 0, count
    assert isinstance(asked("/api/generate", generate("Hello"))["context"][0], int)


@check("9", "a body is JSON whatever its type is said to be")
def types():
    body = json.dumps(generate("Hi", options={"num_predict": 1})).encode()
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/xml", "", "x"]:
        reply = post("/api/generate", body, headers={"Content-Type": kind})
        assert reply.status == 200, (kind, reply.body)


@check("10", "an empty body is missing, a broken one is told apart")
def empty():
    for path in ["/api/chat", "/api/generate", "/api/show", "/api/embed", "/api/embeddings"]:
        error(path, b"", 400, "missing request body")
        error(path, b'{"model": "demo", ', 400)
        error(path, b"[]", 400)
    error("/v1/chat/completions", b"", 400)
    error("/v1/messages", b"", 400)


@check("11", "a model that is not there is 404, in the words clients match")
def absent():
    missing = "model 'no-such-model' not found"
    error("/api/chat", {**chat("Hi"), "model": "no-such-model"}, 404, missing)
    error("/api/generate", {"model": "no-such-model", "prompt": "Hi"}, 404, missing)
    error("/api/show", {"model": "no-such-model"}, 404, missing)
    error("/api/embed", {"model": "no-such-model", "input": "Hi"}, 404)
    error("/api/generate", {"prompt": "Hi"}, 404, "model '' not found")
    error("/api/chat", {"messages": []}, 400, "model is required")
    error("/api/show", {}, 400, "model is required")
    error("/api/generate", {"model": "a b", "prompt": "Hi"}, 400, "invalid model name")


@check("12", "an empty prompt loads, keep_alive 0 unloads, ps tells")
def loads():
    for path, empty in [("/api/generate", {"prompt": ""}), ("/api/chat", {"messages": []})]:
        answer = asked(path, {"model": DEMO, **empty})
        assert (answer["done"], answer["done_reason"]) == (True, "load")
        assert "demo:latest" in loaded()
        answer = asked(path, {"model": DEMO, "keep_alive": 0, **empty})
        assert (answer["done"], answer["done_reason"]) == (True, "unload")
        assert "demo:latest" not in loaded()


@check("12", "a request with keep_alive 0 is answered, and then the model goes")
def goes_after():
    asked("/api/generate", generate("Hi", keep_alive=0))
    soon(5, lambda: "demo:latest" not in loaded())


@check("13", "keep_alive is read as Ollama reads it")
def keep_alive():
    error("/api/generate", generate("", keep_alive="30"), 400)
    error("/api/generate", generate("", keep_alive="soon"), 400)
    for good in [30, "30s", -1, "-1m", 0, "0", 0.5, "1h30m"]:
        asked("/api/generate", generate("Hi", keep_alive=good, options={"num_predict": 1}))
    asked("/api/generate", generate("", keep_alive=-1))
    asked("/api/generate", generate("", keep_alive="5m"))


@check("14", "num_predict bounds an answer, which then ends by its length")
def length():
    answer = asked("/api/generate", generate("Tell me a story.", options={"num_predict": 5}))
    assert answer["eval_count"] <= 5 and answer["done_reason"] == "length"


@check("15", "a stop text never shows, also when it is split over tokens")
def stops():
    plain = asked(
        "/api/chat", chat("Tell me a story.", stream=False, options={**GREEDY, "num_predict": 60})
    )
    text = plain["message"]["content"]
    for start, end in [(8, 11), (13, 24), (20, 40), (5, 6)]:
        stop = text[start:end]
        options = {**GREEDY, "num_predict": 60, "stop": [stop]}
        stopped, objects = said(chat("Tell me a story.", options=options))
        assert stopped == text[: text.index(stop)], (stop, stopped)
        assert objects[-1]["done_reason"] == "stop"


def one(seed):
    body = chat(
        "Tell me a story.",
        stream=False,
        options={"seed": seed, "temperature": 1.0, "num_predict": 40},
    )
    return asked("/api/chat", body)["message"]["content"]


@check("16", "the same seed says the same, alone and in company")
def seeds():
    alone = {seed: one(seed) for seed in range(6)}
    assert len(set(alone.values())) > 1
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(one, list(range(6)) * 2))
    assert together == list(alone.values()) * 2
    greedy = [
        asked("/api/generate", generate(QUESTION, options=GREEDY))["response"] for _ in range(2)
    ]
    assert greedy[0] == greedy[1]


@check("17", "raw and system exclude each other")
def raw():
    says = "raw mode does not support template, system, or context"
    error("/api/generate", generate("Hi", raw=True, system="Be kind."), 400, says)
    error("/api/generate", generate("Hi", raw=True, template="x"), 400, says)
    error("/api/generate", generate("Hi", raw=True, context=[1]), 400, says)
    answer = asked("/api/generate", generate("Once upon", raw=True, options={"num_predict": 4}))
    assert "context" not in answer


@check("25", "a history that is too long is cut, which is told, or refused if that is wished")
def history():
    turns = []
    for n in range(40):
        turns += [
            {"role": "user", "content": f"Question {n}: " + "how do I start the server? " * 8},
            {"role": "assistant", "content": "Run `oprel serve`. " * 4},
        ]
    body = {
        "model": DEMO,
        "messages": [*turns, {"role": "user", "content": QUESTION}],
        "stream": False,
        "options": {**GREEDY, "num_predict": 20},
    }
    answer = asked("/api/chat", body)
    assert answer["message"]["content"] and answer["prompt_eval_count"] <= 1024
    # What was left out is told, streamed and whole.
    cut = answer["oprel"]["truncated"]
    assert cut["dropped_messages"] > 0 and cut["dropped_tokens"] > 0, cut
    assert cut["kept_tokens"] == answer["prompt_eval_count"], (cut, answer)
    assert said({**body, "stream": True})[1][-1]["oprel"]["truncated"] == cut
    text = error("/api/chat", {**body, "truncate": False}, 400)
    assert "context" in text, text
    # Dialects that have a word for it cut only where that is asked for.
    other = {"model": DEMO, "max_tokens": 8}
    for path in ["/v1/chat/completions", "/v1/messages"]:
        error(path, {**other, "messages": body["messages"]}, 400)
    responses = {"model": DEMO, "max_output_tokens": 8, "input": body["messages"]}
    error("/v1/responses", responses, 400)
    answer = asked("/v1/responses", {**responses, "truncation": "auto"})
    assert answer["oprel"]["truncated"][0]["dropped_messages"] > 0, answer


@check("25", "num_ctx makes the context smaller")
def smaller():
    text = "how do I start the server? " * 40
    body = chat(text, stream=False, truncate=False, options={"num_ctx": 64, "num_predict": 4})
    assert "context" in error("/api/chat", body, 400)
    body["options"]["num_ctx"] = 1024
    asked("/api/chat", body)


@check("26", "without shift a full context ends the answer by its length")
def full():
    body = {
        "model": stories(),
        "prompt": "Once upon a time",
        "stream": False,
        "shift": False,
        "raw": True,
        "options": {"num_ctx": 32, "num_predict": 400, "temperature": 0},
    }
    answer = asked("/api/generate", body)
    assert answer["done_reason"] == "length"
    assert answer["prompt_eval_count"] + answer["eval_count"] <= 33


@check("27", "a client that goes away frees its sequence in less than a second")
def goes_away():
    asked("/load", {"model": DEMO})
    body = json.dumps(
        {
            "model": DEMO,
            "prompt": "Once upon a time",
            "raw": True,
            "options": {"num_predict": 100000, "seed": 1, "temperature": 3},
        }
    ).encode()
    running = lambda: gauge("oprel_sequences_running", "demo")  # noqa: E731
    for whole in [False, True]:
        if whole:
            body = body[:-1] + b', "stream": false}'
        head = f"POST /api/generate HTTP/1.1\r\nHost: {HOST}:{PORT}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((HOST, PORT), 10) as client:
            client.sendall(head.encode() + body)
            soon(5, lambda: running() == 1)
            if not whole:
                client.recv(200)
        took = soon(1, lambda: running() == 0)
        assert took < 1, took
    time.sleep(0.05)
    assert gauge("oprel_sequences_running", "demo") == 0


main()
