#!/usr/bin/env python3
"""oprel beside llama.cpp on the same files: interleaved, medians, in one run.

    peers.py --oprel target/release/oprel --peer ../shared/tools/peer_llama_cpp.py MODEL.gguf...
             [--prompt-tokens 512] [--gen-tokens 64] [--threads 2] [--depth 0] [--kv f16] [--rounds 3] [--repeat 1]
             [--out table.md] [--json raw.json]

For each file, each round runs oprel, llama.cpp with its repacked weights, and llama.cpp without, one after another;
ratios are to the better median of llama.cpp's two modes. Each run of oprel also measures how fast its threads read
memory. "of raw read" is decode as a part of that bandwidth over the bytes that a token needs: all weights that are
multiplied, the experts that are chosen, and keys and values at the depth of the middle of the run.

Prints a table in Markdown, row by row. A mode that fails is named with its exit status; signal 11 is -11.
"""
import argparse, datetime, json, os, platform, shlex, statistics, subprocess, sys

# Elements and bytes of a block.
BLOCKS = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24),
    "Q8_0": (32, 34), "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
    "IQ2_XXS": (256, 66), "IQ2_XS": (256, 74), "IQ2_S": (256, 82), "IQ3_XXS": (256, 98), "IQ3_S": (256, 110),
    "IQ1_S": (256, 50), "IQ1_M": (256, 56), "IQ4_NL": (32, 18), "IQ4_XS": (256, 136), "TQ1_0": (256, 54),
    "TQ2_0": (256, 66), "MXFP4": (32, 17), "NVFP4": (64, 36), "Q1_0": (128, 18),
}
KV_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32}
HEADER = ["file", "prefill, oprel", "llama.cpp", "ratio", "decode, oprel", "llama.cpp", "ratio", "of raw read",
          "raw read GB/s", "load s", "peak MB", "better mode of llama.cpp (the other)"]


def run(command):
    """What a command prints last, as JSON; if it fails, its exit status."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"failed ({done.returncode}): {shlex.join(command)}\n{done.stderr[-400:]}", file=sys.stderr)
        return {"failed": done.returncode}
    return json.loads(done.stdout.strip().splitlines()[-1])


def median(runs, key):
    values = [r[key] for r in runs if key in r]
    return statistics.median(values) if values else float("nan")


def shown(oprel, model):
    done = subprocess.run([oprel, "show", model, "--json", "--verbose"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def bytes_per_token(show, positions, kv):
    """Bytes that one decode step must read: weights, and keys and values of so many positions."""
    info, family = show["model_info"], show["details"]["family"]
    fact = lambda key, default: info.get(f"{family}.{key}") or default
    names = {t["name"] for t in show["tensors"]}
    experts = fact("expert_used_count", 0) / fact("expert_count", 1)
    total = 0
    for t in show["tensors"]:
        n = 1
        for d in t["shape"]:
            n *= d
        per, size = BLOCKS[t["type"]]
        # Of an embedding that is not the output too, one row is read.
        if t["name"] == "token_embd.weight" and "output.weight" in names:
            continue
        total += n // per * size * (experts if "_exps." in t["name"] else 1)
    heads = fact("attention.head_count_kv", fact("attention.head_count", 0))
    if isinstance(heads, list):
        heads = sum(heads) / len(heads)
    width = fact("embedding_length", 0) // max(fact("attention.head_count", 1), 1)
    dims = fact("attention.key_length", width) + fact("attention.value_length", width)
    return total + fact("block_count", 0) * heads * dims * positions * KV_BYTES[kv]


def machine():
    with open("/proc/cpuinfo") as f:
        names = [line.split(":")[1].strip() for line in f if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names)} CPUs"


def commit():
    git = lambda *args: subprocess.run(["git", *args], capture_output=True, text=True).stdout.strip()
    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")


def measure(a, model):
    """Rounds of the three, interleaved."""
    sizes = ["--prompt-tokens", a.prompt_tokens, "--gen-tokens", a.gen_tokens, "--threads", a.threads,
             "--depth", a.depth, "--repeat", a.repeat, "--kv", a.kv]
    sizes = [str(x) for x in sizes]
    peer = [sys.executable, a.peer, "bench", model, *sizes]
    runs = {"oprel": [], "repack": [], "no repack": []}
    commands = {"oprel": [a.oprel, "bench", model, "--json", *sizes], "repack": peer, "no repack": peer + ["--no-repack"]}
    for _ in range(a.rounds):
        for who, command in commands.items():
            # What failed once fails again.
            if not any("failed" in r for r in runs[who]):
                runs[who].append(run(command))
    return runs


def row(a, model, runs):
    show = shown(a.oprel, model)
    ours = runs["oprel"]
    cells, notes = [os.path.basename(model)], []
    for key, name in (("prefill_tok_s", "prefill"), ("decode_tok_s", "decode")):
        us = median(ours, key)
        modes = {mode: median(runs[mode], key) for mode in ("repack", "no repack")}
        better = max(modes, key=lambda m: modes[m] if modes[m] == modes[m] else -1)
        other = next(m for m in modes if m != better)
        cells += [f"{us:.1f}", f"{modes[better]:.1f}", f"{us / modes[better]:.2f}"]
        fails = [r["failed"] for r in runs[other] if "failed" in r]
        notes.append(f"{name} {better} ({f'failed {fails[0]}' if fails else f'{modes[other]:.1f}'})")
    raw = median(ours, "raw_read_gb_s")
    needed = bytes_per_token(show, a.depth + a.gen_tokens / 2, a.kv)
    cells += [f"{100 * median(ours, 'decode_tok_s') * needed / (raw * 1e9):.0f} %", f"{raw:.1f}",
              f"{median(ours, 'load_s'):.3f}", f"{median(ours, 'peak_rss_bytes') / 1e6:.0f}", ", ".join(notes)]
    return cells


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="+")
    ap.add_argument("--oprel", default="target/release/oprel")
    ap.add_argument("--peer", default="../shared/tools/peer_llama_cpp.py")
    ap.add_argument("--prompt-tokens", type=int, default=512)
    ap.add_argument("--gen-tokens", type=int, default=64)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--depth", type=int, default=0)
    ap.add_argument("--kv", default="f16", choices=KV_BYTES)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--repeat", type=int, default=1, help="measurements of a round, after one that is not counted")
    ap.add_argument("--out", help="also write the table to this file")
    ap.add_argument("--json", help="write every measurement to this file")
    a = ap.parse_args()
    lines, raw = [], {"machine": machine(), "commit": commit(), "date": datetime.date.today().isoformat(),
                      "options": vars(a), "runs": {}}

    def say(line):
        lines.append(line)
        print(line, flush=True)
        if a.out:
            with open(a.out, "w") as f:
                f.write("\n".join(lines) + "\n")

    isa = os.environ.get("OPREL_ISA")
    say(f"{raw['date']}; {raw['machine']}; commit {raw['commit']}; {a.threads} threads, prompt {a.prompt_tokens}, "
        f"made {a.gen_tokens}, depth {a.depth}, {a.kv} keys and values, medians of {a.rounds} rounds in turn"
        + (f", OPREL_ISA={isa}" if isa else ""))
    say("")
    say("| " + " | ".join(HEADER) + " |")
    say("|" + "---|" * len(HEADER))
    for model in a.models:
        runs = raw["runs"][os.path.basename(model)] = measure(a, model)
        say("| " + " | ".join(row(a, model, runs)) + " |")
        if a.json:
            with open(a.json, "w") as f:
                json.dump(raw, f, indent=1)


if __name__ == "__main__":
    main()
