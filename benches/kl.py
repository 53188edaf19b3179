#!/usr/bin/env python3
"""How far each quant type's logits are from those of F32, in oprel and in llama.cpp, on the same files.

    kl.py --oprel target/release/oprel --peer ../shared/tools/peer_llama_cpp.py [--types Q4_K,Q6_K]
          [--model models/demo/oprel-demo-q8_0.gguf] [--text models/demo/heldout.txt] [--window 256] [--json FILE]

The model's matrices, embedding too, are dequantized to F32 and from there written in each type by ggml's own
quantizer (without an importance matrix; with a uniform one where a type insists). The text is cut into windows,
each of which starts from nothing; the mean over all tokens of two divergences is printed:

- KL(F32 || engine): the type and the engine's arithmetic together. Standard errors and the paired difference are
  over windows, since tokens of a window are not independent.
- KL(exact || engine), where "exact" is the same file computed in f32 by the reference executor: the engine's
  arithmetic alone. That is where two engines differ, and what the first column drowns in the type's own error.

llama.cpp runs with its repacked weights and without. --oprel may be given several times, as NAME=COMMAND too.
Needs numpy, gguf and llama-cpp-python.
"""
import argparse, ctypes, importlib.util, json, os, shlex, subprocess, sys, tempfile
import numpy as np

TYPES = ("F16 BF16 Q8_0 Q6_K Q5_1 Q5_0 Q5_K Q4_1 Q4_0 Q4_K IQ4_NL IQ4_XS MXFP4 NVFP4 Q3_K IQ3_S IQ3_XXS Q2_K "
         "IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S TQ2_0 TQ1_0 Q1_0").split()


def ggml():
    """ggml's quantizers, as llama-cpp-python brings them."""
    folder = os.path.join(os.path.dirname(importlib.util.find_spec("llama_cpp").origin), "lib")
    lib = ctypes.CDLL(os.path.join(folder, "libggml-base.so"))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    lib.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    return lib


def write_as(source, out, name):
    """Writes `source` with its matrices in the type `name`."""
    import gguf
    lib, ty = ggml(), gguf.GGMLQuantizationType[name]
    reader = gguf.GGUFReader(source)
    w = gguf.GGUFWriter(out, "llama")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        value = field.contents()
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            w.add_array(key, value)
        else:
            w.add_key_value(key, value, field.types[0])
    for t in reader.tensors:
        x = np.ascontiguousarray(gguf.quants.dequantize(t.data, t.tensor_type), np.float32)
        if x.ndim < 2 or name == "F32":
            w.add_tensor(t.name, x)
            continue
        n_rows, n_cols = x.shape
        block, block_bytes = gguf.GGML_QUANT_SIZES[ty]
        to = np.zeros((n_rows, n_cols // block * block_bytes), np.uint8)
        weights = np.ones(n_cols, np.float32)
        importance = weights.ctypes.data if lib.ggml_quantize_requires_imatrix(int(ty)) else None
        n = lib.ggml_quantize_chunk(int(ty), x.ctypes.data, to.ctypes.data, 0, n_rows, n_cols, importance)
        assert n == to.nbytes, f"{t.name}: {n} bytes of {to.nbytes}"
        w.add_tensor(t.name, to, raw_dtype=ty)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def of_oprel(command, model, windows, work, extra=()):
    out = os.path.join(work, "logits.safetensors")
    rows = []
    for tokens in windows:
        tokens = ",".join(map(str, tokens))
        subprocess.run([*shlex.split(command), "logits", model, "--tokens", tokens, "--out", out, *extra], check=True)
        raw = open(out, "rb").read()
        start = 8 + int.from_bytes(raw[:8], "little")
        shape = json.loads(raw[8:start])["logits"]["shape"]
        rows.append(np.frombuffer(raw[start:], "<f4").reshape(shape))
    return rows


def of_peer(a, model, windows, work, repack):
    """In a process of its own: a crash of a mode is its result."""
    out = os.path.join(work, "peer.npy")
    command = [sys.executable, __file__, "--peer", a.peer, "--peer-run", json.dumps([model, windows, repack, out])]
    if subprocess.run(command, capture_output=True).returncode:
        return None
    return list(np.load(out))


def peer_run(a):
    spec = importlib.util.spec_from_file_location("peer", a.peer)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    L = peer.L
    model_path, windows, repack, out = json.loads(a.peer_run)
    L.llama_log_set(peer.quiet, None)
    L.llama_backend_init()
    model, ctx = peer.load(model_path, len(windows[0]) + 8, 2, len(windows[0]), repack=repack)
    n_vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    got = []
    for tokens in windows:
        L.llama_memory_clear(L.llama_get_memory(ctx), True)
        peer.decode(ctx, tokens, 0, True)
        rows = [np.ctypeslib.as_array(L.llama_get_logits_ith(ctx, i), (n_vocab,)).copy() for i in range(len(tokens))]
        got.append(np.stack(rows))
    np.save(out, np.stack(got))


def log_p(x):
    x = x.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def divergence(of, from_):
    """Mean KL(of || from_) of each window."""
    def mean(p, q):
        p, q = log_p(p), log_p(q)
        return float((np.exp(p) * (p - q)).sum(axis=1).mean())
    return np.array([mean(p, q) for p, q in zip(of, from_)])


def mean_and_error(x):
    return float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--oprel", action="append")
    ap.add_argument("--peer", default="../shared/tools/peer_llama_cpp.py")
    ap.add_argument("--types", default=",".join(TYPES))
    ap.add_argument("--model", default="models/demo/oprel-demo-q8_0.gguf")
    ap.add_argument("--text", default="models/demo/heldout.txt")
    ap.add_argument("--window", type=int, default=256)
    ap.add_argument("--windows", type=int, help="most windows")
    ap.add_argument("--json", help="append a line of each window's divergences for each type")
    ap.add_argument("--peer-run", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.peer_run:
        return peer_run(a)
    ours = [o.split("=", 1) if "=" in o.split()[0] else ["oprel", o] for o in a.oprel or ["target/release/oprel"]]
    first = shlex.split(ours[0][1])
    text = open(a.text, encoding="utf-8").read()
    done = subprocess.run([*first, "tokenize", a.model, "--json", "--no-special"], input=text, capture_output=True, text=True, check=True)
    ids = json.loads(done.stdout)
    windows = [ids[i:i + a.window] for i in range(0, len(ids) - a.window + 1, a.window)][:a.windows]
    with tempfile.TemporaryDirectory() as work:
        compare(a, ours, windows, work)


def compare(a, ours, windows, work):
    exact = ["--exec", "candle", "--kv", "f32"]
    full = os.path.join(work, "F32.gguf")
    write_as(a.model, full, "F32")
    reference = of_oprel(ours[0][1], full, windows, work, exact)
    print(f"{len(windows)} windows of {a.window} tokens; F32: KL(candle || oprel) "
          f"{divergence(reference, of_oprel(ours[0][1], full, windows, work)).mean():.1e}, KL(candle || llama.cpp) "
          f"{divergence(reference, of_peer(a, full, windows, work, False)).mean():.1e}\n")
    names = [name for name, _ in ours] + ["llama.cpp", "repacked"]
    print("| type | " + " | ".join(f"KL(F32), {n}" for n in names) + " | " + " | ".join(f"{n} - best of llama.cpp" for n, _ in ours)
          + " | " + " | ".join(f"KL(exact), {n}" for n in names) + " |")
    print("|---" * (1 + 2 * len(names) + len(ours)) + "|")
    for name in a.types.split(","):
        model = os.path.join(work, name + ".gguf")
        write_as(a.model, model, name)
        same = of_oprel(ours[0][1], model, windows, work, exact)
        runs = [of_oprel(command, model, windows, work) for _, command in ours]
        runs += [of_peer(a, model, windows, work, repack) for repack in (False, True)]
        os.remove(model)
        kls = [None if r is None else divergence(reference, r) for r in runs]
        alone = [None if r is None else divergence(same, r) for r in runs]
        best = min((k for k in kls[len(ours):] if k is not None), key=np.mean)
        cells = ["crashed" if k is None else "{:.5f} ± {:.5f}".format(*mean_and_error(k)) for k in kls]
        cells += ["{:+.1e} ± {:.1e}".format(*mean_and_error(k - best)) for k in kls[:len(ours)]]
        cells += ["crashed" if k is None else "{:.1e} ± {:.0e}".format(*mean_and_error(k)) for k in alone]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        if a.json:
            lists = [[None if k is None else k.tolist() for k in part] for part in (kls, alone)]
            with open(a.json, "a") as f:
                f.write(json.dumps({"type": name, "names": names, "kl": lists[0], "alone": lists[1]}) + "\n")


if __name__ == "__main__":
    main()
