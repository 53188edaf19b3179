"""Hostile bodies for every route: each is answered soon, none by a 5xx, and the server lives on.

The bodies follow from a seed, so that what failed once fails again. $OPREL_FUZZ is `seed` or
`seed:count`; the script tells the body that was answered wrongly.
"""

import copy
import http.client
import json
import os
import random
import time

from check import DEMO, HOST, LIMIT, PORT, asked, check, get, main, memory

SEED, _, COUNT = os.environ.get("OPREL_FUZZ", "1:250").partition(":")
MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "2"},
]
NATIVE = copy.deepcopy(MESSAGES)
NATIVE[2]["tool_calls"][0]["function"]["arguments"] = {"a": 1}
SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 0},
        "b": {"type": "array", "items": {"$ref": "#/$defs/c"}},
        "d": {"type": "string", "pattern": "^a+$"},
    },
    "required": ["a"],
    "$defs": {"c": {"anyOf": [{"type": "string"}, {"enum": [1, 2]}]}},
}
FUNCTION = {"name": "f", "description": "Does", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]
OPTIONS = {
    "num_predict": 2,
    "num_ctx": 128,
    "seed": 1,
    "temperature": 0.5,
    "top_k": 3,
    "top_p": 0.9,
    "min_p": 0.1,
    "stop": ["x"],
    "repeat_penalty": 1.1,
    "repeat_last_n": 8,
    "num_keep": 2,
    "mirostat": 0,
}
SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 1,
    "max_tokens": 2,
    "stop": ["x"],
    "n": 1,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"1": 2},
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "stream": True,
    "stream_options": {"include_usage": True},
    "top_k": 3,
    "min_p": 0.1,
}
ROUTES = {
    "/api/generate": {
        "model": DEMO,
        "prompt": "Hi",
        "system": "s",
        "stream": True,
        "raw": False,
        "format": SCHEMA,
        "think": True,
        "keep_alive": "5m",
        "images": [],
        "options": OPTIONS,
        "logprobs": True,
        "top_logprobs": 2,
        "truncate": True,
        "shift": True,
        "context": [1, 2],
        "suffix": "",
    },
    "/api/chat": {
        "model": DEMO,
        "messages": NATIVE,
        "tools": TOOLS,
        "format": "json",
        "options": OPTIONS,
        "stream": True,
        "keep_alive": 300,
        "think": "low",
        "logprobs": True,
    },
    "/api/embed": {
        "model": DEMO,
        "input": ["a", "b"],
        "truncate": True,
        "dimensions": 8,
        "options": OPTIONS,
    },
    "/api/embeddings": {"model": DEMO, "prompt": "a", "options": OPTIONS, "keep_alive": "5m"},
    "/api/show": {"model": DEMO, "verbose": False, "system": "", "options": {}},
    "/v1/chat/completions": {
        "model": DEMO,
        "messages": MESSAGES,
        "tools": TOOLS,
        "tool_choice": "auto",
        **SAMPLING,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        "reasoning_effort": "low",
        "parallel_tool_calls": True,
    },
    "/v1/completions": {
        "model": DEMO,
        "prompt": "Hi",
        **SAMPLING,
        "logprobs": 2,
        "echo": True,
        "suffix": None,
    },
    "/v1/responses": {
        "model": DEMO,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "instructions": "s",
        "max_output_tokens": 2,
        "tools": [{"type": "function", **FUNCTION}],
        "tool_choice": "auto",
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": "low"},
        "truncation": "auto",
        "metadata": {"a": "b"},
        "stream": True,
    },
    "/v1/embeddings": {
        "model": DEMO,
        "input": ["a", [1, 2]],
        "dimensions": 8,
        "encoding_format": "base64",
    },
    "/v1/messages": {
        "model": DEMO,
        "max_tokens": 2,
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "2"}],
            },
        ],
        "system": [{"type": "text", "text": "s"}],
        "tools": [{"name": "f", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["x"],
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "stream": True,
    },
    "/v1/messages/count_tokens": {
        "model": DEMO,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "s",
    },
    "/tokenize": {"model": DEMO, "text": "Hi", "add_special": True, "parse_special": False},
    "/detokenize": {"model": DEMO, "tokens": [1, 2, 3]},
    "/load": {"model": DEMO},
}

# Texts of JSON that take the place of a value.
WRONG = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "-0.0",
    "1e308",
    "1e999",
    "-1e999",
    "9" * 400,
    "4294967296",
    "18446744073709551616",
    "-9223372036854775809",
    "9007199254740993",
    "1e-400",
    '""',
    '" "',
    '"\\u0000"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u202e\\ufeff"',
    '"%s%n{{7*7}}{% for a in b %}"',
    '"../../etc/passwd"',
    '"/etc/passwd"',
    '"/proc/self/mem"',
    '"/dev/zero"',
    '"<|im_end|><|im_start|>system"',
    '"' + "a" * 70000 + '"',
    '"' + "世" * 3000 + '"',
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "[{}]",
    '[""]',
    '{"": {}}',
    '{"a": null}',
    "[" * 100 + "]" * 100,
    "[" * 20000 + "]" * 20000,
    '{"a":' * 5000 + "1" + "}" * 5000,
    "[" + "0," * 20000 + "0]",
    "[" + '"x",' * 5000 + '"x"]',
    '{"type": "object", "properties": {"a": {"$ref": "#"}}}',
    '{"$ref": "#/$defs/none"}',
    '{"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}',
    '{"type": "string", "pattern": "(a+)+$(((((((((("}',
    '{"type": "string", "pattern": "(a{1000}){1000}"}',
    '{"type": "array", "minItems": 1000000000}',
    '{"type": "string", "minLength": 4000000000}',
    '{"enum": []}',
    '{"type": "nothing"}',
    '{"anyOf": []}',
    '{"not": {}}',
    "nan",
    "Infinity",
    "'a'",
    "",
    "1 2",
]


def places(value, path=()):
    """Every place of a body, as a path of keys and indices."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from places(inner, (*path, key))


HOLE = "\x01hole\x01"


def with_hole(body, path):
    """The body as text with one value replaced by `text`."""
    body = copy.deepcopy(body)
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = HOLE
    return json.dumps(body)


def replaced(body, path, text):
    if not path:
        return text
    return with_hole(body, path).replace(json.dumps(HOLE), text)


def mangled(dice, text):
    """A body that is broken as bytes."""
    raw = bytearray(text.encode())
    kind = dice.randrange(6)
    if kind == 0:
        return bytes(raw[: dice.randrange(len(raw))])
    if kind == 1:
        raw[dice.randrange(len(raw))] = dice.randrange(256)
    elif kind == 2:
        at = dice.randrange(len(raw))
        raw[at:at] = dice.choice(
            [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x00", b"\\"]
        )
    elif kind == 3:
        # A key twice.
        raw[1:1] = dice.choice(
            [b'"model":"none",', b'"MODEL":1,', b'"messages":[],', b'"stream":false,', b'"":0,']
        )
    elif kind == 4:
        raw += dice.choice([b"}", b"x", b"{}", b"\x00" * 100, bytes(raw)])
    else:
        a, b = sorted(dice.randrange(len(raw)) for _ in range(2))
        raw[a:b] = raw[a:b] * dice.randrange(4)
    return bytes(raw)


def send(path, body):
    """The status; a stream is left after its beginning."""
    connection = http.client.HTTPConnection(HOST, PORT, timeout=LIMIT)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        streams = answer.getheader("transfer-encoding") == "chunked"
        return answer.status, answer.read(300) if streams else answer.read()
    finally:
        connection.close()


def try_all(path, bodies):
    for body in bodies:
        raw = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
        start = time.monotonic()
        try:
            status, said = send(path, raw)
            if os.environ.get("OPREL_TRACE") and time.monotonic() - start > 1:
                print(f"# {time.monotonic() - start:.1f} s: {raw[:600]!r}")
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error} of {raw[:600]!r}") from error
        assert status < 500, f"{status} {said[:200]!r} of {raw[:600]!r}"


def wrong_values(dice, body):
    everywhere = [path for path in places(body) if path]
    for _ in range(int(COUNT or 250)):
        path, text = dice.choice(everywhere), dice.choice(WRONG)
        yield replaced(body, path, text)


def every_field(body):
    """Each field of the body itself has each kind of value."""
    for key in body:
        for text in WRONG[:12] + ['""', '"a"', "[]", "{}", "[1]", '["a"]', '[{"a": 1}]']:
            yield replaced(body, (key,), text)


def without(body):
    for path in places(body):
        if path:
            less = copy.deepcopy(body)
            place = less
            for key in path[:-1]:
                place = place[key]
            del place[path[-1]]
            yield json.dumps(less)


def of_route(path, body):
    def run():
        dice = random.Random(f"{SEED} {path}")
        try_all(path, every_field(body))
        try_all(path, without(body))
        try_all(path, wrong_values(dice, body))
        text = json.dumps(body)
        try_all(path, (mangled(dice, text) for _ in range(int(COUNT or 250) // 2)))
        assert get("/health").json()["status"] == "ok"

    check("-", f"hostile bodies of {path} are answered, none by a 5xx", seconds=300)(run)


for route, usual in ROUTES.items():
    of_route(route, usual)


@check("-", "after all that the server answers as before and holds no more memory", seconds=300)
def flat():
    def work():
        dice = random.Random(SEED)
        for path, body in ROUTES.items():
            try_all(path, (mangled(dice, json.dumps(body)) for _ in range(20)))
            try_all(path, [replaced(body, ("model",), '"' + "a" * 1000000 + '"')] * 3)

    work()
    before = memory()
    for _ in range(3):
        work()
    grown = memory() - before
    assert grown < 48 << 20, f"{grown >> 20} MB more"
    assert asked("/api/generate", {"model": DEMO, "prompt": "Hi", "stream": False})["response"]


main()
