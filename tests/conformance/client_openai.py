"""openai-python against the server (line 51)."""

import asyncio
import json
import math
from typing import Literal

import openai
from pydantic import BaseModel, Field

from check import DEMO, URL, check, main, minilm, stories

client = openai.OpenAI(base_url=f"{URL}/v1", api_key="unused", max_retries=0)
ASK = [{"role": "user", "content": "How do I start the server?"}]
CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Get the time in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
TIME = [{"role": "user", "content": "What time is it in Berlin?"}]


def chat(**more):
    return client.chat.completions.create(
        **{"model": DEMO, "messages": ASK, "temperature": 0, **more}
    )


@check("51", "chat, whole and as a stream, says the same")
def talks():
    whole = chat()
    choice = whole.choices[0]
    assert whole.object == "chat.completion" and whole.id.startswith("chatcmpl-")
    assert choice.finish_reason == "stop" and choice.message.role == "assistant"
    usage = whole.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert (
        len({chunk.id for chunk in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant"
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == choice.message.content
    assert (
        chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == usage.completion_tokens
    )
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chat().id for _ in range(3)}) == 3


@check("51", "the stream helper follows a chat to its end")
def helper():
    with client.chat.completions.stream(model=DEMO, messages=ASK, temperature=0) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and kinds.count("content.done") == 1
    assert final.choices[0].message.content == chat().choices[0].message.content


@check("51", "limits, several answers, stop texts and newer names of fields")
def fields():
    assert chat(max_tokens=3).choices[0].finish_reason == "length"
    assert chat(max_completion_tokens=3).usage.completion_tokens == 3
    story = [{"role": "user", "content": "Tell me a story."}]
    several = chat(n=2, temperature=1, seed=1, messages=story)
    assert [c.index for c in several.choices] == [0, 1]
    assert several.choices[0].message.content != several.choices[1].message.content
    streamed = list(chat(n=2, temperature=1, seed=1, messages=story, stream=True))
    for index in (0, 1):
        parts = [c.choices[0] for c in streamed if c.choices and c.choices[0].index == index]
        text = "".join(part.delta.content or "" for part in parts)
        assert text == several.choices[index].message.content and parts[-1].finish_reason
    text = chat().choices[0].message.content
    stopped = chat(stop=[text[6:10]]).choices[0]
    assert (
        stopped.message.content == text[: text.index(text[6:10])]
        and stopped.finish_reason == "stop"
    )
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]
    assert chat(
        messages=messages,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        top_p=0.9,
        user="me",
        logit_bias={"5": -100},
        parallel_tool_calls=True,
        store=False,
    ).choices
    assert chat(extra_body={"top_k": 1, "min_p": 0.1}).choices


@check("51", "tools: by choice, by force, by name, not at all, and their results")
def tools():
    for choice in ["auto", "required", {"type": "function", "function": {"name": "get_time"}}]:
        answer = chat(messages=TIME, tools=[CLOCK], tool_choice=choice).choices[0]
        assert answer.finish_reason == "tool_calls", (choice, answer)
        call = answer.message.tool_calls[0]
        assert call.type == "function" and call.function.name == "get_time" and call.id
        assert set(json.loads(call.function.arguments)) == {"city"}
    assert chat(messages=TIME, tools=[CLOCK], tool_choice="none").choices[0].finish_reason == "stop"
    chunks = list(chat(messages=TIME, tools=[CLOCK], tool_choice="required", stream=True))
    parts = [part for c in chunks for part in c.choices[0].delta.tool_calls or []]
    arguments = "".join(part.function.arguments for part in parts)
    assert parts[0].id and parts[0].function.name == "get_time" and json.loads(arguments)["city"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"hour": 7}'}
    assert chat(messages=[*TIME, answer.message, result], tools=[CLOCK]).choices[0].message.content


class Pet(BaseModel):
    kind: Literal["cat", "dog"]
    age: int = Field(ge=0, le=30)
    good: list[bool] = Field(max_length=2)


@check("51", "parse() gives an object, also of a tool's arguments")
def parses():
    parsed = client.chat.completions.parse(
        model=DEMO, messages=ASK, response_format=Pet, temperature=0.2, max_tokens=400, seed=2
    )
    assert isinstance(parsed.choices[0].message.parsed, Pet)
    tool = openai.pydantic_function_tool(Pet)
    answer = client.chat.completions.parse(
        model=DEMO, messages=ASK, tools=[tool], tool_choice="required", temperature=0.2, seed=2
    )
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Pet)
    loose = chat(
        response_format={"type": "json_object"}, max_tokens=300, seed=4, temperature=0.7
    ).choices[0]
    if loose.finish_reason == "stop":
        json.loads(loose.message.content)


@check("51", "log probabilities, in chat and in completions")
def logprobs():
    choice = chat(logprobs=True, top_logprobs=3).choices[0]
    tokens = choice.logprobs.content
    assert b"".join(bytes(t.bytes) for t in tokens).decode() == choice.message.content
    assert all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in tokens)
    answer = client.completions.create(
        model=DEMO, prompt="Once upon a time", logprobs=2, max_tokens=5
    )
    told = answer.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == 5


@check("51", "thinking is asked for by effort and told apart")
def thinks():
    answer = chat(reasoning_effort="high").choices[0].message
    assert answer.reasoning and answer.content
    assert getattr(chat(reasoning_effort="none").choices[0].message, "reasoning", None) is None
    chunks = list(chat(reasoning_effort="low", stream=True))
    assert "".join(getattr(c.choices[0].delta, "reasoning", None) or "" for c in chunks)


@check("51", "completions, whole, as a stream, several and from tokens")
def completes():
    ask = {"model": DEMO, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**ask)
    assert whole.object == "text_completion" and whole.choices[0].finish_reason == "length"
    chunks = list(client.completions.create(**ask, stream=True))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    two = client.completions.create(**{**ask, "n": 2, "temperature": 1})
    assert len(two.choices) == 2
    echo = client.completions.create(**ask, echo=True)
    assert echo.choices[0].text == "Once upon a time" + whole.choices[0].text


@check("51", "embeddings, which come in base64 unless they are asked for as floats")
def embeds():
    packed = client.embeddings.create(model=minilm(), input=["Hello", "world"])
    plain = client.embeddings.create(
        model=minilm(), input=["Hello", "world"], encoding_format="float"
    )
    for a, b in zip(packed.data, plain.data, strict=True):
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding, strict=True)) < 1e-6
        assert abs(math.sqrt(sum(x * x for x in a.embedding)) - 1) < 1e-5
    assert packed.usage.total_tokens > 0
    short = client.embeddings.create(model=minilm(), input="Hello", dimensions=16)
    assert len(short.data[0].embedding) == 16


@check("51", "models are listed and found, also those whose name has slashes")
def models():
    assert "demo:latest" in [model.id for model in client.models.list()]
    assert client.models.retrieve(DEMO).object == "model"
    assert client.models.retrieve(stories()).id == stories()
    try:
        client.models.retrieve("some/model")
    except openai.NotFoundError:
        return
    raise AssertionError("found")


@check("51", "responses, whole and as a stream, say the same")
def responds():
    ask = {
        "model": DEMO,
        "input": "How do I start the server?",
        "temperature": 0,
        "instructions": "Be kind.",
    }
    whole = client.responses.create(**ask)
    assert whole.object == "response" and whole.status == "completed" and whole.output_text
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    events = list(client.responses.create(**ask, stream=True))
    assert [e.sequence_number for e in events] == sorted({e.sequence_number for e in events})
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    cut = client.responses.create(**ask, max_output_tokens=3)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"
    with client.responses.stream(**ask) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == text


@check("51", "responses call tools, think and keep to a form")
def responds_in_form():
    tool = {"type": "function", **CLOCK["function"]}
    ask = {"model": DEMO, "input": TIME, "temperature": 0, "tools": [tool]}
    answer = client.responses.create(**ask, tool_choice="required")
    call = next(item for item in answer.output if item.type == "function_call")
    assert call.name == "get_time" and json.loads(call.arguments)["city"] and call.call_id
    events = list(client.responses.create(**ask, tool_choice="required", stream=True))
    done = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert json.loads(done[0].arguments)["city"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"hour": 7}'}
    assert client.responses.create(**{**ask, "input": [*TIME, call, result]}).output_text
    thought = client.responses.create(
        model=DEMO, input="How do I start the server?", temperature=0, reasoning={"effort": "high"}
    )
    assert thought.output[0].type == "reasoning" and thought.output_text
    parsed = client.responses.parse(model=DEMO, input="A pet?", text_format=Pet, temperature=0.2)
    assert isinstance(parsed.output_parsed, Pet)


def refused(kind, call):
    try:
        call()
    except kind as error:
        assert error.body["message"] and error.body["type"], error.body
        return error
    raise AssertionError("not refused")


@check("51", "errors are of the client's own kinds")
def errors():
    refused(openai.NotFoundError, lambda: chat(model="no-such-model"))
    refused(openai.BadRequestError, lambda: chat(messages=[]))
    refused(openai.BadRequestError, lambda: chat(temperature=-3))
    refused(openai.BadRequestError, lambda: chat(n=1000))
    refused(openai.BadRequestError, lambda: chat(tools=[CLOCK], model=stories()))
    refused(openai.NotFoundError, lambda: list(chat(model="no-such-model", stream=True)))
    refused(
        openai.NotFoundError, lambda: client.embeddings.create(model="no-such-model", input="x")
    )
    refused(openai.NotFoundError, lambda: client.responses.create(model="no-such-model", input="x"))
    image = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a"}}],
        }
    ]
    refused(openai.BadRequestError, lambda: chat(messages=image))
    deep = [{"role": "user", "content": "x " * 5000}]
    assert "context" in refused(openai.BadRequestError, lambda: chat(messages=deep)).body["message"]


@check("51", "the async client does the same, side by side and left early")
def side_by_side():
    async def talk():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="x", max_retries=0) as many:
            ask = {"model": DEMO, "messages": ASK, "temperature": 0}
            answers = await asyncio.gather(*[many.chat.completions.create(**ask) for _ in range(4)])
            assert len({a.choices[0].message.content for a in answers}) == 1
            stream = await many.chat.completions.create(**ask, stream=True)
            async for _ in stream:
                break
            await stream.close()

    asyncio.run(talk())


main()
