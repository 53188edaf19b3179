#!/usr/bin/env python3
"""Makes mixes.txt and sums.txt: which types llama.cpp gives the tensors of the models of models.txt, and the SHA-256 of what
it makes of the demo model (Q4_0 to Q5_1: of all matrices alike).

    make_golden.py [SCRATCH FOLDER]

Needs gguf, numpy and llama-cpp-python 0.3.36. A line of mixes.txt is a model, a mix, whether there is an importance matrix, and
for each tensor of the model's description that is a matrix the types it has layer by layer, each with how many in a row have it.
"""
import ctypes, hashlib, itertools, os, re, sys, tempfile
import gguf, llama_cpp as L, numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.join(HERE, "../../../../models/demo/oprel-demo-q8_0.gguf")
QUIET = L.llama_log_callback(lambda level, text, data: None)
PREFIX = ["LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_"]
MIXES = """F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K
IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS IQ3_S IQ3_M IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4_MOE""".split()
PLAIN = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0".split()
NEED = "Q2_K_S IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS".split()


class Entry(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t)]


def number(mix):
    return next(getattr(L, p + mix) for p in PREFIX if hasattr(L, p + mix))


def quantize(source, to, mix, imatrix=None, **more):
    params = L.llama_model_quantize_default_params()
    params.ftype, params.nthread = number(mix), 1
    for key, value in more.items():
        setattr(params, key, value)
    if imatrix:
        entries = (Entry * (len(imatrix) + 1))()
        for entry, (name, values) in zip(entries, imatrix.items()):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = ctypes.cast(entries, type(params.imatrix))
    return L.llama_model_quantize(source.encode(), to.encode(), ctypes.byref(params)) == 0


def models():
    for line in open(os.path.join(HERE, "models.txt")):
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] == "model":
            model = {"name": words[1], "arch": words[2], "layers": int(words[3]), "kv": [], "tensors": []}
            yield model
        elif words[0] == "kv":
            model["kv"].append(words[1:])
        else:
            model["tensors"].append((words[1], [int(w) for w in words[2:]]))


def tensors(model):
    for name, shape in model["tensors"]:
        layers = re.search(r"\{(?:(\d+)-(\d+))?\}", name)
        if not layers:
            yield name, shape
            continue
        first, last = (int(layers[1]), int(layers[2])) if layers[1] else (0, model["layers"] - 1)
        for layer in range(first, last + 1):
            yield name.replace(layers[0], str(layer)), shape


def write(model, path):
    w = gguf.GGUFWriter(path, model["arch"])
    common = [["block_count", "u32", model["layers"]], ["embedding_length", "u32", 256], ["context_length", "u32", 64],
              ["feed_forward_length", "u32", 256], ["attention.layer_norm_rms_epsilon", "f32", 0.00001]]
    for key, ty, value in common + model["kv"]:
        key = f"{model['arch']}.{key}"
        w.add_uint32(key, int(value)) if ty == "u32" else w.add_float32(key, float(value))
    for name, shape in tensors(model):
        w.add_tensor(name, np.full(shape[::-1], 0.5, np.float16 if len(shape) > 1 else np.float32))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def main():
    L.llama_log_set(QUIET, None)
    L.llama_backend_init()
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    to = os.path.join(folder, "to.gguf")
    lines = []
    for model in list(models()):
        source = os.path.join(folder, model["name"] + ".gguf")
        write(model, source)
        ones = {n: np.ones(s[0] * (s[2] if len(s) > 2 else 1), np.float32) for n, s in tensors(model) if len(s) > 1}
        for mix, known in itertools.product(MIXES, (False, True)):
            if mix in NEED and not known or mix in PLAIN[:3] and known:
                continue
            if not quantize(source, to, mix, ones if known else None):
                print("refused:", model["name"], mix, known)
                continue
            types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(to).tensors}
            kinds = [[types[name] for name, _ in tensors({**model, "tensors": [kind]})] for kind in model["tensors"] if len(kind[1]) > 1]
            runs = [",".join(f"{ty}:{len(list(run))}" for ty, run in itertools.groupby(kind)) for kind in kinds]
            lines.append(f"{model['name']} {mix} {'imatrix' if known else 'alone'} {' '.join(runs)}\n")
    open(os.path.join(HERE, "mixes.txt"), "w").writelines(lines)
    sums = []
    for mix in PLAIN:
        assert quantize(DEMO, to, mix, allow_requantize=True, pure=mix in PLAIN[3:7])
        sums.append(f"{mix} {hashlib.sha256(open(to, 'rb').read()).hexdigest()}\n")
    open(os.path.join(HERE, "sums.txt"), "w").writelines(sums)


if __name__ == "__main__":
    main()
