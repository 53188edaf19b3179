#!/usr/bin/env python3
"""Writes the golden vectors of this folder and prints the digests of the codebooks.

    pip install gguf numpy
    python3 make_golden.py ../../../../../shared/fixtures/quant-types.gguf

dequantize.bin  one row (1024 weights) of every tensor pair `TYPE.raw`, `TYPE.f32` of that file
quantize.bin    pseudo-random rows and what gguf-py's quantizers (equal to ggml's reference ones) make of them

Both are a run of entries: u8 length and bytes of the type's name, u32 length and bytes of the
stored form, u32 length and bytes of the f32 values; integers little-endian.
"""
import struct
import sys

import gguf
import numpy as np
from gguf import quants


def entry(name, raw, values):
    name = name.encode()
    raw, values = raw.tobytes(), values.astype("<f4").tobytes()
    return (bytes([len(name)]) + name + struct.pack("<I", len(raw)) + raw
            + struct.pack("<I", len(values)) + values)


def dequantize_entries(path):
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    for name in tensors:
        if name.endswith(".raw"):
            kind = name.removesuffix(".raw")
            raw = np.ascontiguousarray(tensors[name].data).view(np.uint8).reshape(8, -1)
            yield entry(kind, raw[3], tensors[kind + ".f32"].data[3])


def source_rows():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((4, 256)).astype(np.float32)
    x[1] *= 1e-3
    x[2] = np.round(x[2] * 4) / 4      # many ties
    x[2, 32:64] = 0
    x[3, :128] = np.abs(x[3, :128]) + 10
    return x


def quantize_entries():
    x = source_rows()
    for kind in ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]:
        raw = quants.quantize(x, gguf.GGMLQuantizationType[kind])
        yield entry(kind, raw.view(np.uint8), x)


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    return h


with open("dequantize.bin", "wb") as out:
    out.writelines(dequantize_entries(sys.argv[1]))
with open("quantize.bin", "wb") as out:
    out.writelines(quantize_entries())
for kind in ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]:
    table = getattr(quants, kind)
    table.init_grid()
    grid = table.grid.reshape(table.grid_shape).astype(np.int8)
    print(f"{kind} {fnv1a(grid.tobytes()):#018x}")
