#!/usr/bin/env python3
"""Writes the toy vocabularies of this folder and `golden.json`: what llama.cpp makes of texts with them.

    pip install gguf llama-cpp-python==0.3.36 && python3 make.py

For each pre-tokenizer name, one byte-level vocabulary in which nearly every pair of letters merges, so that a cut in
another place shows; for each other kind of vocabulary a small one. The first texts come with their ids, the random ones
with a sum over them (FNV-1a, an id a step). Special tokens never overlap with others of their length: which of them
llama.cpp finds first is not defined.
"""
import ctypes, json, os, random, struct, sys, tempfile

import gguf
import llama_cpp as L

HERE = os.path.dirname(os.path.abspath(__file__))
R = random.Random(20261123)

CHOSEN = [
    "", " ", "  ", "\n", " \n\n x", "Hello world", " Hello  world ", "it's IT'S we'll WE'LL O'Neil 'tis", "don't'S'Re",
    "camelCase HTTPServer ÉCOLE éA ÉaB ÉABC", "1 12 123 1234 12345 1234567 1,234.56 ٣٤٥٦ ½²Ⅷ", "a1b22c333d4444",
    "def f(x):\n    return x + 1\n\n\tpass\r\n", "a\n/\nb //c\n\n/", "x   y\t\tz \t\n  ", "!!! ?! ... -- => </div> #tag @me $5 €5",
    "你好，世界。東京タワー ｶﾞ 한국어 ㅎㅎ ㄅㄆ", "Привет мир! नमस्ते สวัสดี مرحبا", "e\u0301a\u0301\u0301 \u0301x !\u0301", "👩‍👩‍👧 🏳️‍🌈🚀",
    "a\u00a0b\u3000c\u2028d\u0085e\ufefff\u200bg", "\u0000\u0001\u007f\u0080\ufffd\ue000\U000e0100", "<sentinel:12>IMGIMGABCZ IMGIMGABCDEZ",
    "<think>ab</think><|im_end|> <mask> x</s>\n\n\n", "▁a▁▁b Ġ <0x0A>", "<dna>ACGTACGTAC</dna> ACGTAC <dna>acgNN", " " * 37 + "x" + "\n" * 9,
]
POOLS = [
    [chr(c) for c in range(32, 127)], list("abcdeth"), list("ABCdef"), list("0123456789"), list(" \n\t\r  \n"), list("'\"!?.,;:-_()[]{}<>/|"),
    [chr(c) for c in range(0xA0, 0x250)], [chr(c) for c in range(0x300, 0x340)], [chr(c) for c in range(0x370, 0x530)],
    [chr(c) for c in range(0x590, 0x700)], [chr(c) for c in range(0x900, 0xE80)], [chr(c) for c in range(0x1680, 0x1810)],
    [chr(c) for c in range(0x2000, 0x2070)], [chr(c) for c in range(0x2070, 0x2C00)], [chr(c) for c in range(0x3000, 0x3200)],
    [chr(c) for c in range(0x4E00, 0x4F00)] + list("\u9fa5\u9fa6\u9fff\u3400\U00020000\U0002b820\uf900"), [chr(c) for c in range(0xAC00, 0xAD00)],
    [chr(c) for c in range(0xFB00, 0xFFFE)], [chr(c) for c in range(0x1F300, 0x1F700)], [chr(c) for c in range(0x10000, 0x12000)],
    list("\u200d\ufe0f\u3000\u00a0\u0085\u2028\u202f\u1680\ufeff\u200b\u00ad\u0301"), [chr(c) for c in range(1, 32)], list("½²٣５Ⅷ㊄𝟘১๓①൰"),
    ["'s", "'LL", "'ve", " the", "hello", "123", "...", "\n\n", "    ", "<think>", "<mask>", "<|im_end|>", "ÉA", "éB", "/\n"],
]


def random_text():
    pools = [R.choice(POOLS) for _ in range(R.randint(1, 4))]
    return "".join(R.choice(R.choice(pools if R.random() < 0.8 else POOLS)) for _ in range(R.randint(5, 50)))


TEXTS = CHOSEN + [random_text() for _ in range(140)]
NAMES = """default minicpm5 llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano deepseek-llm deepseek-coder
deepseek-v3 spark2_5 youtu falcon mpt starcoder gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jais-2
gemma4 granite-embed-multi-311m sarvam-moe jina-v1-en jina-v2-code roberta-bpe refact command-r qwen2 deepseek-r1-qwen kormo f2llmv2 qwen35
stablelm2 olmo dbrx smaug-bpe poro-chat chatglm-bpe glm4 glm5 viking jais tekken smollm codeshell bloom gpt3-finnish exaone exaone4 exaone-moe
chameleon minerva-7b megrez gpt-4o llama4 kanana2 talkie granite-embed-multi-97m tiny_aya cohere2moe superbpe trillion granite-docling
bailingmoe bailingmoe2 llada-moe seed-coder hunyuan hunyuan-dense hy_v4 joyai-llm kimi-k2 ufakzeka grok-2 afmoe laguna minimax-m2 solar-open
mellum2""".split()


def write(path, model, tokens, types, merges=None, scores=None, **metadata):
    w = gguf.GGUFWriter(path, "llama")
    w.add_string("tokenizer.ggml.model", model)
    w.add_array("tokenizer.ggml.tokens", tokens)
    w.add_array("tokenizer.ggml.token_type", types)
    if scores:
        w.add_array("tokenizer.ggml.scores", scores)
    if merges:
        w.add_array("tokenizer.ggml.merges", merges)
    for key, value in metadata.items():
        key = "general.name" if key == "name" else f"tokenizer.ggml.{key}"
        add = {bool: w.add_bool, int: w.add_uint32, str: w.add_string, bytes: w.add_array}[type(value)]
        add(key.replace("__", "."), value)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.close()


def byte_letters():
    own, n, letters = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)], 0, []
    for b in range(256):
        letters.append(chr(b) if b in own else chr(256 + n))
        n += b not in own
    return letters


LETTERS = byte_letters()
ALPHABET = list("abcdehlnorstwABCDEH0123.,!?'-") + list("éÉßЖдпривет你好世界한국のカ🚀\u0301")


def unique(tokens, taken=()):
    return [t for t in dict.fromkeys(tokens) if t not in set(taken)]


def pieces(n, alphabet, low, high, space=False):
    words = ["".join(R.choice(alphabet) for _ in range(R.randint(low, high))) for _ in range(n)]
    return [R.choice(["▁" + w, w, w, w[:1] + "▁" + w[1:] if R.random() < 0.1 else w]) for w in words] if space else words


def merge_list(words, drop):
    """Merges as training would give them, one random pair of a word after the other, and the tokens they make."""
    merges = []
    for word in words:
        parts = list(word)
        while len(parts) > 1:
            i = R.randrange(len(parts) - 1)
            merges.append((parts[i], parts[i + 1]))
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
    merges = unique(merges)
    R.shuffle(merges)
    return [f"{a} {b}" for a, b in merges], [a + b for a, b in merges if R.random() >= drop]


def pre_vocab():
    hot = [LETTERS[b] for b in b" \n\r\t'abdelrstABCELS012.,!/<\xc2\xc3\xe2\xe3\xe4\xcc\x80\x81\xa0\x82"]
    merges = [f"{a} {b}" for a in unique(hot) for b in unique(hot)]
    R.shuffle(merges)
    merges += [f"{'Ġ' * a} {'Ġ' * b}" for a, b in [(2, 2), (4, 4), (8, 4), (8, 2), (2, 1)]]
    tokens = LETTERS + [m.replace(" ", "") for m in merges]
    write("pre.gguf", "gpt2", tokens, [1] * len(tokens), merges)


SPECIAL = [("<|endoftext|>", 3), ("<think>", 4), ("</think>", 4), ("  ", 4), ("ab", 4), ("abc", 4), ("<mask>", 3), ("<s>", 3), ("</s>", 3),
           ("<|im_start|>", 3), ("<|im_end|>", 1), ("\n\n\n", 4), ("reserved", 5)]
BYTES = [(f"<0x{b:02X}>", 6) for b in range(256)]


def bpe(path, model, pre, letters, words, special, drop=0.1, **metadata):
    merges, made = merge_list(words, drop)
    body = unique(letters + made, [t for t, _ in special])
    tokens = [(t, 1) for t in body] + special
    write(path, model, [t for t, _ in tokens], [k for _, k in tokens], merges, pre=pre, **metadata)


def scored(path, model, head, body, **metadata):
    tokens = head + [(t, 1) for t in unique(body, [t for t, _ in head])]
    scores = [0.0] * len(head) + [-float(R.randint(1, 60)) / 4 for _ in tokens[len(head) :]]
    write(path, model, [t for t, _ in tokens], [k for _, k in tokens], None, scores, **metadata)


def charsmap(rules):
    """SentencePiece's precompiled map, by first fit."""
    texts, offsets = b"", {}
    for to in rules.values():
        offsets[to] = len(texts)
        texts += to.encode() + b"\0"
    tree = {}
    for source, to in rules.items():
        node = tree
        for byte in source.encode():
            node = node.setdefault(byte, {})
        node[0] = offsets[to]
    units = {0: 0}

    def place(node, at):
        children = sorted(node)
        base = next(b for b in range(1, 1 << 20) if all((at ^ b ^ c) not in units for c in children) and (at ^ b) ^ 0 not in units)
        units[at] |= base << 10 | (1 << 8 if 0 in node else 0)
        for c in children:
            units[at ^ base ^ c] = node[c] | 1 << 31 if c == 0 else c
        for c in children:
            if c:
                place(node[c], at ^ base ^ c)

    place(tree, 0)
    array = b"".join(struct.pack("<I", units.get(i, 0)) for i in range(max(units) + 256))
    return struct.pack("<I", len(array)) + array + texts


def vocabularies():
    plain = [c for c in ALPHABET if R.random() < 0.8]
    words = ["the", "▁the", "▁t", "he", "in", "▁hello", "▁world", ".▁", "▁", "▁▁", "▁▁▁▁"] + pieces(250, ALPHABET, 2, 4, True) + pieces(120, "abcdeth", 2, 5, True)
    control = [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
    special = [s for s in SPECIAL if s[0] not in ("<s>", "</s>")]
    scored("spm.gguf", "llama", control + BYTES + special, plain + words, add_eos_token=True)
    scored("spm-plain.gguf", "llama", control + BYTES + special, plain + words, add_space_prefix=False, name="Phi-3")
    rules = {"ﬁ": "fi", "Å": "Å", "①": "1", "\u3000": " ", "\t": " ", "\n": " ", "ｶﾞ": "ガ", "e\u0301": "é", "\u200b": " ", "½": "1/2"}
    for name, prefix, merge in [("t5", True, True), ("t5-plain", True, False), ("t5-merge", False, True)]:
        scored(f"{name}.gguf", "t5", [("<pad>", 3), ("</s>", 3), ("<unk>", 2)] + special, plain + words, add_space_prefix=prefix,
               remove_extra_whitespaces=merge, precompiled_charsmap=charsmap(rules))
    heads = [("[PAD]", 3), ("[UNK]", 3), ("[CLS]", 3), ("[SEP]", 3), ("[MASK]", 3)]
    spelled = ["▁" + w for w in ALPHABET + pieces(120, ALPHABET, 1, 3)] + ALPHABET + pieces(120, ALPHABET, 1, 3)
    for name, options in [("bert", {}), ("bert-cased", {"normalizer__lowercase": False}), ("bert-accents", {"normalizer__strip_accents": False})]:
        tokens = heads + [(t, 1) for t in unique(spelled)]
        write(f"{name}.gguf", "bert", [t for t, _ in tokens], [k for _, k in tokens], bos_token_id=2, seperator_token_id=3, unknown_token_id=1,
              padding_token_id=0, mask_token_id=4, **options)
    escaped = [f"\\x{b:02x}" if b < 32 or b > 126 or chr(b) in "\\'" else chr(b) for b in range(256)]
    tokens = unique(["<s>"] + escaped + pieces(150, ALPHABET, 2, 4) + [" the", "\\n\\n", "\\r\\n", "\\t\\t", " \\n", "\\xe4\\xbd"])
    write("rwkv.gguf", "rwkv", tokens, [3] + [1] * (len(tokens) - 1), eos_token_id=0)
    head = [("<|plamo:unk|>", 2), ("<|plamo:bos|>", 3), ("<|plamo:eos|>", 3), ("<|plamo:pad|>", 3)]
    scored("plamo2.gguf", "plamo2", head + BYTES + [("<think>", 4), ("</s>", 3)], plain + pieces(200, ALPHABET, 1, 4) + pieces(100, "abcdeth ", 2, 5))
    write("test.gguf", "test", [f"a{i}" for i in range(1000)] + ["<s>", "<think>"], [1] * 1000 + [3, 4])

    encode = lambda w: "".join(LETTERS[b] for b in w.encode())
    encoded = [encode(w) for w in pieces(150, ALPHABET, 2, 5) + ["the", " the", " hello", "ing", "\n\n", "   ", "'ll"]]
    bpe("llama3.gguf", "gpt2", "llama-bpe", LETTERS, encoded, SPECIAL, bos_token_id=1)
    bpe("jina.gguf", "gpt2", "jina-v2-de", LETTERS, encoded, SPECIAL, add_bos_token=True, add_eos_token=True)
    marked = [w.replace(" ", "▁") for w in pieces(200, ALPHABET + ["▁"], 2, 5) + [" the", " hello", "\n\n", "\n\n\n\n"]]
    bpe("gemma4.gguf", "gemma4", "any", ALPHABET + ["▁", "\n"], marked, SPECIAL + BYTES, bos_token_id=2)
    bpe("whitespace.gguf", "whitespace", "whitespace", ALPHABET, pieces(200, ALPHABET, 2, 5), SPECIAL + BYTES, normalizer__lowercase=True)
    kmers = unique(["ACGTAC", "GTACAA", "ACGTAA"] + pieces(60, "ACGT", 6, 6))
    bpe("dna.gguf", "hybriddna", "qwen2", LETTERS, encoded, SPECIAL + [("<dna>", 1), ("</dna>", 1), ("<oov>", 1)] + [(k + "\ue000", 1) for k in kmers])


def total(ids):
    h = 2166136261
    for i in ids:
        h = ((h ^ i) * 16777619) & 0xFFFFFFFF
    return h


@L.llama_log_callback
def quiet(level, text, data):
    pass


class Reference:
    def __init__(self, path):
        params = L.llama_model_default_params()
        params.vocab_only = True
        self.model = L.llama_model_load_from_file(path.encode(), params)
        self.vocab = L.llama_model_get_vocab(self.model)

    def ids(self, text, special):
        raw = text.encode()
        buf = (L.llama_token * (2 * len(raw) + 16))()
        return list(buf[: L.llama_tokenize(self.vocab, raw, len(raw), buf, len(buf), special, special)])

    def results(self, special):
        all = [self.ids(text, special) for text in TEXTS]
        return {"ids": all[: len(CHOSEN)], "sums": [total(ids) for ids in all[len(CHOSEN) :]]}

    def about(self):
        n, buf, bytes = L.llama_vocab_n_tokens(self.vocab), ctypes.create_string_buffer(4096), []
        for i in range(n):
            length = L.llama_token_to_piece(self.vocab, i, buf, 4096, 0, True)
            bytes += list(buf.raw[:length]) + [i]
        return {"ends": [i for i in range(n) if L.llama_vocab_is_eog(self.vocab, i)], "pieces": total(bytes)}


def main():
    os.chdir(HERE)
    L.llama_log_set(quiet, None)
    pre_vocab(), vocabularies()
    groups = {}
    base = open("pre.gguf", "rb").read()
    for name in NAMES:
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            # one more entry in front of the others: the count is at byte 16
            entry = struct.pack("<Q", 18) + b"tokenizer.ggml.pre" + struct.pack("<IQ", 8, len(name)) + name.encode()
            file.write(base[:16] + struct.pack("<Q", struct.unpack("<Q", base[16:24])[0] + 1) + entry + base[24:])
            file.flush()
            groups.setdefault(json.dumps(Reference(file.name).results(False)), []).append(name)
    golden = {"texts": TEXTS, "pre": [{"names": names, **json.loads(r)} for r, names in groups.items()], "vocabs": []}
    for file in sorted(f for f in os.listdir(".") if f.endswith(".gguf") and f != "pre.gguf"):
        reference = Reference(file)
        golden["vocabs"].append({"file": file, "plain": reference.results(False), "special": reference.results(True), **reference.about()})
    with open("golden.json", "w") as out:
        json.dump(golden, out, ensure_ascii=True, separators=(",", ":"))


if __name__ == "__main__":
    main()
