"""What answers of the native routes are made of: forms, thoughts, calls (lines 18-24)."""

import base64
import json
import struct
import zlib

from check import (
    DEMO,
    GREEDY,
    QUESTION,
    Skip,
    asked,
    chat,
    check,
    error,
    generate,
    main,
    post,
    said,
    stories,
)

SCHEMA = {
    "type": "object",
    "required": ["name", "kind", "tags", "place"],
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["cat", "dog"]},
        "tags": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        "place": {
            "type": "object",
            "required": ["x"],
            "properties": {"x": {"type": "boolean"}},
            "additionalProperties": False,
        },
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
    answer = asked(
        "/api/chat",
        chat(
            "Tell me about cats as JSON.",
            stream=False,
            format="json",
            options={"num_predict": 200, "seed": 1},
        ),
    )
    if answer["done_reason"] == "stop":
        assert isinstance(json.loads(answer["message"]["content"]), dict)
    for seed in range(3):
        options = {"seed": seed, "temperature": 1}
        fits(
            asked("/api/chat", chat("A pet?", stream=False, format=SCHEMA, options=options))[
                "message"
            ]["content"]
        )
    fits(asked("/api/generate", generate("A pet?", format=SCHEMA))["response"])
    fits(said(chat("A pet?", format=SCHEMA))[0])
    for nothing in [None, ""]:
        asked("/api/chat", chat("Hi", stream=False, format=nothing))
    assert (
        "invalid format"
        in asked("/api/chat", chat("Hi", stream=False, format="yaml"), 400)["error"]
    )


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
    call = {
        "id": "call_abc12345",
        "function": {"name": "get_time", "arguments": {"city": "Berlin"}},
    }

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
    error(
        "/api/chat",
        chat("Hi", logprobs=True, top_logprobs=21),
        400,
        "top_logprobs must be between 0 and 20",
    )


SIGNS = ["👋🏽", "世界", "é", "👩‍👩‍👧"]


def of_signs():
    """A format whose only answers are these, so that a model that knows none of them says them."""
    return {"type": "array", "items": {"enum": SIGNS}, "minItems": 6, "maxItems": 6}


@check("23,24", "no character is split over chunks, and the bytes of many-byte ones re-assemble")
def characters():
    for seed in range(3):
        body = chat(
            "Signs!",
            format=of_signs(),
            think=False,
            logprobs=True,
            options={"seed": seed, "temperature": 1.5},
        )
        text, objects = said(body)
        assert all(sign in SIGNS for sign in json.loads(text))
        assert "\ufffd" not in text
        tokens = [token for o in objects for token in o.get("logprobs", [])]
        assert bytes_of(tokens).decode() == text
    # Without a constraint, at a temperature at which bytes are drawn at random.
    for seed in range(6):
        reply = post(
            "/api/generate",
            {
                "model": DEMO,
                "prompt": "世界 👋 é",
                "raw": True,
                "options": {"seed": seed, "temperature": 5, "num_predict": 60},
            },
        )
        for line in reply.body.splitlines():
            json.loads(line.decode("utf-8", "strict"))


main()
