"""What Ollama's integration suite asks of a server, as a table (line 55).

`suite.json` has the tools and the rows: `of` names what a row stands for there, `kind` the function
of this file that asks it, `beyond` what no model here can do. `{"$repeat": [text, n]}` is a long text,
`@stories` and `@minilm` are models of the fixtures folder. With `each`, a row is asked once for each
value of a field, or for each object of fields under the name "".
"""

import concurrent.futures
import json
import math
import os
import re
import subprocess
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from check import (
    DEMO,
    SHARED,
    Skip,
    asked,
    chat,
    check,
    error,
    generate,
    get,
    loaded,
    main,
    minilm,
    post,
    soon,
    stories,
)
from server import Server

TABLE = json.loads(Path(__file__).with_name("suite.json").read_text())
# What models write between parts of their answers, and no reader is to see.
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_start|>", "<|im_end|>"]
WEATHER = TABLE["tools"]["get_weather"]
KINDS = {}


def kind(name):
    """Registers what asks rows of a kind."""

    def keep(function):
        KINDS[name] = function
        return function

    return keep


def plain(value):
    """A value of the table without its abbreviations."""
    if isinstance(value, dict):
        if "$repeat" in value:
            text, times = value["$repeat"]
            return text * times
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {"@stories": stories, "@minilm": minilm}[value]() if str(value).startswith("@") else value


def bodies(row):
    """The bodies of a row: one, or one for each value."""
    body = {"model": DEMO, **plain(row["ask"])}
    if "tools" in row:
        body["tools"] = tools(row["tools"])
    if "each" not in row:
        return [body]
    [(field, values)] = row["each"].items()
    return [{**body, **({field: value} if field else value)} for value in plain(values)]


def tool_parts(name):
    """What a tool does, and the schema of its arguments."""
    known = TABLE["tools"][name]
    kind = {"type": "string", **({"maxLength": known["longest"]} if "longest" in known else {})}
    fields = {key: {**kind, "description": says} for key, says in known["needs"].items()}
    return known["says"], {"type": "object", "properties": fields, "required": list(fields)}


def tools(names):
    functions = []
    for name in names:
        says, schema = tool_parts(name)
        functions.append({"name": name, "description": says, "parameters": schema})
    return [{"type": "function", "function": function} for function in functions]


class Told:
    """An answer of a native route, however it came."""

    def __init__(self, path, body, way):
        reply = post(path, {**body, "stream": way == "stream"})
        self.status = reply.status
        self.pieces = reply.lines() if reply.status == 200 else [reply.json()]
        self.last = self.pieces[-1]
        if reply.status != 200:
            return
        assert [piece["done"] for piece in self.pieces] == [False] * (len(self.pieces) - 1) + [True]
        assert all(piece["model"] and piece["created_at"].endswith("Z") for piece in self.pieces)
        said = [piece.get("message", piece) for piece in self.pieces]
        self.text = "".join(one.get("content", one.get("response", "")) for one in said)
        self.thought = "".join(one.get("thinking", "") for one in said)
        self.calls = [call["function"] for one in said for call in one.get("tool_calls", [])]
        self.tokens = [token for piece in self.pieces for token in piece.get("logprobs", [])]


def no_marks(told):
    for mark in MARKS:
        assert mark not in told.text and mark not in told.thought, (mark, told.text, told.thought)


def has_any(words, text):
    assert any(word in text.lower() for word in words), f"none of {words} in {text!r}"


def expect(wanted, told):
    """Holds an answer to what a row says of it."""
    told.text.encode()  # no half of a pair
    for field in wanted.get("nonzero", []):
        assert told.last.get(field), f"{field} is missing in {told.last}"
    for field, value in wanted.get("is", {}).items():
        assert told.last[field] == value, (field, told.last)
    for field, value in wanted.get("most", {}).items():
        assert told.last[field] <= value, (field, told.last)
    if "words" in wanted:
        has_any(wanted["words"], told.text)
    if "thought" in wanted:
        assert bool(told.thought.strip()) == wanted["thought"], told.last
    if "tokens" in wanted:
        assert len(told.tokens) == wanted["tokens"], len(told.tokens)
    if wanted.get("no_marks"):
        no_marks(told)
    if wanted.get("said"):
        assert told.text, told.last
    if wanted.get("cut"):
        assert told.last["oprel"]["truncated"]["dropped_tokens"] > 0, told.last
    if "goes_within" in wanted:
        until = asked_ps(DEMO)["expires_at"]
        assert 0 < seconds_to(until) <= wanted["goes_within"], until


def asked_ps(name):
    """What is told of a model that is loaded."""
    [model] = [one for one in get("/api/ps").json()["models"] if one["name"].startswith(name)]
    return model


def seconds_to(stamp):
    """Seconds until a time, which is written with an offset and any number of digits."""
    whole, fraction, offset = re.fullmatch(r"(.{19})(\.\d+)?(Z|[+-]\d\d:\d\d)", stamp).groups()
    whole = datetime.fromisoformat(whole + offset.replace("Z", "+00:00"))
    return whole.timestamp() + float(fraction or 0) - time.time()


@kind("answer")
def answer(row):
    for body in bodies(row):
        all_told = [Told(row["path"], body, way) for way in row["ways"]]
        for told in all_told:
            if told.status != 200:
                assert 400 <= told.status < 500 and row.get("or_refused"), told.last
                has_any(row["or_refused"], told.last["error"])
                continue
            expect(row["expect"], told)
        if row["expect"].get("same"):
            one, other = all_told
            assert (one.text, one.thought) == (other.text, other.thought), (one.text, other.text)
        if "pieces" in row["expect"]:
            assert len(all_told[0].pieces) >= row["expect"]["pieces"], all_told[0].pieces


@kind("refused")
def refused(row):
    for body in bodies(row):
        has_any(row["words"], error(row["path"], body, 400))


@kind("listed")
def listed(row):
    [model] = [one for one in get("/api/tags").json()["models"] if one["name"] == row["model"]]
    for field in row["nonzero"]:
        assert model[field], (field, model)
    details(model["details"])


def details(of):
    for field in ["format", "family", "parameter_size", "quantization_level"]:
        assert of[field], (field, of)


@kind("shown")
def shown(row):
    with Server() as server:
        assert create(server, stories()).returncode == 0
        body = {"model": "made", "from": "tales", "stream": False, **row["from"]}
        made = server.post("/api/create", body)
        assert made.status == 200 and made.json()["status"] == "success", made.body
        show = server.post("/api/show", {"model": "made"}).json()
    for field in row["nonzero"]:
        assert show[field], (field, show)
    details(show["details"])
    assert show["system"] == row["from"]["system"] and "temperature" in show["parameters"], show


@kind("logprobs")
def logprobs(row):
    [body] = bodies(row)
    for top in row["tops"]:
        wish = {} if top is None else {"logprobs": True, "top_logprobs": top}
        told = Told(row["path"], {**body, **wish}, "whole")
        assert bool(told.tokens) == (top is not None), told.last
        for token in told.tokens:
            for one in [token, *token.get("top_logprobs", [])]:
                assert one["token"] and one["logprob"] <= 0, one
                assert bytes(one["bytes"]) == one["token"].encode(), one
            others = [one["logprob"] for one in token.get("top_logprobs", [])]
            assert len(others) == top and others == sorted(others, reverse=True), others


@kind("folder")
def folder(row):
    content = Path(stories()).read_bytes()
    for name in row["names"]:
        with tempfile.TemporaryDirectory(prefix="oprel-") as outer:
            models, home = Path(outer, name, "models"), Path(outer, name)
            models.mkdir(parents=True)
            file = home / "tales 埃.gguf"
            file.write_bytes(content)
            with Server(OLLAMA_MODELS=str(models), OPREL_HOME=str(home)) as server:
                made = create(server, file)
                assert made.returncode == 0, made.stderr
                names = [one["name"] for one in server.get("/api/tags").json()["models"]]
                assert "tales:latest" in names, names
                for model in ["tales", str(file)]:
                    body = generate("Once", model=model, options={"num_predict": 4})
                    reply = server.post("/api/generate", body)
                    assert reply.status == 200 and reply.json()["eval_count"] == 4, reply.body


def program(server, *arguments):
    """Runs the program against a server."""
    command = [os.environ["OPREL_BIN"], *arguments]
    environment = {**server.environment, "OPREL_HOST": f"127.0.0.1:{server.port}"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60
    )


def create(server, file, *more):
    """Makes the model `tales` of a file."""
    modelfile = server.home / "Modelfile"
    modelfile.write_text(f"FROM {file}\n")
    return program(server, "create", "tales", "-f", str(modelfile), *more)


def cosine(a, b):
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.hypot(*a) / math.hypot(*b)


def embed(inputs, **more):
    return asked("/api/embed", {"model": minilm(), "input": inputs, **more})


@kind("vectors")
def vectors(row):
    path = SHARED / "fixtures" / "reference.json"
    if not path.is_file():
        raise Skip("no reference.json in the fixtures folder of $OPREL_SHARED or ../shared")
    rows = json.loads(path.read_text())["minilm_embeddings"]
    # Nothing as the only text asks for no vector.
    rows = [one for one in rows if one["text"]]
    texts = [one["text"] for one in rows]
    if row["path"] == "/api/embeddings":
        one_by_one = [asked(row["path"], {"model": minilm(), "prompt": text}) for text in texts]
        found = [one["embedding"] for one in one_by_one]
    else:
        told = embed(texts)
        found = told["embeddings"]
        # Tokens of the text, with the mark at each end.
        assert told["prompt_eval_count"] == sum(len(one["tokens"]) for one in rows), told
        for text, vector in zip(texts, found, strict=True):
            assert cosine(embed(text)["embeddings"][0], vector) > 0.9999
    for vector, one in zip(found, rows, strict=True):
        assert len(vector) == row["dimensions"]
        assert cosine(vector, one["embedding"]) >= row["cosine"], one["text"]


@kind("nearer")
def nearer(row):
    measures = {
        "angle": lambda a, b: -cosine(a, b),
        "straight line": math.dist,
        "sum": lambda a, b: sum(abs(x - y) for x, y in zip(a, b, strict=True)),
    }
    for triple in row["triples"]:
        one, near, far = embed(triple)["embeddings"]
        for name, measure in measures.items():
            assert measure(one, near) < measure(one, far), (name, triple)


@kind("cut")
def cut(row):
    for case in row["rows"]:
        more = {key: case[key] for key in ["truncate"] if key in case}
        if "num_ctx" in case:
            more["options"] = {"num_ctx": case["num_ctx"]}
        body = {"model": minilm(), "input": plain(case["input"]), **more}
        if "refused" in case:
            has_any(case["refused"], error("/api/embed", body, 400))
            continue
        told = asked("/api/embed", body)
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        assert len(told["embeddings"]) == len(inputs) and all(told["embeddings"]), case
        assert told["prompt_eval_count"] <= case.get("most_tokens", 10_000), told
        if "near" in case:
            near = cosine(told["embeddings"][0], embed(case["near"])["embeddings"][0])
            assert near > 0.999, (case, near)


@kind("counted")
def counted(row):
    one, more = embed(row["input"]), embed([row["input"]] * row["times"])
    assert more["prompt_eval_count"] == row["times"] * one["prompt_eval_count"]


def talk(by, turns, options):
    """The answers of a talk that goes on."""
    context, messages, answers = [], [], []
    for turn in turns:
        body = {"model": DEMO, "think": False, "options": options}
        if by == "context":
            body |= {"prompt": turn, "context": context}
            told = Told("/api/generate", body, "stream")
            context = told.last["context"]
        else:
            messages.append({"role": "user", "content": turn})
            told = Told("/api/chat", {**body, "messages": messages}, "stream")
            messages.append({"role": "assistant", "content": told.text})
        assert told.text.strip(), told.last
        answers.append(told)
    return answers


@kind("talk")
def talks_on(row):
    answers = talk(row["by"], row["turns"], row["options"])
    counts = [told.last["prompt_eval_count"] for told in answers]
    said = [told.last["eval_count"] for told in answers]
    for before, after, own in zip(counts, counts[1:], said, strict=False):
        assert after > before + own, (counts, said)
    # With what was said before, another answer than without.
    alone = talk(row["by"], row["turns"][-1:], row["options"])
    assert alone[0].text != answers[-1].text, alone[0].text


@kind("talks")
def talks(row):
    def texts(turns):
        return [told.text for told in talk(row["by"], turns, row["options"])]

    alone = [texts(turns) for turns in row["talks"]]
    with concurrent.futures.ThreadPoolExecutor(len(alone)) as pool:
        assert list(pool.map(texts, row["talks"])) == alone


@kind("company")
def company(row):
    def one(question):
        body = chat(question, think=False, options=row["options"])
        return Told("/api/chat", body, "stream").text

    alone = {question: one(question) for question in row["questions"]}

    def client(at):
        for n in range(row["rounds"]):
            question = row["questions"][(3 * at + n) % len(row["questions"])]
            assert one(question) == alone[question], question

    with concurrent.futures.ThreadPoolExecutor(row["clients"]) as pool:
        list(pool.map(client, range(row["clients"])))


@kind("models")
def models(row):
    names = [DEMO, stories(), "tales"]
    with Server(OLLAMA_MAX_LOADED_MODELS=str(row["most"])) as server:
        assert create(server, stories()).returncode == 0
        most = [0]
        done = threading.Event()

        def watch():
            while not done.wait(0.02):
                most[0] = max(most[0], len(server.get("/api/ps").json()["models"]))

        def client(name):
            for n in range(row["rounds"]):
                body = generate("Once", model=name, options={"num_predict": 12, "seed": n})
                reply = server.post("/api/generate", body)
                assert reply.status == 200 and reply.json()["eval_count"] > 0, reply.body

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                list(pool.map(client, names))
        finally:
            done.set()
            watcher.join()
        assert 1 <= most[0] <= row["most"], most


@kind("queue")
def queue(row):
    with Server(OLLAMA_MAX_QUEUE=str(row["queue"])) as server:

        def ask(n):
            body = generate(f"Question {n}", options={"num_predict": 8})
            return server.post("/api/generate", body)

        with concurrent.futures.ThreadPoolExecutor(row["clients"]) as pool:
            replies = list(pool.map(ask, range(row["clients"])))
    busy = [reply for reply in replies if reply.status == 503]
    assert busy and all("busy" in reply.json()["error"] for reply in busy), len(busy)
    others = [reply for reply in replies if reply.status != 503]
    assert others and all(reply.status == 200 and reply.json()["done"] for reply in others)


@kind("call")
def call(row):
    body = chat(row["ask"], tools=tools(row["tools"]), tool_choice=row["choice"])
    told = Told("/api/chat", {**body, "options": {"temperature": 0}}, "stream")
    for one in told.calls:
        known = TABLE["tools"][one["name"]]
        assert set(one["arguments"]) == set(known["needs"]), one
    assert told.calls and told.last["done_reason"] == "stop", told.last
    no_marks(told)


@kind("agent")
def agent(row):
    def ask(text, *more):
        messages = [{"role": "system", "content": plain(row["system"])}]
        messages += [{"role": "user", "content": text}, *more]
        body = {
            "model": DEMO,
            "messages": messages,
            "tools": tools(row["tools"]),
            "options": {"temperature": 0, "num_ctx": 16384, "num_predict": 120},
        }
        told = Told("/api/chat", body, "stream")
        no_marks(told)
        assert told.calls or told.text, told.last
        assert all(one["name"] in row["tools"] for one in told.calls), told.calls
        assert all(isinstance(one["arguments"], dict) for one in told.calls), told.calls
        return told

    answers = [ask(text) for text in row["asks"]]
    same = [(told.text, [(one["name"], one["arguments"]) for one in told.calls]) for told in answers]
    assert same[0] == same[1], same[:2]
    made = {"function": {"name": row["tools"][0], "arguments": {"command": "ls"}}}
    ask(
        "What is here?",
        {"role": "assistant", "content": "", "tool_calls": [made]},
        {"role": "tool", "content": row["result"]},
    )


PLACES = ("Paris", "Boston")
SYSTEM = "Asked for the weather, call get_weather."
RESULT = '{"condition": "sunny"}'
ID = "call_before01"


def over_native():
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"The weather in {PLACES[0]}?"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": ID,
                    "function": {"name": "get_weather", "arguments": {"location": PLACES[0]}},
                }
            ],
        },
        {"role": "tool", "content": RESULT, "tool_name": "get_weather", "tool_call_id": ID},
        {"role": "user", "content": f"And in {PLACES[1]}?"},
    ]
    body = {
        "model": DEMO,
        "messages": messages,
        "tools": tools(["get_weather"]),
        "tool_choice": "required",
        "think": False,
        "options": {"temperature": 0, "num_ctx": 16384, "num_predict": 256},
    }
    [one] = Told("/api/chat", body, "stream").calls
    return one["name"], json.dumps(one["arguments"])


def events(path, body, **more):
    reply = post(path, {"model": DEMO, "stream": True, "temperature": 0, **body}, **more)
    assert reply.status == 200, reply.body[:500]
    return [json.loads(data) for _, data in reply.events() if data != "[DONE]"]


def over_chat_completions():
    text = {"type": "text", "text": f"The weather in {PLACES[0]}?"}
    function = {"name": "get_weather", "arguments": json.dumps({"location": PLACES[0]})}
    body = {
        "messages": [
            {"role": "system", "content": "A test."},
            {"role": "developer", "content": SYSTEM},
            {"role": "user", "content": [text]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": ID, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": ID, "content": [{"type": "text", "text": RESULT}]},
            {"role": "user", "content": f"And in {PLACES[1]}?"},
        ],
        "tools": tools(["get_weather"]),
        "tool_choice": "required",
        "max_tokens": 256,
        "reasoning_effort": "none",
    }
    name, arguments = "", ""
    for event in events("/v1/chat/completions", body):
        for choice in event["choices"]:
            for part in choice["delta"].get("tool_calls", []):
                name += part["function"].get("name") or ""
                arguments += part["function"].get("arguments") or ""
    return name, arguments


def over_responses():
    says, schema = tool_parts("get_weather")
    result = {"type": "input_text", "text": RESULT}
    body = {
        "instructions": "A test.",
        "input": [
            {"type": "message", "role": "developer", "content": SYSTEM},
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": f"The weather in {PLACES[0]}?"}],
            },
            {
                "type": "function_call",
                "call_id": ID,
                "name": "get_weather",
                "arguments": json.dumps({"location": PLACES[0]}),
            },
            {"type": "function_call_output", "call_id": ID, "output": [result]},
            {"type": "message", "role": "user", "content": f"And in {PLACES[1]}?"},
        ],
        "tools": [
            {
                "type": "function",
                "name": "get_weather",
                "description": says,
                "strict": False,
                "parameters": schema,
            }
        ],
        "tool_choice": "required",
        "max_output_tokens": 256,
        "reasoning": {"effort": "none"},
    }
    done = [
        event["item"]
        for event in events("/v1/responses", body)
        if event["type"] == "response.output_item.done"
    ]
    [item] = [item for item in done if item["type"] == "function_call"]
    return item["name"], item["arguments"]


def over_messages():
    says, schema = tool_parts("get_weather")
    told = {"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}
    used = {"type": "tool_use", "id": ID, "name": "get_weather", "input": {"location": PLACES[0]}}
    result = {
        "type": "tool_result",
        "tool_use_id": ID,
        "content": [{"type": "text", "text": RESULT}],
    }
    body = {
        "max_tokens": 256,
        "system": [{"type": "text", "text": "A test."}, told],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": f"The weather in {PLACES[0]}?"}],
            },
            {"role": "system", "content": [{"type": "text", "text": "Few tokens are left."}]},
            {"role": "assistant", "content": [used]},
            {
                "role": "user",
                "content": [result, {"type": "text", "text": f"And in {PLACES[1]}?"}],
            },
        ],
        "tools": [{"name": "get_weather", "description": says, "input_schema": schema}],
        "tool_choice": {"type": "any"},
        "thinking": {"type": "disabled"},
    }
    name, arguments, index = None, "", None
    for event in events("/v1/messages", body, headers={"anthropic-version": "2023-06-01"}):
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            name, index = event["content_block"]["name"], event["index"]
        if event["type"] == "content_block_delta" and event["index"] == index:
            arguments += event["delta"]["partial_json"]
    return name, arguments


@kind("routes")
def routes(row):
    del row
    for over in [over_native, over_chat_completions, over_responses, over_messages]:
        name, arguments = over()
        assert name == "get_weather", (over.__name__, name)
        values = json.loads(arguments)
        assert set(values) == set(WEATHER["needs"]), (over.__name__, arguments)
        assert isinstance(values["location"], str), (over.__name__, arguments)


@kind("created")
def created(row):
    with Server() as server:
        more = ["--quantize", row["quantize"]] if row["quantize"] else []
        made = create(server, stories(), *more)
        assert made.returncode == 0, made.stderr
        show = server.post("/api/show", {"model": "tales"}).json()
        level = (row["quantize"] or "f32").upper()
        assert show["details"]["quantization_level"] == level, show["details"]
        [listed] = [
            one for one in server.get("/api/tags").json()["models"] if one["name"] == "tales:latest"
        ]
        file = Path(stories()).stat().st_size
        assert (listed["size"] < file * 0.5) == bool(row["quantize"]), (listed["size"], file)
        body = generate("Once upon a time", model="tales", options={"num_predict": 20, "temperature": 0})
        reply = server.post("/api/generate", body)
        assert reply.status == 200, reply.body
        assert len(reply.json()["response"].split()) >= 5, reply.body
        assert program(server, "rm", "tales").returncode == 0
        assert server.post("/api/show", {"model": "tales"}).status == 404


@kind("seeds")
def seeds(row):
    [body] = bodies(row)
    texts = []
    for seed in row["seeds"]:
        options = {**body["options"], "seed": seed}
        ways = ["stream", "whole"]
        one, other = [Told("/api/chat", {**body, "options": options}, way).text for way in ways]
        assert one == other, seed
        texts.append(one)
    assert len(set(texts)) == len(texts), texts


def keeps(form, value):
    """Whether a value is of one of the forms of the table, said once more by hand."""
    match form:
        case {"pattern": pattern}:
            return isinstance(value, str) and re.fullmatch(pattern.strip("^$"), value)
        case {"anyOf": options}:
            return value in [option["const"] for option in options]
        case {"type": "array", "maxItems": most}:
            right = all(isinstance(item, int) and 0 <= item <= 9 for item in value)
            return right and form["minItems"] <= len(value) <= most
        case {"$defs": _}:
            [key] = value
            return key == "p" and isinstance(value["p"][0], bool) and value["p"][1:] == [None]
        case {"properties": {"when": _}}:
            [key] = value
            return key == "when" and re.fullmatch(r"\d{4}-\d\d-\d\d", value["when"])
        case {"properties": {"a": {"enum": values}}}:
            [key] = value
            return key == "a" and value["a"] in values
    raise ValueError(form)


@kind("forms")
def forms(row):
    for form in row["forms"]:
        for think in [False, True]:
            for way in ["stream", "whole"]:
                options = {"temperature": 1, "seed": 3, "num_predict": 400}
                body = chat("Say it.", format=form, think=think, options=options)
                told = Told("/api/chat", body, way)
                assert told.last["done_reason"] == "stop", (form, told.text)
                assert keeps(form, json.loads(told.text)), (form, told.text)
                assert bool(told.thought) <= think, told.thought


@kind("stay")
def stay(row):
    del row

    def load(**more):
        return asked("/api/generate", {"model": DEMO, "prompt": "", **more})["done_reason"]

    def is_loaded():
        return "demo:latest" in loaded()

    assert load(keep_alive="1h") == "load" and is_loaded()
    assert 3500 < seconds_to(asked_ps(DEMO)["expires_at"]) <= 3600
    assert load(keep_alive=-1) == "load"
    assert asked_ps(DEMO)["expires_at"] > "2200"
    assert load(keep_alive=0) == "unload"
    soon(5, lambda: not is_loaded())
    assert load(keep_alive=1) == "load" and is_loaded()
    soon(10, lambda: not is_loaded())
    assert load(keep_alive="5m") == "load"


@kind("not asked")
def not_asked(row):
    raise Skip(f"not asked: {row['why']}")


def register(row):
    """Makes a check of a row."""
    check("55", f"{row['of']}: {row['says']}")(lambda: KINDS[row["kind"]](row))


for each_row in TABLE["rows"]:
    register(each_row)
main()
