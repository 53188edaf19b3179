#!/usr/bin/env python3
"""Prints the table GGML of k_types.rs: errors of ggml's quantizers on the numbers of that test.

Needs numpy, gguf and llama-cpp-python 0.3.36.
"""
import ctypes, importlib.util, os
import gguf, numpy as np

folder = os.path.join(os.path.dirname(importlib.util.find_spec("llama_cpp").origin), "lib")
lib = ctypes.CDLL(os.path.join(folder, "libggml-base.so"))
lib.ggml_quantize_chunk.restype = ctypes.c_size_t
lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
ROWS, COLUMNS = 16, 512


def noise(seed, n):
    state, out = seed, []
    for _ in range(n):
        total = 0
        for _ in range(4):
            state ^= state << 13 & (1 << 64) - 1
            state ^= state >> 7
            state ^= state << 17 & (1 << 64) - 1
            total += state >> 48
        out.append(np.float32(total - 131072) / np.float32(65536))
    return np.array(out, np.float32)


normal = noise(0x9E3779B97F4A7C15, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
heavy = normal * np.abs(normal)
importance = noise(77, COLUMNS) ** 2 + np.float32(0.01)
for name in "Q2_K Q3_K Q4_K Q5_K Q6_K".split():
    ty, errors = gguf.GGMLQuantizationType[name], []
    for x in (normal, heavy):
        for weights in (None, importance):
            block, block_bytes = gguf.GGML_QUANT_SIZES[ty]
            to = np.zeros((ROWS, COLUMNS // block * block_bytes), np.uint8)
            lib.ggml_quantize_chunk(int(ty), x.ctypes.data, to.ctypes.data, 0, ROWS, COLUMNS, None if weights is None else weights.ctypes.data)
            w = np.float64(1) if weights is None else weights.astype(np.float64)
            off = (x - gguf.quants.dequantize(to, ty)).astype(np.float64)
            errors.append(f"{(w * off ** 2).sum() / (w * x.astype(np.float64) ** 2).sum():.5e}")
    print(f"    ({name}, [{', '.join(errors)}]),")
