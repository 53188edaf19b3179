"""The Anthropic client against the server (line 52)."""

import asyncio
from typing import Literal

import anthropic
from pydantic import BaseModel

from check import DEMO, URL, check, main, stories

client = anthropic.Anthropic(base_url=URL, auth_token="unused", api_key=None, max_retries=0)
ASK = [{"role": "user", "content": "How do I start the server?"}]
TIME = [{"role": "user", "content": "What time is it in Berlin?"}]
CLOCK = {
    "name": "get_time",
    "description": "Get the time in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city"}},
        "required": ["city"],
    },
}


def say(temperature=0, body=None, **more):
    # The client no longer knows all fields that older ones send.
    extra = {"temperature": temperature, **(body or {})}
    return {"model": DEMO, "max_tokens": 120, "messages": ASK, "extra_body": extra, **more}


def prompt_tokens(usage):
    """What was read, be it anew or from the cache."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


@check("52", "a message, whole and as a stream, is the same")
def talks():
    whole = client.messages.create(**say())
    assert whole.type == "message" and whole.role == "assistant" and whole.id.startswith("msg_")
    assert whole.stop_reason == "end_turn" and whole.content[0].type == "text"
    assert whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0
    with client.messages.stream(**say()) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert prompt_tokens(final.usage) == prompt_tokens(whole.usage)
    events = [event.type for event in client.messages.create(**say(), stream=True)]
    assert events[0] == "message_start" and events[-2:] == ["message_delta", "message_stop"]
    assert events.count("content_block_start") == events.count("content_block_stop") == 1


@check("52", "system texts, blocks, limits and stop texts are heeded")
def fields():
    text = client.messages.create(**say()).content[0].text
    cut = client.messages.create(**say(max_tokens=3))
    assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == 3
    stopped = client.messages.create(**say(stop_sequences=[text[6:10]]))
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == text[6:10]
    cached = {"type": "ephemeral"}
    blocks = [
        {"type": "text", "text": "Be kind.", "cache_control": cached},
        {"type": "text", "text": "Be brief."},
    ]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": cached}]},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "Who are you?"},
    ]
    assert (
        client.messages.create(
            **say(
                system=blocks,
                messages=messages,
                body={"top_k": 5, "top_p": 0.9},
                metadata={"user_id": "me"},
            )
        )
        .content[0]
        .text
    )
    beta = client.beta.messages.create(**say(), betas=["some-beta-2025-01-01"])
    assert beta.content[0].text == text


@check("52", "a tool is called, whole and in a stream, and its result goes back")
def tools():
    for choice in [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_time"}]:
        answer = client.messages.create(**say(messages=TIME, tools=[CLOCK], tool_choice=choice))
        assert answer.stop_reason == "tool_use", (choice, answer.content)
        call = next(block for block in answer.content if block.type == "tool_use")
        assert call.name == "get_time" and call.input["city"] and call.id
    none = client.messages.create(**say(messages=TIME, tools=[CLOCK], tool_choice={"type": "none"}))
    assert none.stop_reason == "end_turn"
    with client.messages.stream(
        **say(messages=TIME, tools=[CLOCK], tool_choice={"type": "any"})
    ) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use" and final.content[-1].input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": '{"hour": 7}'}
    messages = [
        *TIME,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    assert client.messages.create(**say(messages=messages, tools=[CLOCK])).content[0].text


@check("52", "tokens are counted as a message then says")
def counts():
    for more in [{}, {"system": "Be kind."}, {"tools": [CLOCK], "messages": TIME}]:
        ask = say(**more)
        counted = client.messages.count_tokens(
            **{name: ask[name] for name in ("model", "messages", "system", "tools") if name in ask}
        )
        usage = client.messages.create(**ask).usage
        assert counted.input_tokens == prompt_tokens(usage) > 0, (counted, usage)


@check("52", "thoughts are blocks of their own, before the text, and go back")
def thinks():
    thinking = {"type": "enabled", "budget_tokens": 1024}
    answer = client.messages.create(**say(max_tokens=2000, thinking=thinking, temperature=1))
    assert [block.type for block in answer.content] == ["thinking", "text"], answer.content
    assert answer.content[0].thinking and "<think>" not in answer.content[1].text
    with client.messages.stream(**say(max_tokens=2000, thinking=thinking, temperature=1)) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert "thinking" in kinds and final.content[0].type == "thinking" and final.content[0].thinking
    messages = [
        *ASK,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": "Thanks!"},
    ]
    assert client.messages.create(
        **say(max_tokens=2000, messages=messages, thinking=thinking, temperature=1)
    ).content
    off = client.messages.create(**say(thinking={"type": "disabled"}))
    assert [block.type for block in off.content] == ["text"]
    plain = client.messages.create(
        **say(model=stories(), max_tokens=1100, thinking=thinking, temperature=1)
    )
    assert [block.type for block in plain.content] == ["text"]


class Pet(BaseModel):
    # The client takes bounds of numbers out of the schema.
    kind: Literal["cat", "dog"]
    good: bool


@check("52", "parse() gives an object, and effort is taken")
def forms():
    ask = {"model": DEMO, "max_tokens": 400, "messages": ASK, "output_format": Pet}
    assert isinstance(client.messages.parse(**ask).parsed_output, Pet)
    with client.messages.stream(**ask) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Pet)
    assert client.messages.create(
        **say(output_config={"effort": "low"}, thinking={"type": "adaptive"})
    ).content


@check("52", "models are listed in the client's own shape")
def models():
    listed = client.models.list()
    assert (
        [m.id for m in listed] == ["demo:latest"]
        and listed.data[0].type == "model"
        and not listed.has_more
    )
    assert client.models.retrieve(DEMO).created_at.year >= 1970
    refused(anthropic.NotFoundError, lambda: client.models.retrieve("no-such-model"))


def refused(kind, call, says=None):
    try:
        call()
    except kind as error:
        body = error.body
        assert (
            body["type"] == "error"
            and body["error"]["type"]
            and body["request_id"].startswith("req_")
        ), body
        assert says is None or body["error"]["message"] == says, body
        return
    raise AssertionError("not refused")


@check("52", "errors are of the client's own kinds")
def errors():
    refused(anthropic.NotFoundError, lambda: client.messages.create(**say(model="no-such-model")))
    refused(anthropic.BadRequestError, lambda: client.messages.create(**say(messages=[])))
    refused(
        anthropic.BadRequestError,
        lambda: client.messages.create(**say(max_tokens=0)),
        "max_tokens is required and must be positive",
    )
    refused(anthropic.BadRequestError, lambda: client.messages.create(**say(temperature=-1)))
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "!!!"},
    }
    refused(
        anthropic.BadRequestError,
        lambda: client.messages.create(**say(messages=[{"role": "user", "content": [image]}])),
    )
    refused(
        anthropic.NotFoundError,
        lambda: client.messages.count_tokens(model="no-such-model", messages=ASK),
    )


@check("52", "the async client does the same, side by side and left early")
def side_by_side():
    async def talk():
        async with anthropic.AsyncAnthropic(
            base_url=URL, auth_token="x", api_key=None, max_retries=0
        ) as many:
            answers = await asyncio.gather(*[many.messages.create(**say()) for _ in range(4)])
            assert len({a.content[0].text for a in answers}) == 1
            async with many.messages.stream(**say()) as stream:
                async for _ in stream.text_stream:
                    break

    asyncio.run(talk())


main()
