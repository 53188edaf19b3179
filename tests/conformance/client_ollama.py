"""ollama-python against the server (lines 51-53)."""

import asyncio
import json
import math

import ollama
from pydantic import BaseModel

from check import DEMO, URL, check, main, minilm, stories

client = ollama.Client(host=URL)
GREEDY = {"temperature": 0}
ASK = [{"role": "user", "content": "How do I start the server?"}]


def refused(status, call, says=None):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status, (error.status_code, error.error)
        assert says is None or error.error == says, error.error
        return error
    raise AssertionError("not refused")


@check("53", "generate, whole and as a stream, says the same")
def generate():
    whole = client.generate(DEMO, "How do I start the server?", options=GREEDY)
    assert whole.done and whole.done_reason == "stop" and whole.eval_count > 0 and whole.context
    parts = list(client.generate(DEMO, "How do I start the server?", options=GREEDY, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert parts[-1].done and not any(part.done for part in parts[:-1])
    assert parts[-1].total_duration > 0
    again = client.generate(DEMO, "And how do I stop it?", context=whole.context, options=GREEDY)
    assert again.prompt_eval_count > whole.prompt_eval_count


@check("53", "chat, whole and as a stream, says the same")
def chat():
    whole = client.chat(DEMO, messages=ASK, options=GREEDY)
    parts = list(client.chat(DEMO, messages=ASK, options=GREEDY, stream=True))
    assert (
        "".join(part.message.content for part in parts)
        == whole.message.content
        == whole["message"]["content"]
    )
    assert all(part.message.role == "assistant" for part in parts)
    history = [*ASK, whole.message, {"role": "user", "content": "Thank you!"}]
    assert client.chat(DEMO, messages=history).message.content


@check("53", "a Python function is a tool, and its result goes back")
def tools():
    def get_time(city: str) -> str:
        """Get the time in a city

        Args:
            city: The city
        """
        return json.dumps({"hour": len(city)})

    messages = [{"role": "user", "content": "What time is it in Berlin?"}]
    first = client.chat(DEMO, messages=messages, tools=[get_time], options=GREEDY)
    assert first.message.tool_calls, first.message
    messages.append(first.message)
    for call in first.message.tool_calls:
        assert call.function.name == "get_time"
        result = get_time(**call.function.arguments)
        messages.append({"role": "tool", "content": result, "tool_name": call.function.name})
    final = client.chat(DEMO, messages=messages, tools=[get_time], options=GREEDY)
    assert final.message.content
    streamed = client.chat(
        DEMO, messages=messages[:1], tools=[get_time], options=GREEDY, stream=True
    )
    calls = [call for part in streamed for call in part.message.tool_calls or []]
    assert calls == list(first.message.tool_calls)


@check("53", "thoughts are told apart, in chat and in generate")
def think():
    whole = client.chat(DEMO, messages=ASK, think=True, options=GREEDY)
    assert whole.message.thinking and whole.message.content
    parts = client.chat(DEMO, messages=ASK, think="high", options=GREEDY, stream=True)
    assert any(part.message.thinking for part in parts)
    assert client.generate(DEMO, "How do I start it?", think=True, options=GREEDY).thinking
    assert not client.chat(DEMO, messages=ASK, think=False).message.thinking
    refused(400, lambda: client.chat(stories(), messages=ASK, think=True))


class Pet(BaseModel):
    name: str
    age: int
    good: bool


class Pets(BaseModel):
    pets: list[Pet]


@check("53", "answers have the form of a pydantic model, or are any JSON")
def formats():
    answer = client.chat(DEMO, messages=ASK, format=Pet.model_json_schema(), options=GREEDY)
    Pet.model_validate_json(answer.message.content)
    schema = Pets.model_json_schema()
    options = {"seed": 1, "num_predict": 500, "temperature": 1}
    answer = client.generate(DEMO, "Two pets!", format=schema, options=options)
    if answer.done_reason == "stop":
        Pets.model_validate_json(answer.response)
    answer = client.chat(DEMO, messages=ASK, format="json", options={"num_predict": 300, "seed": 3})
    if answer.done_reason == "stop":
        json.loads(answer.message.content)


@check("53", "log probabilities are read")
def logprobs():
    answer = client.chat(DEMO, messages=ASK, logprobs=True, top_logprobs=2, options=GREEDY)
    assert "".join(t.token for t in answer.logprobs).strip() == answer.message.content
    assert all(len(t.top_logprobs) == 2 for t in answer.logprobs)


@check("53", "embed and embeddings give vectors")
def embed():
    batch = client.embed(minilm(), input=["The sky is blue", "Grass is green"])
    assert len(batch.embeddings) == 2
    for vector in batch.embeddings:
        assert abs(math.sqrt(sum(x * x for x in vector)) - 1) < 1e-5
    assert len(client.embed(minilm(), input="x", dimensions=8).embeddings[0]) == 8
    assert len(client.embeddings(minilm(), prompt="x").embedding) == 384


@check("53", "show, ps, list and their times are read")
def inventory():
    show = client.show(DEMO)
    assert show.modelinfo["general.architecture"] == "llama" and "tools" in show.capabilities
    assert show.details.quantization_level == "Q8_0" and show.template
    client.generate(DEMO, "Hi", keep_alive="10m")
    running = client.ps().models
    assert (
        running[0].model == "demo:latest" and running[0].expires_at.tzinfo and running[0].size > 0
    )
    assert running[0].context_length == 1024 and running[0].details.family == "llama"
    client.generate(DEMO, "Hi", keep_alive=-1)
    assert client.ps().models[0].expires_at.year > 2200
    assert isinstance(list(client.list().models), list)


@check("11,53", "errors have the status and the words that programs wait for")
def errors():
    refused(
        404, lambda: client.chat("no-such-model", messages=ASK), "model 'no-such-model' not found"
    )
    refused(404, lambda: client.show("no-such-model"), "model 'no-such-model' not found")
    refused(404, lambda: next(client.generate("no-such-model", "x", stream=True)))
    refused(
        404,
        lambda: client.embed("no-such-model", "x"),
        'model "no-such-model" not found, try pulling it first',
    )
    refused(400, lambda: client.generate(DEMO, "x", raw=True, system="y"))
    refused(400, lambda: client.chat(stories(), messages=ASK, tools=[refused]))


@check("12,53", "keep_alive 0 unloads")
def unload():
    client.generate(DEMO, keep_alive="5m")
    assert "demo:latest" in [m.model for m in client.ps().models]
    assert client.generate(DEMO, keep_alive=0).done_reason == "unload"
    assert "demo:latest" not in [m.model for m in client.ps().models]
    assert client.chat(DEMO).done_reason == "load"


@check("53", "options of all kinds are taken, as a mapping or as an object")
def options():
    many = ollama.Options(
        num_ctx=512,
        num_keep=4,
        seed=1,
        num_predict=3,
        top_k=10,
        top_p=0.9,
        min_p=0.01,
        typical_p=0.9,
        repeat_last_n=16,
        repeat_penalty=1.1,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        temperature=0.5,
        stop=["\n\n"],
        num_gpu=0,
        num_thread=1,
        use_mmap=True,
        penalize_newline=True,
        low_vram=False,
        num_batch=128,
        numa=False,
    )
    assert client.generate(DEMO, "Hi", options=many).eval_count <= 3
    assert client.generate(DEMO, "Hi", system="Be kind.", options={"no_such_option": 1}).response
    answer = client.generate(
        DEMO, "Hello", template="{{ messages[0].content }}", options={"num_predict": 2}
    )
    assert answer.eval_count <= 2


@check("53", "the async client does the same, side by side and left early")
def side_by_side():
    async def talk():
        async with ollama.AsyncClient(host=URL) as many:
            answers = await asyncio.gather(
                *[many.chat(DEMO, messages=ASK, options=GREEDY) for _ in range(4)]
            )
            assert len({a.message.content for a in answers}) == 1
            text = ""
            async for part in await many.chat(DEMO, messages=ASK, options=GREEDY, stream=True):
                text += part.message.content
            assert text == answers[0].message.content
            async for _ in await many.generate(DEMO, "A story!", stream=True):
                break
            assert len((await many.embed(DEMO, "x")).embeddings) == 1
            try:
                await many.show("no-such-model")
            except ollama.ResponseError as error:
                assert error.status_code == 404
            else:
                raise AssertionError("not refused")

    asyncio.run(talk())


@check("35,36,39,53", "models are made, copied, shown, listed and deleted")
def store():
    of = client.create_blob(stories())
    made = client.create("tales", files={"stories.gguf": of}, system="Be short.", parameters={"seed": 7})
    assert made.status == "success"
    *_, last = client.create("tales2", from_="tales", system="Be long.", stream=True)
    assert last.status == "success"
    assert client.copy("tales", "tales3").status == "success"
    listed = [model.model for model in client.list().models]
    assert {"tales:latest", "tales2:latest", "tales3:latest"} <= set(listed), listed
    assert "seed" in client.show("tales3").parameters
    first = client.generate("tales", "Once", options={**GREEDY, "num_predict": 4}).response
    for name in ("tales", "tales2"):
        assert client.delete(name).status == "success"
    assert client.generate("tales3", "Once", options={**GREEDY, "num_predict": 4}).response == first
    client.delete("tales3")
    try:
        client.delete("tales3")
    except ollama.ResponseError as error:
        assert error.status_code == 404
    else:
        raise AssertionError("deleted twice")


main()
