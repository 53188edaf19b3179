"""LangChain and LiteLLM against the server."""

import json
import os
from typing import Literal

from check import DEMO, URL, check, main, minilm

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

QUESTION = "How do I start the server?"


def langchain(**more):
    from langchain_ollama import ChatOllama

    return ChatOllama(model=DEMO, base_url=URL, temperature=0, **more)


@check("-", "LangChain talks, whole, as a stream and with usage")
def langchain_talks():
    whole = langchain().invoke(QUESTION)
    assert whole.content and whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["done_reason"] == "stop"
    parts = list(langchain().stream([("system", "Be kind."), ("human", QUESTION)]))
    assert len(parts) > 1 and "".join(part.content for part in parts)
    assert len(langchain(num_predict=3, stop=["x"], num_ctx=256, seed=1).batch([QUESTION] * 3)) == 3


@check("-", "LangChain binds tools and keeps to a form")
def langchain_tools():
    from langchain_core.messages import ToolMessage
    from langchain_core.tools import tool
    from pydantic import BaseModel, Field

    @tool
    def get_time(city: str) -> str:
        """Get the time in a city"""
        return '{"hour": 7}'

    class Pet(BaseModel):
        """A pet."""

        kind: Literal["cat", "dog"]
        age: int = Field(ge=0, le=30)

    model = langchain().bind_tools([get_time])
    asked = "What time is it in Berlin?"
    first = model.invoke(asked)
    assert first.tool_calls and first.tool_calls[0]["name"] == "get_time", first
    result = ToolMessage(
        get_time.invoke(first.tool_calls[0]["args"]), tool_call_id=first.tool_calls[0]["id"]
    )
    assert model.invoke([("human", asked), first, result]).content
    assert isinstance(langchain().with_structured_output(Pet).invoke("A pet?"), Pet)
    assert isinstance(
        json.loads(langchain(format="json", num_predict=300, seed=4).invoke("{}").content), dict
    )


@check("-", "LangChain tells thoughts apart")
def langchain_thinks():
    answer = langchain(reasoning=True).invoke(QUESTION)
    assert answer.additional_kwargs["reasoning_content"] and answer.content


@check("-", "LangChain embeds")
def langchain_embeds():
    from langchain_ollama import OllamaEmbeddings

    model = OllamaEmbeddings(model=minilm(), base_url=URL)
    documents = model.embed_documents(["The sky is blue", "Grass is green"])
    assert len(documents) == 2 and len(model.embed_query("What color is the sky?")) == len(
        documents[0]
    )


def lite(provider, **more):
    import litellm

    base = f"{URL}/v1" if provider == "openai" else URL
    return litellm.completion(
        model=f"{provider}/{DEMO}",
        api_base=base,
        api_key="unused",
        num_retries=0,
        messages=[{"role": "user", "content": QUESTION}],
        **more,
    )


@check("-", "LiteLLM talks by each of its providers, whole and as a stream")
def lite_talks():
    for provider in ["ollama_chat", "ollama", "openai", "anthropic"]:
        whole = lite(provider, max_tokens=60)
        assert whole.choices[0].message.content, provider
        assert whole.usage.completion_tokens > 0, provider
        parts = list(lite(provider, stream=True, max_tokens=60))
        assert "".join(part.choices[0].delta.content or "" for part in parts), provider


@check("-", "LiteLLM calls tools")
def lite_tools():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    clock = {"name": "get_time", "description": "Get the time in a city", "parameters": schema}
    for provider in ["openai", "anthropic"]:
        answer = lite(
            provider,
            tools=[{"type": "function", "function": clock}],
            tool_choice="required",
            max_tokens=90,
        )
        call = answer.choices[0].message.tool_calls[0].function
        assert call.name == "get_time" and json.loads(call.arguments)["city"], provider


@check("-", "LiteLLM embeds")
def lite_embeds():
    import litellm

    for provider, base in [("ollama", URL), ("openai", f"{URL}/v1")]:
        made = litellm.embedding(
            model=f"{provider}/{minilm()}",
            input=["Hello", "world"],
            api_base=base,
            api_key="unused",
        )
        assert len(made.data) == 2 and len(made.data[0]["embedding"]) == 384, provider


main()
