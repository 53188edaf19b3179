#!/usr/bin/env python3
"""llama.cpp's logits of the variants, into variants.safetensors beside this file.

    pip install gguf numpy safetensors llama-cpp-python==0.3.36
    make_variants.py SHARED        SHARED: the folder with zoo/make_zoo.py and tools/peer_llama_cpp.py

A variant is a model of the zoo with some metadata and tensor shapes changed; weights of seed 7, tokens
(37 i + 11) mod 128 for i in 0..100, logits of the last 8.
"""
import json, os, subprocess, sys, tempfile
import numpy as np
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENS = [(37 * i + 11) % 128 for i in range(100)]
FOLDERS = {"plain": "skeletons", "hard": "skeletons-hard"}


def changed(shared, variant):
    with open(f"{shared}/zoo/{FOLDERS[variant['set']]}/{variant['of']}.json") as f:
        skeleton = json.load(f)
    for entry in skeleton["kv"]:
        entry[2] = variant["kv"].get(entry[0], entry[2])
    for tensor in skeleton["tensors"]:
        for suffix, shape in variant["shapes"].items():
            if tensor[0].endswith("." + suffix):
                tensor[1] = shape
    return skeleton


def main(shared):
    sys.path.insert(0, f"{shared}/zoo")
    import make_zoo

    logits = {}
    with open(f"{HERE}/variants.json") as f:
        variants = json.load(f)
    with tempfile.TemporaryDirectory() as tmp:
        for v in variants:
            make_zoo.write(changed(shared, v), f"{tmp}/m.gguf", 7, "f32")
            peer = [f"{shared}/tools/peer_llama_cpp.py", "logits", f"{tmp}/m.gguf", "--out", f"{tmp}/m.npz"]
            subprocess.run([sys.executable, *peer, "--tokens", ",".join(map(str, TOKENS))], check=True)
            logits[v["name"]] = np.load(f"{tmp}/m.npz")["logits"][-8:].astype(np.float32)
    save_file(logits, f"{HERE}/variants.safetensors")


main(sys.argv[1])
