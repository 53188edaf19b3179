"""`/api/generate` and `/api/chat`, over plain HTTP (lines 7-28)."""

import base64
import concurrent.futures
import json
import socket
import struct
import time
import zlib

from check import (DEMO, HOST, PORT, Skip, asked, chat, check, error, gauge, loaded, main, post,
                   soon, stories)

GREEDY = {"temperature": 0}
QUESTION = "How do I start the server?"


def generate(prompt, **more):
    return {"model": DEMO, "prompt": prompt, "stream": False, **more}


def said(body, path="/api/chat"):
    """The text of a stream, and its objects."""
    reply = post(path, body)
    assert reply.status == 200, reply.body[:500]
    objects = reply.lines()
    assert [o["done"] for o in objects] == [False] * (len(objects) - 1) + [True]
    part = (lambda o: o["response"]) if path == "/api/generate" else (lambda o: o["message"]["content"])
    return "".join(part(o) for o in objects), objects


@check("7", "without `stream` NDJSON comes, of that content type")
def streams():
    for path, body in [("/api/chat", chat("Hello")), ("/api/generate", {"model": DEMO, "prompt": "Hello"})]:
        reply = post(path, body)
        assert reply.type == "application/x-ndjson"
        assert reply.headers.get("transfer-encoding") == "chunked"
        assert reply.body.endswith(b"}\n") and len(reply.lines()) > 1
        for line in reply.lines():
            assert line["model"] == "demo:latest" and line["created_at"].endswith("Z")


@check("8", "`stream: false` gives one object, with counts and times")
def whole():
    for path, body in [("/api/chat", chat("Hello", stream=False)), ("/api/generate", generate("Hello"))]:
        reply = post(path, body)
        assert reply.type == "application/json; charset=utf-8"
        answer = reply.json()
        assert answer["done"] is True and answer["done_reason"] == "stop"
        for count in ["prompt_eval_count", "eval_count", "total_duration", "load_duration",
                      "prompt_eval_duration", "eval_duration"]:
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
    plain = asked("/api/chat", chat("Tell me a story.", stream=False, options={**GREEDY, "num_predict": 60}))
    text = plain["message"]["content"]
    for start, end in [(8, 11), (13, 24), (20, 40), (5, 6)]:
        stop = text[start:end]
        options = {**GREEDY, "num_predict": 60, "stop": [stop]}
        stopped, objects = said(chat("Tell me a story.", options=options))
        assert stopped == text[: text.index(stop)], (stop, stopped)
        assert objects[-1]["done_reason"] == "stop"


def one(seed):
    body = chat("Tell me a story.", stream=False, options={"seed": seed, "temperature": 1.0, "num_predict": 40})
    return asked("/api/chat", body)["message"]["content"]


@check("16", "the same seed says the same, alone and in company")
def seeds():
    alone = {seed: one(seed) for seed in range(6)}
    assert len(set(alone.values())) > 1
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(one, list(range(6)) * 2))
    assert together == list(alone.values()) * 2
    greedy = [asked("/api/generate", generate(QUESTION, options=GREEDY))["response"] for _ in range(2)]
    assert greedy[0] == greedy[1]


@check("17", "raw and system exclude each other")
def raw():
    says = "raw mode does not support template, system, or context"
    error("/api/generate", generate("Hi", raw=True, system="Be kind."), 400, says)
    error("/api/generate", generate("Hi", raw=True, template="x"), 400, says)
    error("/api/generate", generate("Hi", raw=True, context=[1]), 400, says)
    answer = asked("/api/generate", generate("Once upon", raw=True, options={"num_predict": 4}))
    assert "context" not in answer


SCHEMA = {
    "type": "object",
    "required": ["name", "kind", "tags", "place"],
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["cat", "dog"]},
        "tags": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        "place": {"type": "object", "required": ["x"], "properties": {"x": {"type": "boolean"}},
                  "additionalProperties": False},
    },
    "additionalProperties": False,
}


def fits(text):
    value = json.loads(text)
    assert set(value) == set(SCHEMA["required"]), value
    assert isinstance(value["name"], str) and value["kind"] in ("cat", "dog")
    assert all(isinstance(tag, int) for tag in value["tags"]) and 1 <= len(value["tags"]) <= 3
    assert isinstance(value["place"]["x"], bool)


@check("18", "format json and a schema are kept to")
def formats():
    answer = asked("/api/chat", chat("Tell me about cats as JSON.", stream=False, format="json",
                                     options={"num_predict": 200, "seed": 1}))
    if answer["done_reason"] == "stop":
        assert isinstance(json.loads(answer["message"]["content"]), dict)
    for seed in range(3):
        options = {"seed": seed, "temperature": 1}
        fits(asked("/api/chat", chat("A pet?", stream=False, format=SCHEMA, options=options))["message"]["content"])
    fits(asked("/api/generate", generate("A pet?", format=SCHEMA))["response"])
    fits(said(chat("A pet?", format=SCHEMA))[0])
    for nothing in [None, ""]:
        asked("/api/chat", chat("Hi", stream=False, format=nothing))
    assert "invalid format" in asked("/api/chat", chat("Hi", stream=False, format="yaml"), 400)["error"]


@check("18", "a schema is kept to behind a thought, in one request")
def formats_and_thoughts():
    for path, body, part in [
        ("/api/chat", chat(QUESTION, stream=False), "message"),
        ("/api/generate", generate(QUESTION), None),
    ]:
        answer = asked(path, {**body, "think": True, "format": SCHEMA, "options": GREEDY})
        told = answer[part] if part else answer
        assert told["thinking"] and "<think>" not in told["thinking"]
        fits(told["content"] if part else told["response"])


@check("19", "thoughts come before content, without their tags, and not when they are not wanted")
def thinks():
    name = stories()
    error("/api/chat", {**chat("Hi"), "model": name, "think": True}, 400)
    text, objects = said(chat(QUESTION, think=True, options=GREEDY))
    thoughts = [bool(o["message"].get("thinking")) for o in objects]
    assert thoughts[0] and thoughts == sorted(thoughts, reverse=True)
    thought = "".join(o["message"].get("thinking", "") for o in objects)
    for tag in ["<think>", "</think>"]:
        assert tag not in text and tag not in thought
    assert text.strip()
    text, objects = said(chat(QUESTION, think=False, options=GREEDY))
    assert text and not any("thinking" in o["message"] for o in objects)
    for level in ["low", "medium", "high", "max"]:
        asked("/api/chat", chat("Hi", stream=False, think=level, options={"num_predict": 2}))
    says = 'invalid think value: "much" (must be "high", "medium", "low", "max", true, or false)'
    error("/api/chat", chat("Hi", think="much"), 400, says)


@check("19", "no more is thought than max_thinking_tokens, and then comes the answer")
def thinks_little():
    body = {**chat(QUESTION, think=True, stream=False, options=GREEDY), "max_thinking_tokens": 4}
    message = asked("/api/chat", body)["message"]
    whole = asked("/api/chat", chat(QUESTION, think=True, stream=False, options=GREEDY))["message"]
    assert 0 < len(message["thinking"]) < len(whole["thinking"]), message
    assert message["content"].strip() and "think>" not in message["content"], message


CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Get the time in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
        },
    },
}


def called(**more):
    body = chat("What time is it in Berlin?", tools=[CLOCK], options=GREEDY, **more)
    _, objects = said(body)
    calls = [call for o in objects for call in o["message"].get("tool_calls", [])]
    return calls, objects


@check("20", "a tool is called with an id and an object of arguments")
def tools():
    calls, objects = called(tool_choice="required")
    assert len(calls) == 1 and objects[-1]["done_reason"] == "stop"
    assert calls[0]["id"].startswith("call_")
    assert calls[0]["function"]["name"] == "get_time"
    assert set(calls[0]["function"]["arguments"]) == {"city"}
    ids = {called(tool_choice="required")[0][0]["id"] for _ in range(3)}
    assert len(ids) == 3
    assert called(tool_choice="none")[0] == []


@check("20", "the model calls a tool by its own choice")
def tools_auto():
    ask = "What time is it in Berlin?"
    answers = [
        asked("/api/chat", chat(ask, tools=[CLOCK], stream=False, options={"seed": seed}))
        for seed in range(8)
    ]
    calls = [call for a in answers for call in a["message"].get("tool_calls", [])]
    assert calls, [a["message"] for a in answers]
    assert all(call["function"]["name"] == "get_time" for call in calls)


@check("20", "a model without a template for tools refuses them")
def tools_refused():
    text = error("/api/chat", {**chat("Hi", tools=[CLOCK]), "model": stories()}, 400)
    assert text.endswith("does not support tools"), text


@check("21", "a tool's result goes back by its name and by the call's id")
def results():
    call = {"id": "call_abc12345", "function": {"name": "get_time", "arguments": {"city": "Berlin"}}}

    def answer(result, **named):
        body = chat("What time is it in Berlin?", tools=[CLOCK], options=GREEDY, stream=False)
        body["messages"] += [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": result, **named},
        ]
        return asked("/api/chat", body)

    by_name = answer('{"hour": 17}', tool_name="get_time")
    by_id = answer('{"hour": 17}', tool_call_id="call_abc12345")
    longer = answer('{"hour": 17, "minute": 4}', tool_name="get_time")
    assert by_name["message"]["content"] == by_id["message"]["content"] != ""
    assert by_name["prompt_eval_count"] == by_id["prompt_eval_count"] < longer["prompt_eval_count"]


def png():
    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


@check("22", "a broken image is 400, and an image for a model without eyes as well")
def images():
    body = chat("What is this?", stream=False)
    body["messages"][0]["images"] = ["!!!"]
    error("/api/chat", body, 400)
    body["messages"][0]["images"] = [png()]
    text = error("/api/chat", body, 400)
    assert "vision" in text, text
    error("/api/generate", generate("Hi", images=["%%%"]), 400)


@check("22", "PNG, JPEG and WebP are seen")
def vision():
    raise Skip("no model of the suite sees")


def bytes_of(logprobs):
    return b"".join(bytes(token["bytes"]) for token in logprobs)


@check("23", "log probabilities re-assemble to the text, with alternatives if they are asked for")
def logprobs():
    options = {**GREEDY, "num_predict": 12}
    plain = asked("/api/chat", chat(QUESTION, stream=False, options=options))
    assert "logprobs" not in plain
    for top in [0, 5]:
        body = chat(QUESTION, stream=False, logprobs=True, top_logprobs=top, options=options)
        answer = asked("/api/chat", body)
        tokens = answer["logprobs"]
        assert bytes_of(tokens).decode() == answer["message"]["content"]
        for token in tokens:
            assert token["logprob"] <= 0 and len(token.get("top_logprobs", [])) == top
    _, objects = said(chat(QUESTION, logprobs=True, top_logprobs=1, options=options))
    streamed = [token for o in objects for token in o.get("logprobs", [])]
    assert bytes_of(streamed).decode() == "".join(o["message"]["content"] for o in objects)
    error("/api/chat", chat("Hi", logprobs=True, top_logprobs=21), 400, "top_logprobs must be between 0 and 20")


SIGNS = ["👋🏽", "世界", "é", "👩‍👩‍👧"]


def of_signs():
    """A format whose only answers are these, so that a model that knows none of them says them."""
    return {"type": "array", "items": {"enum": SIGNS}, "minItems": 6, "maxItems": 6}


@check("23,24", "no character is split over chunks, and the bytes of many-byte ones re-assemble")
def characters():
    for seed in range(3):
        body = chat("Signs!", format=of_signs(), think=False, logprobs=True,
                    options={"seed": seed, "temperature": 1.5})
        text, objects = said(body)
        assert all(sign in SIGNS for sign in json.loads(text))
        assert "\ufffd" not in text
        tokens = [token for o in objects for token in o.get("logprobs", [])]
        assert bytes_of(tokens).decode() == text
    # Without a constraint, at a temperature at which bytes are drawn at random.
    for seed in range(6):
        reply = post("/api/generate", {"model": DEMO, "prompt": "世界 👋 é", "raw": True,
                                       "options": {"seed": seed, "temperature": 5, "num_predict": 60}})
        for line in reply.body.splitlines():
            json.loads(line.decode("utf-8", "strict"))


@check("25", "a history that is too long is cut, or refused if that is wished")
def history():
    turns = []
    for n in range(40):
        turns += [{"role": "user", "content": f"Question {n}: " + "how do I start the server? " * 8},
                  {"role": "assistant", "content": "Run `oprel serve`. " * 4}]
    body = {"model": DEMO, "messages": [*turns, {"role": "user", "content": QUESTION}], "stream": False,
            "options": {**GREEDY, "num_predict": 20}}
    answer = asked("/api/chat", body)
    assert answer["message"]["content"] and answer["prompt_eval_count"] <= 1024
    text = error("/api/chat", {**body, "truncate": False}, 400)
    assert "context" in text, text


@check("25", "num_ctx makes the context smaller")
def smaller():
    text = "how do I start the server? " * 40
    body = chat(text, stream=False, truncate=False, options={"num_ctx": 64, "num_predict": 4})
    assert "context" in error("/api/chat", body, 400)
    body["options"]["num_ctx"] = 1024
    asked("/api/chat", body)


@check("26", "without shift a full context ends the answer by its length")
def full():
    body = {"model": stories(), "prompt": "Once upon a time", "stream": False, "shift": False, "raw": True,
            "options": {"num_ctx": 32, "num_predict": 400, "temperature": 0}}
    answer = asked("/api/generate", body)
    assert answer["done_reason"] == "length"
    assert answer["prompt_eval_count"] + answer["eval_count"] <= 33


@check("27", "a client that goes away frees its sequence in less than a second")
def goes_away():
    asked("/load", {"model": DEMO})
    body = json.dumps({"model": DEMO, "prompt": "Once upon a time", "raw": True,
                       "options": {"num_predict": 100000, "seed": 1, "temperature": 3}}).encode()
    running = lambda: gauge("oprel_sequences_running", "demo")  # noqa: E731
    for whole in [False, True]:
        if whole:
            body = body[:-1] + b', "stream": false}'
        head = f"POST /api/generate HTTP/1.1\r\nHost: {HOST}:{PORT}\r\nContent-Length: {len(body)}\r\n\r\n"
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
