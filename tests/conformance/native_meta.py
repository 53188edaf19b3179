"""The root, what a server is asked before anything else, and who may ask (lines 1-6, 44, 45)."""

import re
import socket

from check import DEMO, HOST, PORT, asked, check, get, main, minilm, post, request, stories


@check("1", "GET and HEAD / say that Ollama is running")
def root():
    said, silent = get("/"), request("HEAD", "/")
    assert (said.status, said.body) == (200, b"Ollama is running")
    assert said.type.startswith("text/plain")
    assert (silent.status, silent.body) == (200, b"")


@check("2", "/api/version is a semantic version, also to HEAD")
def version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", get("/api/version").json()["version"])
    assert request("HEAD", "/api/version").status == 200
    assert request("HEAD", "/api/tags").status == 200


@check("3", "an unknown path is 404, a known one with a wrong method 405")
def paths():
    unknown = get("/api/no-such-thing")
    assert (unknown.status, unknown.body) == (404, b"404 page not found")
    for method, path in [
        ("PUT", "/api/chat"),
        ("GET", "/api/generate"),
        ("DELETE", "/v1/models"),
        ("GET", "/v1/messages"),
        ("POST", "/"),
    ]:
        assert request(method, path).status == 405, (method, path)


@check("4", "/api/tags has a list, also when it is empty")
def tags():
    reply = get("/api/tags")
    assert isinstance(reply.json()["models"], list)
    assert reply.type == "application/json; charset=utf-8"


def preflight(origin, path="/api/chat"):
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,user-agent,anthropic-version,x-api-key",
    }
    return request("OPTIONS", path, headers=headers)


@check("5", "pages of this machine may call, others may not")
def origins():
    allowed = preflight("http://localhost:3000")
    assert allowed.status == 204
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
    for header in ["content-type", "user-agent", "authorization", "anthropic-version", "x-api-key"]:
        assert header in allowed.headers["access-control-allow-headers"].lower(), header
    for method in ["GET", "POST", "DELETE", "HEAD"]:
        assert method in allowed.headers["access-control-allow-methods"]
    assert preflight("https://evil.example").status == 403
    assert preflight("http://localhost.evil.example").status == 403
    assert get("/api/tags", headers={"Origin": "https://evil.example"}).status == 403
    near = get("/api/tags", headers={"Origin": "app://obsidian.md"})
    assert near.status == 200 and near.headers["access-control-allow-origin"] == "app://obsidian.md"


@check("6", "a host name that is not this machine's is refused")
def hosts():
    assert get("/api/tags", headers={"Host": "evil.example"}).status == 403
    assert get("/api/tags", headers={"Host": f"localhost:{PORT}"}).status == 200
    # A page that was led here by its own name is of the same origin and still refused.
    same = {"Host": "evil.example:80", "Origin": "http://evil.example:80"}
    assert get("/api/tags", headers=same).status == 403
    with socket.create_connection((HOST, PORT), 10) as plain:
        plain.sendall(b"GET /api/tags HTTP/1.1\r\nConnection: close\r\n\r\n")
        status = plain.makefile("rb").readline()
    assert b" 400 " in status or b" 403 " in status, status


DETAILS = ["parent_model", "format", "family", "parameter_size", "quantization_level"]


def shown(model, **more):
    show = asked("/api/show", {"model": model, **more})
    assert show["model_info"]["general.architecture"] == show["details"]["family"]
    family = show["details"]["family"]
    for key in [
        f"{family}.context_length",
        f"{family}.embedding_length",
        "general.parameter_count",
    ]:
        assert isinstance(show["model_info"][key], int), key
    assert "tokenizer.chat_template" not in show["model_info"]
    for key in DETAILS:
        assert isinstance(show["details"][key], str), key
    assert isinstance(show["details"]["families"], list)
    assert show["capabilities"] and all(isinstance(word, str) for word in show["capabilities"])
    for key in ["modelfile", "template", "modified_at"]:
        assert isinstance(show[key], str), key
    return show


@check("44", "show tells what the demo model is")
def show_demo():
    show = shown(DEMO)
    assert {"completion", "tools", "thinking"} <= set(show["capabilities"])
    assert "tensors" in shown(DEMO, verbose=True)
    assert asked("/api/show", {"name": "DEMO:latest"})["details"] == show["details"]
    copilot = post("/api/show", {"model": DEMO}, headers={"User-Agent": "GitHubCopilotChat/0.1"})
    assert copilot.json()["model_info"]["general.basename"] == DEMO


@check("44", "show tells what a plain model and an embedding model are")
def show_files():
    assert "completion" in shown(stories())["capabilities"]
    assert shown(minilm())["capabilities"] == ["embedding"]


@check("45", "a GGUF file runs by its path, where it lies")
def by_path():
    body = {
        "model": stories(),
        "prompt": "Once upon a time",
        "stream": False,
        "options": {"num_predict": 8, "temperature": 0},
    }
    answer = asked("/api/generate", body)
    assert answer["eval_count"] == 8 and answer["model"] == stories()
    # A page may not name files.
    from_page = post("/api/generate", body, headers={"Origin": "http://localhost:3000"})
    assert from_page.status == 404


@check("-", "health, metrics and /v1/models answer")
def own():
    assert get("/health").json()["status"] == "ok"
    assert b"oprel_models_loaded" in get("/metrics").body
    # Who asks for OpenMetrics gets it; others the format before it, which has no end.
    assert b"# EOF" not in get("/metrics").body
    asked_for = get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert asked_for.body.endswith(b"# EOF\n")
    listed = get("/v1/models").json()
    assert listed["object"] == "list" and listed["data"][0]["object"] == "model"


@check("-", "models are loaded, counted in and unloaded by hand")
def by_hand():
    assert asked("/load", {"model": DEMO})["context"] == 1024
    assert [m["name"] for m in get("/models").json()["models"]].count("demo:latest") == 1
    text = "Grüße, 世界 👋"
    counted = asked("/tokenize", {"model": DEMO, "text": text, "add_special": False})
    assert counted["count"] == len(counted["tokens"]) > 0
    assert asked("/detokenize", {"model": DEMO, "tokens": counted["tokens"]})["text"] == text
    assert asked("/unload", {"model": DEMO})["unloaded"] is True


main()
