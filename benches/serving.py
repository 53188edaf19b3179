#!/usr/bin/env python3
"""Many sequences on one model: oprel beside llama-server, interleaved, medians.

    serving.py --oprel target/release/oprel --server "COMMAND OF llama-server" MODEL.gguf
               [--sequences 32] [--prompt-tokens 512] [--shared-prefix 448] [--gen-tokens 64] [--threads 2] [--rounds 3]

Each round runs `oprel bench --parallel` and, after it, a fresh llama-server with as many slots, its prompt cache on,
one warm-up request, and all requests at once over its own HTTP interface with token ids as prompts. The time is from
the first request to the last answer. Prints JSON: every round, medians and the ratio of the medians.
"""
import argparse, concurrent.futures, json, shlex, socket, statistics, subprocess, time, urllib.request


def prompts(o):
    own = lambda p, i: p * 7919 if p < o.shared_prefix else p * 7919 + (i + 1) * 104729
    return [[own(p, i) % 30000 + 10 for p in range(o.prompt_tokens)] for i in range(o.sequences)]


def post(port, tokens, n):
    body = {"prompt": tokens, "n_predict": n, "temperature": 0, "ignore_eos": True, "cache_prompt": True}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=3600) as answer:
        return json.load(answer)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def server_round(o):
    port = free_port()
    context = o.sequences * (o.prompt_tokens + o.gen_tokens + 32)
    command = shlex.split(o.server) + ["-m", o.model, "--host", "127.0.0.1", "--port", str(port), "-t", str(o.threads),
                                       "-tb", str(o.threads), "-np", str(o.sequences), "-c", str(context), "-ub", "512"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        post(port, [11] * 8, 2)
        start = time.time()
        with concurrent.futures.ThreadPoolExecutor(o.sequences) as pool:
            answers = list(pool.map(lambda tokens: post(port, tokens, o.gen_tokens), prompts(o)))
        seconds = time.time() - start
        made = sum(a["timings"]["predicted_n"] for a in answers)
        cached = sum(a["timings"].get("cache_n", 0) for a in answers)
        return {"total_s": seconds, "made": made, "cached": cached}
    finally:
        server.kill()
        server.wait()


def oprel_round(o):
    command = [o.oprel, "bench", o.model, "--parallel", str(o.sequences), "--prompt-tokens", str(o.prompt_tokens),
               "--shared-prefix", str(o.shared_prefix), "--gen-tokens", str(o.gen_tokens), "-t", str(o.threads), "--json"]
    return json.loads(subprocess.run(command + o.options, check=True, capture_output=True, text=True).stdout)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    a.add_argument("--oprel", required=True)
    a.add_argument("--server", required=True)
    for name, usual in [("sequences", 32), ("prompt-tokens", 512), ("shared-prefix", 448), ("gen-tokens", 64),
                        ("threads", 2), ("rounds", 3)]:
        a.add_argument(f"--{name}", type=int, default=usual)
    a.add_argument("--options", type=shlex.split, default=["--no-speculation"], help="further options of oprel bench")
    o = a.parse_args()
    rounds = [{"oprel": oprel_round(o), "llama-server": server_round(o)} for _ in range(o.rounds)]
    median = lambda who: statistics.median(r[who]["total_s"] for r in rounds)
    ours, theirs = median("oprel"), median("llama-server")
    print(json.dumps({"rounds": rounds, "oprel_s": ours, "llama_server_s": theirs, "ratio": theirs / ours}, indent=1))


if __name__ == "__main__":
    main()
