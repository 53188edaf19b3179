#!/usr/bin/env python3
"""oprel beside llama.cpp on the same files: interleaved, medians, in one run.

    peers.py --oprel target/release/oprel --peer ../shared/tools/peer_llama_cpp.py MODEL.gguf...
             [--prompt-tokens 512] [--gen-tokens 64] [--threads 2] [--rounds 3] [--depth 0]

Each round runs oprel, llama.cpp with its repacked weights and llama.cpp without (ratios are to the better of the
two), on every file. Prints a table in Markdown, with the read bandwidth that oprel measured in the same rounds.
"""
import argparse, json, os, platform, statistics, subprocess, sys


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"failed ({done.returncode}): {' '.join(command)}\n{done.stderr[-400:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def median(runs, key):
    values = [r[key] for r in runs if r and r.get(key)]
    return statistics.median(values) if values else float("nan")


def cpu():
    with open("/proc/cpuinfo") as f:
        names = [line.split(":")[1].strip() for line in f if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names)} CPUs"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="+")
    ap.add_argument("--oprel", default="target/release/oprel")
    ap.add_argument("--peer", default="../shared/tools/peer_llama_cpp.py")
    ap.add_argument("--prompt-tokens", type=int, default=512)
    ap.add_argument("--gen-tokens", type=int, default=64)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--depth", type=int, default=0)
    ap.add_argument("--rounds", type=int, default=3)
    a = ap.parse_args()
    size = ["--prompt-tokens", a.prompt_tokens, "--gen-tokens", a.gen_tokens, "--threads", a.threads]
    size = [str(x) for x in size + ["--repeat", 1, "--depth", a.depth]]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{cpu()}; commit {commit}; {a.threads} threads, prompt {a.prompt_tokens}, made {a.gen_tokens}, "
          f"depth {a.depth}, medians of {a.rounds} rounds\n")
    print("| file | prefill, oprel | llama.cpp | ratio | decode, oprel | llama.cpp | ratio | raw read GB/s | load s | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for model in a.models:
        ours, packed, plain = [], [], []
        for _ in range(a.rounds):
            ours.append(run([a.oprel, "bench", model, "--json"] + size))
            packed.append(run([sys.executable, a.peer, "bench", model] + size))
            plain.append(run([sys.executable, a.peer, "bench", model, "--no-repack"] + size))
        cells = [os.path.basename(model)]
        for key in ("prefill_tok_s", "decode_tok_s"):
            us = median(ours, key)
            them = max((x for x in (median(packed, key), median(plain, key)) if x == x), default=float("nan"))
            cells += [f"{us:.1f}", f"{them:.1f}", f"{us / them:.2f}"]
        cells += [f"{median(ours, 'raw_read_gb_s'):.1f}", f"{median(ours, 'load_s'):.3f}",
                  f"{median(ours, 'peak_rss_bytes') / 1e6:.0f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
