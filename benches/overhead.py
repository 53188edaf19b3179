#!/usr/bin/env python3
"""What HTTP and a worker process cost: one stream through `oprel serve` beside `oprel bench` in one process, interleaved.

    overhead.py --oprel target/release/oprel MODEL.gguf [--tokens 128] [--threads 2] [--rounds 5]

The reader takes bytes as they come and looks at them only when the answer is over. A token's time is that between the first
and the last piece, over the pieces between them, on the reader's clock. Prints JSON: every round, medians, and the
difference of the medians for a token.
"""
import argparse, json, os, signal, socket, statistics, subprocess, tempfile, time

from serving import free_port
from trace import wait


def bench(o):
    command = [o.oprel, "bench", o.model, "-p", "16", "-n", str(o.tokens), "-t", str(o.threads), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["decode_tok_s"]


def stream(port, o):
    body = json.dumps({"model": os.path.abspath(o.model), "sampling": {"temperature": 0}, "request": {
        "input": {"tokens": list(range(10, 26))}, "limits": {"max_tokens": o.tokens}, "ignore_end": True, "speculate": False}})
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(f"POST /oprel/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        came = []
        while piece := s.recv(1 << 16):
            came.append((time.perf_counter(), piece))
    times = [at for at, piece in came if b'"text"' in piece]
    events = b"".join(piece for _, piece in came).count(b'"tokens"')
    return (events - 1) / (times[-1] - times[0])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    a.add_argument("--oprel", required=True)
    for name, usual in [("tokens", 128), ("threads", 2), ("rounds", 5)]:
        a.add_argument(f"--{name}", type=int, default=usual)
    o = a.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        server = subprocess.Popen([o.oprel, "serve", "--port", str(port), "--no-socket", "-t", str(o.threads)],
                                  env={**os.environ, "OPREL_HOME": home}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait(port)
            stream(port, o)
            rounds = [{"bench": bench(o), "serve": stream(port, o)} for _ in range(o.rounds)]
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait()
    median = {who: statistics.median(r[who] for r in rounds) for who in ("bench", "serve")}
    cost = 1e6 / median["serve"] - 1e6 / median["bench"]
    print(json.dumps({"rounds": rounds, "tokens_s": median, "us_a_token": round(cost, 1)}))


if __name__ == "__main__":
    main()
