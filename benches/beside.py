#!/usr/bin/env python3
"""Decode speed while another process spins on one core: what is kept of the undisturbed speed.

    beside.py --oprel target/release/oprel MODEL.gguf [--gen-tokens 64] [--threads 2] [--rounds 3] [--spinners 1]

Each round measures alone, then beside processes that do nothing but count, each bound to a core of its own from the
last down. Prints both medians and their ratio.
"""
import argparse, json, os, statistics, subprocess, sys

SPIN = "import os\nos.sched_setaffinity(0, {%d})\nwhile True: pass"


def decode(a):
    command = [a.oprel, "bench", a.model, "--json", "--prompt-tokens", "1", "--repeat", "1",
               "--gen-tokens", str(a.gen_tokens), "--threads", str(a.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"failed ({done.returncode}): {done.stderr[-400:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])["decode_tok_s"]


def beside(a):
    cores = sorted(os.sched_getaffinity(0))[-a.spinners:]
    spinners = [subprocess.Popen([sys.executable, "-c", SPIN % core]) for core in cores]
    try:
        return decode(a)
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--oprel", default="target/release/oprel")
    ap.add_argument("--gen-tokens", type=int, default=64)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--spinners", type=int, default=1)
    a = ap.parse_args()
    rounds = [(decode(a), beside(a)) for _ in range(a.rounds)]
    alone, disturbed = (statistics.median(r[i] for r in rounds) for i in (0, 1))
    kept = statistics.median(b / a for a, b in rounds)
    print(f"{os.path.basename(a.model)}, {a.threads} threads, {a.spinners} spinning beside: "
          f"{alone:.1f} tokens/s alone, {disturbed:.1f} disturbed, {100 * kept:.0f} % kept")


if __name__ == "__main__":
    main()
