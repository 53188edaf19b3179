#!/usr/bin/env python3
"""What it costs to store keys and values in fewer bits: perplexity, and divergence from keys and values in f32.

    kv.py --oprel target/release/oprel [--types i16,f16,bf16,q8_0/q4_0] [--model models/demo/oprel-demo-q8_0.gguf]
          [--text models/demo/heldout.txt] [--window 512] [--windows N]

Types are written K/V, or once for both. The text is cut into windows, each of which starts from nothing; all their
tokens but the first are predicted. The model runs with its matrices as they are, and dequantized to F32: there
nothing else is rounded, so that the types' own errors show. Standard errors are over windows; those of perplexity
are of the paired difference from f32, as are the differences. Needs numpy, gguf and llama-cpp-python.
"""
import argparse, json, os, shlex, subprocess, tempfile
import numpy as np
from kl import divergence, log_p, mean_and_error, of_oprel, write_as

TYPES = "i16,f16,bf16,q8_0,q4_0,q8_0/q4_0,f16/q4_0,q4_0/q8_0,q4_0/f16"


def losses(windows, logits):
    """Mean negative log probability of the next token, of each window."""
    def loss(tokens, rows):
        return -log_p(rows[:-1])[np.arange(len(tokens) - 1), tokens[1:]].mean()
    return np.array([loss(np.array(t), rows) for t, rows in zip(windows, logits)])


def table(a, model, windows, work):
    print("| keys | values | bits | perplexity | difference | KL(f32 cache || type) |")
    print("|---" * 6 + "|")
    exact = exact_loss = None
    bits = {"f32": 32, "i16": 17, "f16": 16, "bf16": 16, "q8_0": 8.5, "q4_0": 4.5}
    for types in ["f32", *(t for t in a.types.split(",") if t != "f32")]:
        k, _, v = types.partition("/")
        v = v or k
        logits = of_oprel(a.oprel, model, windows, work, ["--kv", f"{k},{v}"])
        loss = losses(windows, logits)
        if exact is None:
            exact, exact_loss = logits, loss
        change = mean_and_error(np.exp(exact_loss.mean()) * (loss - exact_loss))
        kl = mean_and_error(divergence(exact, logits))
        print(f"| {k} | {v} | {(bits[k] + bits[v]) / 2:g} | {np.exp(loss.mean()):.4f} | {change[0]:+.4f} ± {change[1]:.4f} "
              f"| {kl[0]:.1e} ± {kl[1]:.0e} |", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--oprel", default="target/release/oprel")
    ap.add_argument("--types", default=TYPES)
    ap.add_argument("--model", default="models/demo/oprel-demo-q8_0.gguf")
    ap.add_argument("--text", default="models/demo/heldout.txt")
    ap.add_argument("--window", type=int, default=512)
    ap.add_argument("--windows", type=int, help="most windows")
    a = ap.parse_args()
    text = open(a.text, encoding="utf-8").read()
    done = subprocess.run([*shlex.split(a.oprel), "tokenize", a.model, "--json", "--no-special"],
                          input=text, capture_output=True, text=True, check=True)
    ids = json.loads(done.stdout)
    windows = [ids[i:i + a.window] for i in range(0, len(ids) - a.window + 1, a.window)][:a.windows]
    print(f"{len(windows)} windows of {a.window} tokens")
    with tempfile.TemporaryDirectory() as work:
        full = os.path.join(work, "F32.gguf")
        write_as(a.model, full, "F32")
        for what, model in (("matrices in F32", full), (os.path.basename(a.model), a.model)):
            print(f"\n{what}\n")
            table(a, model, windows, work)


if __name__ == "__main__":
    main()
