#!/usr/bin/env python3
"""Error and speed of oprel's quantizers beside ggml's, one thread each: IQ types, ternary, fp4 and one-bit ones.

    cargo build --release -p oprel-cpu --example quantize_rows
    quantizers.py [--ours target/release/examples/quantize_rows] [--types IQ3_S,IQ2_S] [--rows 256] [--real MODEL.gguf]
                  [--golden crates/oprel-quant/tests/golden]

Rows of 1024 pseudo-random weights (normal; heavy: the square of a normal number with its sign) and, with --real, rows of
a model's matrices. Printed, for each, without importance and with: the error (sum of squared differences, weighted by the
importance of the column, over the weighted sum of squares) of both, the ratio of such errors weighted by the square of the
weight as well (what some of ggml's searches minimise without importance), and millions of weights a second.
--golden (with --real) writes ggml's errors on the small set to which oprel-quant's `tests/quantizers.rs` holds oprel.

Needs numpy and llama-cpp-python, whose ggml it calls; says that it was skipped if that is not there.
"""
import argparse, ctypes, importlib.util, os, subprocess, sys, tempfile, time

for needed in ["numpy", "llama_cpp"]:
    if importlib.util.find_spec(needed) is None:
        print(f"skipped: needs {needed}")
        sys.exit(0)
import numpy as np

NUMBERS = dict(IQ2_XXS=16, IQ2_XS=17, IQ3_XXS=18, IQ1_S=19, IQ4_NL=20, IQ3_S=21, IQ2_S=22, IQ4_XS=23, IQ1_M=29,
               TQ1_0=34, TQ2_0=35, MXFP4=39, NVFP4=40, Q1_0=41)
COLUMNS = 1024


def ggml():
    spec = importlib.util.find_spec("llama_cpp")
    lib = ctypes.CDLL(os.path.join(os.path.dirname(spec.origin), "lib", "libggml-base.so"))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    lib.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    lib.ggml_row_size.restype = ctypes.c_size_t
    lib.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]

    class Traits(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char_p), ("blck", ctypes.c_int64), ("blck_il", ctypes.c_int64), ("size", ctypes.c_size_t),
                    ("quantized", ctypes.c_bool), ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64))]
    lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    return lib


def pointer(a):
    return None if a is None else a.ctypes.data_as(ctypes.c_void_p)


def quantize(lib, name, x, importance):
    """ggml's bytes and the seconds it took; what must have an importance gets a flat one."""
    number = NUMBERS[name]
    out = np.zeros(len(x) * lib.ggml_row_size(number, x.shape[1]), np.uint8)
    if importance is None and lib.ggml_quantize_requires_imatrix(number):
        importance = np.ones(x.shape[1], np.float32)
    lib.ggml_quantize_init(number)
    start = time.perf_counter()
    lib.ggml_quantize_chunk(number, pointer(x), pointer(out), 0, len(x), x.shape[1], pointer(importance))
    return out, time.perf_counter() - start


def dequantize(lib, name, raw, shape):
    out = np.zeros(shape, np.float32)
    lib.ggml_get_type_traits(NUMBERS[name]).contents.to_float(pointer(raw), pointer(out), out.size)
    return out


def hashes(seed, n):
    """splitmix64 of seed, seed + 1, ..."""
    with np.errstate(over="ignore"):
        z = (np.arange(n, dtype=np.uint64) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def normal(seed, n):
    """Sums of twelve uniform numbers of 16 bits: exact, so that Rust makes the same."""
    parts = hashes(seed, 3 * n).reshape(n, 3)
    sums = sum((parts >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4)).astype(np.int64).sum(1)
    return (sums - 393210) / 65536.0


def made(kind, rows, columns=COLUMNS):
    x = normal(dict(normal=1, heavy=10**9)[kind], rows * columns)
    x = x if kind == "normal" else x * np.abs(x)
    return (x * 0.02).astype(np.float32).reshape(rows, columns)


def importance_of(columns):
    g = normal(2 * 10**9, columns)
    return (g * g * g * g + 0.01).astype(np.float32)


def real(path, rows):
    import gguf
    found = []
    for t in gguf.GGUFReader(path).tensors:
        if len(t.shape) == 2 and t.shape[0] * t.shape[1] % COLUMNS == 0:
            values = gguf.quants.dequantize(t.data, t.tensor_type).reshape(-1, COLUMNS)
            found.append(values[:: max(1, len(values) // 64)][:64])
    x = np.concatenate(found).astype(np.float32)
    return np.ascontiguousarray(x[:: max(1, len(x) // rows)][:rows])


def ours(binary, types, x, importance):
    with tempfile.TemporaryDirectory() as folder:
        x.tofile(f"{folder}/x")
        if importance is not None:
            importance.tofile(f"{folder}/w")
        w = "-" if importance is None else f"{folder}/w"
        said = subprocess.run([binary, str(x.shape[1]), f"{folder}/x", w, f"{folder}/q"] + types,
                              check=True, capture_output=True, text=True).stdout
        times = dict(line.split() for line in said.splitlines())
        return {t: (np.fromfile(f"{folder}/q.{t}", np.uint8), float(times[t])) for t in types}


def loss(x, y, w):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return float((w * (x - y) ** 2).sum() / (w * x * x).sum())


def compare(lib, args, kind, x, importance):
    columns = np.ones(x.shape[1]) if importance is None else importance.astype(np.float64)
    results = ours(args.ours, args.types, x, importance)
    for name in args.types:
        raw, seconds = results[name]
        theirs, their_seconds = quantize(lib, name, x, importance)
        a, b = dequantize(lib, name, raw, x.shape), dequantize(lib, name, theirs, x.shape)
        sized = columns * x.astype(np.float64) ** 2
        same = " =" if np.array_equal(raw, theirs) else ""
        ea, eb, sa, sb = loss(x, a, columns), loss(x, b, columns), loss(x, a, sized), loss(x, b, sized)
        print(f"| {name} | {kind}{', importance' if importance is not None else ''} | {ea:.6f} | {eb:.6f} | {ea / eb:.4f} | {sa / sb:.4f} "
              f"| {x.size / seconds / 1e6:.1f} | {x.size / their_seconds / 1e6:.1f} |{same}", flush=True)


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data.tobytes():
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    return h


def edges(rows):
    """Quarters, so that there are many ties, times another power of two in each 64."""
    x = np.floor(normal(3 * 10**9, rows * COLUMNS) * 4).reshape(-1, 64) / 4
    return (x * 2.0 ** (np.arange(len(x)) % 20 - 10)[:, None]).astype(np.float32).reshape(rows, COLUMNS)


def write_golden(lib, folder, args):
    """ggml's errors on a few rows, and digests of its bytes where it follows a rule; and the rows of a model that are among them."""
    sample = real(args.real, 8).astype(np.float16)
    sample.tofile(os.path.join(folder, "real.f16"))
    with open(os.path.join(folder, "quantize_errors.txt"), "w") as out:
        for kind in ["normal", "heavy", "real"]:
            x = sample.astype(np.float32) if kind == "real" else made(kind, 8)
            for weighted in [False, True]:
                w = importance_of(COLUMNS) if weighted else None
                columns = np.ones(COLUMNS) if w is None else w.astype(np.float64)
                for name in NUMBERS:
                    y = dequantize(lib, name, quantize(lib, name, x, w)[0], x.shape)
                    out.write(f"{name} {kind} {'importance' if weighted else 'plain'} {loss(x, y, columns):.9f}\n")
    with open(os.path.join(folder, "quantize_digests.txt"), "w") as out:
        for kind, x in [("normal", made("normal", 8)), ("heavy", made("heavy", 8)), ("edges", edges(8))]:
            for name in ["TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0"]:
                out.write(f"{name} {kind} {fnv1a(quantize(lib, name, x, None)[0]):#018x}\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--ours", default="target/release/examples/quantize_rows")
    p.add_argument("--types", type=lambda s: s.split(","), default=list(NUMBERS))
    p.add_argument("--rows", type=int, default=256)
    p.add_argument("--real")
    p.add_argument("--golden")
    args = p.parse_args()
    lib = ggml()
    if args.golden:
        return write_golden(lib, args.golden, args)
    print("| type | rows | oprel's error | ggml's | ratio | ratio, weighted by size | oprel Mw/s | ggml Mw/s |\n|---|---|---|---|---|---|---|---|")
    kinds = [("normal", made("normal", args.rows)), ("heavy", made("heavy", args.rows))]
    if args.real:
        kinds.append(("real", real(args.real, args.rows)))
    for kind, x in kinds:
        for importance in [None, importance_of(x.shape[1])]:
            compare(lib, args, kind, x, importance)


main()
