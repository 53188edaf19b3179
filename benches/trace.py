#!/usr/bin/env python3
"""An agent's trace: a context that grows turn by turn, `oprel serve` beside llama-server, both over HTTP, interleaved.

    trace.py --oprel target/release/oprel --server "COMMAND OF llama-server" MODEL.gguf
             [--turns 20] [--tokens 30000] [--gen-tokens 64] [--threads 2] [--rounds 1]

Every turn sends all tokens so far, the server's own answers among them, and new ones (what a tool gave back), and waits for
so many tokens, greedy, without an end. Prompt caches are on, as servers have them by default. Prints JSON (turns to standard error): for each
server the whole time, the time of each turn and the tokens that it found in its cache; then the ratio.
"""
import argparse, json, os, shlex, signal, statistics, subprocess, sys, tempfile, time, urllib.request

from serving import free_port


def post(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=3600) as answer:
        return answer.read().decode()


def wait(port, path="/health"):
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


class LlamaServer:
    def __init__(self, o):
        self.port = free_port()
        command = shlex.split(o.server) + ["-m", o.model, "--host", "127.0.0.1", "--port", str(self.port), "-t", str(o.threads),
                                           "-tb", str(o.threads), "-np", "1", "-c", str(o.context), "-ub", "512"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait(self.port)

    def turn(self, tokens, n):
        answer = json.loads(post(self.port, "/completion", {
            "prompt": tokens, "n_predict": n, "temperature": 0, "ignore_eos": True, "cache_prompt": True, "return_tokens": True}))
        return answer["tokens"], answer["timings"].get("cache_n", 0)


class Oprel:
    def __init__(self, o):
        self.port, self.model = free_port(), os.path.abspath(o.model)
        self.home = tempfile.TemporaryDirectory()
        command = [o.oprel, "serve", "--port", str(self.port), "--no-socket", "-t", str(o.threads), "-c", str(o.context)]
        self.process = subprocess.Popen(command, env={**os.environ, "OPREL_HOME": self.home.name},
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait(self.port)

    def turn(self, tokens, n):
        body = {"model": self.model, "sampling": {"temperature": 0},
                "request": {"input": {"tokens": tokens}, "limits": {"max_tokens": n}, "ignore_end": True}}
        made, cached = [], 0
        for line in post(self.port, "/oprel/generate", body).splitlines():
            event = json.loads(line)["event"]
            if "text" in event:
                made += [token["id"] for token in event["text"].get("tokens", [])]
            elif "usage" in event:
                cached = event["usage"]["cached_tokens"]
            elif "error" in event:
                raise SystemExit(event)
        return made, cached


def run(server, o):
    try:
        server.turn([11] * 8, 2)
        tokens, new, turns, found = [], o.tokens // o.turns - o.gen_tokens, [], 0
        start = time.time()
        for turn in range(o.turns):
            tokens += [(len(tokens) + p) * 7919 % 30000 + 10 for p in range(new)]
            before = time.time()
            made, cached = server.turn(tokens, o.gen_tokens)
            turns.append(round(time.time() - before, 3))
            print(type(server).__name__, "turn", turn, turns[-1], "s,", cached, "cached", file=sys.stderr, flush=True)
            assert len(made) == o.gen_tokens, (len(made), turn)
            tokens += made
            found += cached
        return {"total_s": time.time() - start, "turns_s": turns, "cached": found, "context": len(tokens)}
    finally:
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    a.add_argument("--oprel", required=True)
    a.add_argument("--server", required=True)
    for name, usual in [("turns", 20), ("tokens", 30000), ("gen-tokens", 64), ("threads", 2), ("rounds", 1)]:
        a.add_argument(f"--{name}", type=int, default=usual)
    o = a.parse_args()
    o.context = o.tokens + 1024
    rounds = [{"oprel": run(Oprel(o), o), "llama-server": run(LlamaServer(o), o)} for _ in range(o.rounds)]
    median = lambda who: statistics.median(r[who]["total_s"] for r in rounds)
    print(json.dumps({"rounds": rounds, "ratio": median("llama-server") / median("oprel")}))


if __name__ == "__main__":
    main()
