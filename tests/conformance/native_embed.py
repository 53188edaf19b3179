"""Vectors, over plain HTTP (lines 29-34)."""

import base64
import math
import struct

from check import DEMO, asked, check, error, main, minilm

TEXTS = ["The sky is blue.", "Grass is green", "Why is the sky blue?", "x " * 60, "世界 👋"]


def embed(texts, **more):
    return asked("/api/embed", {"model": minilm(), "input": texts, **more})


def norm(vector):
    return math.sqrt(sum(x * x for x in vector))


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / norm(a) / norm(b)


def furthest(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


@check("29", "vectors have length 1, and a batch says what each text says alone")
def batches():
    together = embed(TEXTS)
    assert len(together["embeddings"]) == len(TEXTS) and together["prompt_eval_count"] > 0
    for text, vector in zip(TEXTS, together["embeddings"], strict=True):
        assert abs(norm(vector) - 1) < 1e-5
        alone = embed(text)["embeddings"]
        assert len(alone) == 1 and furthest(alone[0], vector) < 1e-6
    near = cosine(together["embeddings"][0], together["embeddings"][2])
    assert near > 0.6 > cosine(together["embeddings"][0], together["embeddings"][4])


@check("30", "dimensions cut a vector, which then has length 1 again")
def dimensions():
    whole = embed("Hello")["embeddings"][0]
    short = embed("Hello", dimensions=64)["embeddings"][0]
    assert len(short) == 64 and abs(norm(short) - 1) < 1e-5
    assert cosine(short, whole[:64]) > 0.999999
    error("/api/embed", {"model": minilm(), "input": "x", "dimensions": 100000}, 400)


@check("31", "no input gives no vectors, an empty text gives one")
def nothing():
    assert embed([])["embeddings"] == []
    assert asked("/api/embed", {"model": minilm()})["embeddings"] == []
    assert len(embed([""])["embeddings"]) == 1
    assert len(embed(["a", "", "b"])["embeddings"]) == 3
    for wrong in [1, {"a": 1}, [1, "a"], [["a"]], True]:
        error("/api/embed", {"model": minilm(), "input": wrong}, 400, "invalid input type")
    error("/api/embeddings", {"prompt": "x"}, 400, "model is required")


@check("32", "a text that is too long is cut, or refused if that is wished")
def long():
    text = "the quick brown fox " * 400
    assert len(embed(text)["embeddings"]) == 1
    body = {"model": minilm(), "input": ["short", text], "truncate": False}
    error("/api/embed", body, 400, "the input length exceeds the context length")


@check("33", "the legacy route gives one vector")
def legacy():
    one = asked("/api/embeddings", {"model": minilm(), "prompt": "Hello"})
    assert set(one) >= {"embedding"} and isinstance(one["embedding"][0], float)
    assert cosine(one["embedding"], embed("Hello")["embeddings"][0]) > 0.99999
    assert asked("/api/embeddings", {"model": minilm(), "prompt": ""})["embedding"] == []


@check("34", "/v1/embeddings gives floats, their bytes in base64, and takes tokens")
def compatible():
    body = {"model": minilm(), "input": ["Hello", "world"]}
    floats = asked("/v1/embeddings", body)
    assert floats["object"] == "list" and floats["usage"]["prompt_tokens"] > 0
    packed = asked("/v1/embeddings", {**body, "encoding_format": "base64"})
    for plain, coded in zip(floats["data"], packed["data"], strict=True):
        raw = base64.b64decode(coded["embedding"])
        vector = struct.unpack(f"<{len(raw) // 4}f", raw)
        assert furthest(vector, plain["embedding"]) < 1e-6 and plain["index"] == coded["index"]
    tokens = asked("/tokenize", {"model": minilm(), "text": "Hello"})["tokens"]
    by_tokens = asked("/v1/embeddings", {**body, "input": tokens})["data"][0]["embedding"]
    assert furthest(by_tokens, floats["data"][0]["embedding"]) < 1e-6
    assert len(asked("/v1/embeddings", {**body, "input": [tokens, tokens]})["data"]) == 2
    for wrong in [None, [], {}, 3]:
        error("/v1/embeddings", {**body, "input": wrong}, 400)


@check("-", "a model that only embeds does not generate, in the words of the field")
def only_embeds():
    name = minilm()
    says = f'"{name}" does not support '
    error("/api/generate", {"model": name, "prompt": "Hi"}, 400, says + "generate")
    messages = [{"role": "user", "content": "Hi"}]
    error("/api/chat", {"model": name, "messages": messages}, 400, says + "chat")


@check("-", "a model that generates embeds as well")
def speakers_embed():
    vector = asked("/api/embed", {"model": DEMO, "input": "Hello"})["embeddings"][0]
    assert abs(norm(vector) - 1) < 1e-5


main()
