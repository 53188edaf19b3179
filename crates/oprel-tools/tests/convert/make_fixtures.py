#!/usr/bin/env python3
"""What conversions of tiny models must give: `python make_fixtures.py` (needs numpy and gguf) writes `cases.json`.

The oracle of `src/convert/tests.rs`. Names come from the gguf package's own map, transformations are written here a
second time over numpy. Tensors of a folder are pseudo-random numbers that the test makes again from their names; of
each tensor of the converted file the fixture holds name, shape and two sums, one of them weighed by place.
"""

import json
import os

import gguf
import numpy as np

M64 = (1 << 64) - 1


def fnv1a64(s):
    h = 0xCBF29CE484222325
    for b in s.encode():
        h = ((h ^ b) * 0x100000001B3) & M64
    return h


def uniform(name, n):
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a64(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return z


def floats(name, shape):
    z = uniform(name, int(np.prod(shape)))
    u = (z >> np.uint64(40)).astype(np.float64) / (1 << 24) * 2 - 1
    # Sixteenths of 1/16: exact in every type.
    return (np.round(u * 16) / 64).astype(np.float32).reshape(shape)


def sums(x):
    x = x.astype(np.float64).ravel()
    return [float(x.sum()), float((x * (np.arange(x.size) % 1009 + 1) / 1009).sum())]


class Case:
    def __init__(self, name, arch, cls, config, layers=2):
        self.name, self.arch, self.layers = name, arch, layers
        self.config = {"architectures": [cls], **config}
        self.map = gguf.get_tensor_name_map(arch, layers)
        self.hf, self.out, self.kv = [], {}, {}

    def read(self, name, shape):
        self.hf.append([name, list(shape), "F"])
        return floats(name, shape)

    def put(self, name, x):
        assert name not in self.out, name
        self.out[name] = x

    def gguf(self, name):
        new = self.map.get_name(name, try_suffixes=(".weight", ".bias"))
        assert new, name
        return new

    def t(self, name, shape, change=None, mapped=None):
        x = self.read(name, shape)
        self.put(self.gguf(mapped or name), change(x) if change else x)

    def json(self):
        tensors = [[n, list(reversed(x.shape)), *sums(x)] for n, x in self.out.items()]
        arch = gguf.MODEL_ARCH_NAMES[self.arch]
        kv = {k.replace("ARCH", arch): v for k, v in self.kv.items()}
        return {"name": self.name, "arch": arch, "config": self.config, "hf": self.hf, "tensors": tensors, "kv": kv}


def permute(heads):
    def f(w):
        return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
    return f


def plus1(x):
    return x + np.float32(1)


W, V, H, KV, FF = 64, 40, 4, 2, 96
D = W // H
A = gguf.MODEL_ARCH
BASE = {"hidden_size": W, "num_hidden_layers": 2, "num_attention_heads": H, "num_key_value_heads": KV,
        "intermediate_size": FF, "vocab_size": V, "max_position_embeddings": 256, "rms_norm_eps": 1e-5}
KEYS = {"ARCH.block_count": 2, "ARCH.context_length": 256, "ARCH.embedding_length": W, "ARCH.feed_forward_length": FF,
        "ARCH.attention.head_count": H, "ARCH.attention.head_count_kv": KV,
        "ARCH.attention.layer_norm_rms_epsilon": 1e-5}


def ends(c, norm=None, head=True, prefix="model."):
    c.t(prefix + "embed_tokens.weight", [V, W])
    c.t(prefix + "norm.weight", [W], norm)
    if head:
        c.t("lm_head.weight", [V, W])


def attention(c, p, q=None, k=None, bias=False, dim=D, heads=H, kv=KV, o="o_proj", o_bias=False):
    for n, rows, f in (("q_proj", heads * dim, q), ("k_proj", kv * dim, k), ("v_proj", kv * dim, None)):
        c.t(f"{p}self_attn.{n}.weight", [rows, W], f)
        if bias:
            c.t(f"{p}self_attn.{n}.bias", [rows], f)
    c.t(f"{p}self_attn.{o}.weight", [W, heads * dim])
    if o_bias:
        c.t(f"{p}self_attn.{o}.bias", [W])


def mlp(c, p, ff=FF, at="mlp."):
    c.t(f"{p}{at}gate_proj.weight", [ff, W])
    c.t(f"{p}{at}up_proj.weight", [ff, W])
    c.t(f"{p}{at}down_proj.weight", [W, ff])


def experts(c, p, n, ff, names, at):
    for w, shape, target in names:
        parts = [c.read(f"{p}{at}.{e}.{w}.weight", shape) for e in range(n)]
        i = p.split(".")[2]
        c.put(f"blk.{i}.{target}.weight", np.stack(parts))


def decoder(name, arch, cls, config, keys, layer, **kw):
    layers = kw.pop("layers", 2)
    c = Case(name, arch, cls, {**BASE, **config}, layers)
    c.kv = {**KEYS, **keys}
    ends(c, **kw)
    for i in range(layers):
        layer(c, f"model.layers.{i}.")
    return c


def llama_like(bias=False, q=None, k=None, norms=("input_layernorm", "post_attention_layernorm"), norm=None, qk=None):
    def layer(c, p):
        for n in norms:
            c.t(f"{p}{n}.weight", [W], norm)
        attention(c, p, q, k, bias)
        if qk:
            c.t(f"{p}self_attn.q_norm.weight", [qk[0]], norm)
            c.t(f"{p}self_attn.k_norm.weight", [qk[1]], norm)
        mlp(c, p)
    return layer


def cases():
    pq, pk = permute(H), permute(KV)
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
            "beta_slow": 1.0, "rope_theta": 1e6, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
    c = decoder("llama", A.LLAMA, "LlamaForCausalLM",
                {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                 "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}},
                {"ARCH.rope.freq_base": 5e5, "ARCH.vocab_size": V, "ARCH.rope.dimension_count": D},
                llama_like(True, pq, pk))
    freqs = 1.0 / (5e5 ** (np.arange(0, D, 2, dtype=np.float32) / D))
    factors = []
    for f in freqs:
        wave = 2 * np.pi / f
        if wave < 8192 / 4:
            factors.append(1.0)
        elif wave > 8192:
            factors.append(32.0)
        else:
            s = (8192 / wave - 1) / 3
            factors.append(1 / ((1 - s) / 32 + s))
    c.put("rope_freqs.weight", np.array(factors, np.float32))
    yield c

    def mixtral(c, p):
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "post_attention_layernorm.weight", [W])
        attention(c, p, pq, pk)
        c.t(p + "block_sparse_moe.gate.weight", [4, W])
        experts(c, p, 4, FF, [("w1", [FF, W], "ffn_gate_exps"), ("w2", [W, FF], "ffn_down_exps"),
                              ("w3", [FF, W], "ffn_up_exps")], "block_sparse_moe.experts")
    yield decoder("mixtral", A.LLAMA, "MixtralForCausalLM", {"num_local_experts": 4, "num_experts_per_tok": 2},
                  {"ARCH.expert_count": 4, "ARCH.expert_used_count": 2}, mixtral)
    yield decoder("mistral3", A.MISTRAL3, "Ministral3ForCausalLM", {"rope_parameters": yarn, "head_dim": D},
                  {"ARCH.rope.scaling.type": "yarn", "ARCH.rope.scaling.factor": 4.0, "ARCH.rope.freq_base": 1e6,
                   "ARCH.rope.scaling.original_context_length": 64, "ARCH.rope.scaling.yarn_log_multiplier": 1.0,
                   "ARCH.attention.temperature_scale": 0.1, "ARCH.attention.key_length": D}, llama_like(False, pq, pk))
    yield decoder("qwen2", A.QWEN2, "Qwen2ForCausalLM", {"rope_theta": 1e6, "tie_word_embeddings": True},
                  {"ARCH.rope.freq_base": 1e6}, llama_like(True), head=False)
    yield decoder("qwen3", A.QWEN3, "Qwen3ForCausalLM", {"head_dim": D}, {"ARCH.attention.value_length": D},
                  llama_like(qk=(D, D)))
    yield decoder("gemma", A.GEMMA, "GemmaForCausalLM", {"head_dim": D}, {"ARCH.attention.key_length": D},
                  llama_like(norm=plus1), head=False, norm=plus1)
    four = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    yield decoder("gemma2", A.GEMMA2, "Gemma2ForCausalLM",
                  {"head_dim": D, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 8},
                  {"ARCH.attn_logit_softcapping": 50.0, "ARCH.attention.sliding_window": 8},
                  llama_like(norm=plus1, norms=four), head=False, norm=plus1)
    yield decoder("gemma3", A.GEMMA3, "Gemma3ForCausalLM",
                  {"head_dim": D, "sliding_window": 8, "rope_local_base_freq": 1e4, "rope_theta": 1e6,
                   "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
                  {"ARCH.rope.freq_base": 1e6, "ARCH.rope.freq_base_swa": 1e4, "ARCH.rope.scaling.factor": 8.0},
                  llama_like(norm=plus1, norms=four, qk=(D, D)), head=False, norm=plus1)

    def phi3(c, p):
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "post_attention_layernorm.weight", [W])
        c.t(p + "self_attn.qkv_proj.weight", [(H + 2 * KV) * D, W])
        c.t(p + "self_attn.o_proj.weight", [W, W])
        c.t(p + "mlp.gate_up_proj.weight", [2 * FF, W])
        c.t(p + "mlp.down_proj.weight", [W, FF])
    long, short = [1.0 + i for i in range(D // 2)], [1.0 + 0.5 * i for i in range(D // 2)]
    c = decoder("phi3", A.PHI3, "Phi3ForCausalLM",
                {"original_max_position_embeddings": 64, "sliding_window": 2047, "rope_theta": 1e4,
                 "rope_scaling": {"type": "longrope", "long_factor": long, "short_factor": short}},
                {"ARCH.rope.scaling.original_context_length": 64, "ARCH.attention.sliding_window": 2047,
                 "ARCH.rope.dimension_count": D,
                 "ARCH.rope.scaling.attn_factor": float(np.sqrt(1 + np.log(4) / np.log(64)))}, phi3)
    c.put("rope_factors_long.weight", np.array(long, np.float32))
    c.put("rope_factors_short.weight", np.array(short, np.float32))
    yield c
    after = ("post_attention_layernorm", "post_feedforward_layernorm")
    yield decoder("olmo2", A.OLMO2, "Olmo2ForCausalLM", {"rope_theta": 5e5}, {"ARCH.rope.freq_base": 5e5},
                  llama_like(norms=after, qk=(W, KV * D)))
    yield decoder("olmo3", A.OLMO2, "Olmo3ForCausalLM",
                  {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
                  {"ARCH.attention.sliding_window": 16, "ARCH.attention.sliding_window_pattern": [True, False]},
                  llama_like(norms=after, qk=(W, KV * D)))

    def glm4(c, p):
        for n in ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"):
            c.t(f"{p}{n}.weight", [W])
        attention(c, p, bias=True)
        c.t(p + "mlp.gate_up_proj.weight", [2 * FF, W])
        c.t(p + "mlp.down_proj.weight", [W, FF])
    yield decoder("glm4", A.GLM4, "Glm4ForCausalLM", {"head_dim": D, "partial_rotary_factor": 0.5},
                  {"ARCH.rope.dimension_count": D // 2}, glm4)
    granite = {"attention_multiplier": 0.25, "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
               "logits_scaling": 8.0}
    gkeys = {"ARCH.attention.scale": 0.25, "ARCH.embedding_scale": 12.0, "ARCH.residual_scale": 0.22,
             "ARCH.logit_scale": 8.0}
    yield decoder("granite", A.GRANITE, "GraniteForCausalLM", granite, gkeys, llama_like(False, pq, pk))

    def fused(c, p, name, shape, gate, up):
        x = c.read(p + name, shape)
        i, n = p.split(".")[2], shape[-2] // 2
        c.put(f"blk.{i}.{gate}.weight", x[..., :n, :])
        c.put(f"blk.{i}.{up}.weight", x[..., n:, :])

    def granitemoe(c, p):
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "post_attention_layernorm.weight", [W])
        attention(c, p, pq, pk)
        c.t(p + "block_sparse_moe.router.layer.weight", [4, W])
        fused(c, p, "block_sparse_moe.input_linear.weight", [4, 2 * FF, W], "ffn_gate_exps", "ffn_up_exps")
        c.t(p + "block_sparse_moe.output_linear.weight", [4, W, FF])
        fused(c, p, "shared_mlp.input_linear.weight", [2 * 32, W], "ffn_gate_shexp", "ffn_up_shexp")
        c.t(p + "shared_mlp.output_linear.weight", [W, 32])
    moe = {"num_local_experts": 4, "num_experts_per_tok": 2}
    mkeys = {"ARCH.expert_count": 4, "ARCH.expert_used_count": 2}
    yield decoder("granitemoe", A.GRANITE_MOE, "GraniteMoeSharedForCausalLM",
                  {**granite, **moe, "shared_intermediate_size": 32},
                  {**gkeys, **mkeys, "ARCH.expert_shared_feed_forward_length": 32}, granitemoe)

    def granite4(c, p):
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "post_attention_layernorm.weight", [W])
        attention(c, p, pq, pk)
        fused(c, p, "shared_mlp.input_linear.weight", [2 * FF, W], "ffn_gate", "ffn_up")
        i = p.split(".")[2]
        c.put(f"blk.{i}.ffn_down.weight", c.read(p + "shared_mlp.output_linear.weight", [W, FF]))
    yield decoder("granite4-dense", A.GRANITE, "GraniteMoeHybridForCausalLM",
                  {**granite, "layer_types": ["attention"] * 2, "shared_intermediate_size": FF,
                   "intermediate_size": 7, "position_embedding_type": "nope"},
                  {**gkeys, "ARCH.rope.scaling.finetuned": False}, granite4)

    gud = lambda ff: [("gate_proj", [ff, W], "ffn_gate_exps"), ("up_proj", [ff, W], "ffn_up_exps"),
                      ("down_proj", [W, ff], "ffn_down_exps")]

    def qwen2moe(c, p):
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "post_attention_layernorm.weight", [W])
        attention(c, p, bias=True)
        c.t(p + "mlp.gate.weight", [4, W])
        c.t(p + "mlp.shared_expert_gate.weight", [1, W])
        mlp(c, p, 32, "mlp.shared_expert.")
        experts(c, p, 4, 48, gud(48), "mlp.experts")
    qmoe = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    yield decoder("qwen2moe", A.QWEN2MOE, "Qwen2MoeForCausalLM", {**qmoe, "shared_expert_intermediate_size": 32},
                  {**mkeys, "ARCH.expert_feed_forward_length": 48, "ARCH.expert_shared_feed_forward_length": 32},
                  qwen2moe)

    def qwen3moe(c, p):
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "post_attention_layernorm.weight", [W])
        attention(c, p, dim=32)
        c.t(p + "self_attn.q_norm.weight", [32])
        c.t(p + "self_attn.k_norm.weight", [32])
        c.t(p + "mlp.gate.weight", [4, W])
        if p.endswith("0."):
            experts(c, p, 4, 48, gud(48), "mlp.experts")
        else:  # experts in one tensor
            fused(c, p, "mlp.experts.gate_up_proj", [4, 96, W], "ffn_gate_exps", "ffn_up_exps")
            c.put("blk.1.ffn_down_exps.weight", c.read(p + "mlp.experts.down_proj", [4, W, 48]))
    yield decoder("qwen3moe", A.QWEN3MOE, "Qwen3MoeForCausalLM", {**qmoe, "head_dim": 32},
                  {**mkeys, "ARCH.attention.key_length": 32}, qwen3moe)

    NOPE, ROPE, VD, RANK = 16, 8, 12, 32

    def deepseek2(c, p):
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "post_attention_layernorm.weight", [W])
        c.t(p + "self_attn.q_a_proj.weight", [24, W])
        c.t(p + "self_attn.q_a_layernorm.weight", [24])
        c.t(p + "self_attn.q_b_proj.weight", [H * (NOPE + ROPE), 24])
        c.t(p + "self_attn.kv_a_proj_with_mqa.weight", [RANK + ROPE, W])
        c.t(p + "self_attn.kv_a_layernorm.weight", [RANK])
        kv_b = c.read(p + "self_attn.kv_b_proj.weight", [H * (NOPE + VD), RANK]).reshape(H, NOPE + VD, RANK)
        i = p.split(".")[2]
        c.put(f"blk.{i}.attn_k_b.weight", np.ascontiguousarray(kv_b[:, :NOPE].transpose(0, 2, 1)))
        c.put(f"blk.{i}.attn_v_b.weight", kv_b[:, NOPE:])
        c.t(p + "self_attn.o_proj.weight", [W, H * VD])
        if i == "0":
            mlp(c, p)
            return
        c.t(p + "mlp.gate.weight", [4, W])
        c.put(f"blk.{i}.exp_probs_b.bias", c.read(p + "mlp.gate.e_score_correction_bias", [4]))
        mlp(c, p, 48, "mlp.shared_experts.")
        experts(c, p, 4, 48, gud(48), "mlp.experts")
    yield decoder("deepseek2", A.DEEPSEEK2, "DeepseekV3ForCausalLM",
                  {"q_lora_rank": 24, "kv_lora_rank": RANK, "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE,
                   "v_head_dim": VD, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
                   "moe_intermediate_size": 48, "first_k_dense_replace": 1, "routed_scaling_factor": 2.5,
                   "norm_topk_prob": True, "n_group": 1, "topk_group": 1, "scoring_func": "sigmoid",
                   "num_key_value_heads": H,
                   "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 64,
                                    "mscale_all_dim": 1.0}},
                  {"ARCH.attention.head_count_kv": 1, "ARCH.attention.key_length": RANK + ROPE,
                   "ARCH.attention.value_length": RANK, "ARCH.attention.key_length_mla": NOPE + ROPE,
                   "ARCH.attention.value_length_mla": VD, "ARCH.expert_gating_func": 2, "ARCH.expert_count": 4,
                   "ARCH.expert_weights_norm": True, "ARCH.leading_dense_block_count": 1,
                   "ARCH.rope.scaling.yarn_log_multiplier": 0.1, "ARCH.rope.dimension_count": ROPE}, deepseek2)

    def mxfp4(c, name, shape):
        c.hf.append([name + "_blocks", shape, "U8"])
        c.hf.append([name + "_scales", shape[:3], "E8"])
        b = (uniform(name + "_blocks", int(np.prod(shape))) & np.uint64(255)).astype(np.uint8).reshape(shape)
        s = (uniform(name + "_scales", int(np.prod(shape[:3]))) % np.uint64(8) + np.uint64(120)).astype(np.uint8)
        table = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6], np.float32)
        v = np.stack([table[b & 15], table[b >> 4]], axis=-1).reshape(*shape[:3], 32)
        v = v * np.exp2(s.reshape(*shape[:3], 1).astype(np.float32) - 127)
        return v.reshape(shape[0], shape[1], shape[2] * 32)

    def gpt_oss(c, p):
        i = p.split(".")[2]
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "post_attention_layernorm.weight", [W])
        attention(c, p, bias=True, o_bias=True)
        c.put(f"blk.{i}.attn_sinks.weight", c.read(p + "self_attn.sinks", [H]))
        c.t(p + "mlp.router.weight", [4, W])
        c.t(p + "mlp.router.bias", [4])
        if i == "0":
            both, down = (mxfp4(c, p + "mlp.experts.gate_up_proj", [4, 128, 2, 16]),
                          mxfp4(c, p + "mlp.experts.down_proj", [4, W, 2, 16]))
        else:
            both = c.read(p + "mlp.experts.gate_up_proj", [4, W, 128]).transpose(0, 2, 1)
            down = c.read(p + "mlp.experts.down_proj", [4, 64, W]).transpose(0, 2, 1)
        c.put(f"blk.{i}.ffn_gate_exps.weight", both[:, ::2])
        c.put(f"blk.{i}.ffn_up_exps.weight", both[:, 1::2])
        c.put(f"blk.{i}.ffn_down_exps.weight", down)
        bias = c.read(p + "mlp.experts.gate_up_proj_bias", [4, 128])
        c.put(f"blk.{i}.ffn_gate_exps.bias", bias[:, ::2])
        c.put(f"blk.{i}.ffn_up_exps.bias", bias[:, 1::2])
        c.put(f"blk.{i}.ffn_down_exps.bias", c.read(p + "mlp.experts.down_proj_bias", [4, W]))
    yield decoder("gpt-oss", A.GPT_OSS, "GptOssForCausalLM",
                  {**moe, "sliding_window": 16, "intermediate_size": 64, "head_dim": D,
                   "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 64,
                                    "truncate": False}},
                  {**mkeys, "ARCH.feed_forward_length": 64, "ARCH.expert_feed_forward_length": 64,
                   "ARCH.attention.sliding_window": 16, "ARCH.rope.scaling.type": "yarn"}, gpt_oss)

    def bert(c, cls, pre, skip):
        c.t(pre + "embeddings.word_embeddings.weight", [V, W])
        c.t(pre + "embeddings.position_embeddings.weight", [64, W], lambda x: x[skip:])
        c.t(pre + "embeddings.token_type_embeddings.weight", [2, W])
        for s in ("weight", "bias"):
            c.t(pre + "embeddings.LayerNorm." + s, [W])
        for i in range(2):
            p = f"{pre}encoder.layer.{i}."
            for n, shape in (("attention.self.query", [W, W]), ("attention.self.key", [W, W]),
                             ("attention.self.value", [W, W]), ("attention.output.dense", [W, W]),
                             ("intermediate.dense", [FF, W]), ("output.dense", [W, FF])):
                c.t(p + n + ".weight", shape)
                c.t(p + n + ".bias", [shape[0]])
            for n in ("attention.output.LayerNorm", "output.LayerNorm"):
                c.t(p + n + ".weight", [W])
                c.t(p + n + ".bias", [W])
    encoder = {"hidden_size": W, "num_hidden_layers": 2, "num_attention_heads": H, "intermediate_size": FF,
               "vocab_size": V, "max_position_embeddings": 64, "layer_norm_eps": 1e-12, "type_vocab_size": 2}
    bkeys = {"ARCH.attention.layer_norm_epsilon": 1e-12, "ARCH.attention.causal": False}
    c = Case("bert", A.BERT, "BertModel", encoder)
    c.kv = {**bkeys, "ARCH.context_length": 64, "tokenizer.ggml.token_type_count": 2}
    bert(c, "BertModel", "", 0)
    yield c
    c = Case("roberta-rank", A.BERT, "XLMRobertaForSequenceClassification", {**encoder, "pad_token_id": 1})
    c.kv = {**bkeys, "ARCH.context_length": 62, "ARCH.pooling_type": 4}
    c.map.mapping.update({k.replace("embeddings.", "roberta.embeddings.", 1) if k.startswith("embeddings.") else
                          "roberta." + k: v for k, v in list(c.map.mapping.items())
                          if k.startswith(("embeddings.", "encoder."))})
    bert(c, "", "roberta.", 2)
    for n, shape in (("classifier.dense", [W, W]), ("classifier.out_proj", [1, W])):
        c.t(n + ".weight", shape)
        c.t(n + ".bias", [shape[0]])
    yield c

    def neg_exp(x):
        return -np.exp(x)

    c = Case("mamba", A.MAMBA, "MambaForCausalLM",
             {"hidden_size": W, "intermediate_size": 2 * W, "num_hidden_layers": 2, "state_size": 16, "conv_kernel": 4,
              "time_step_rank": 4, "layer_norm_epsilon": 1e-5, "vocab_size": V})
    c.kv = {"ARCH.ssm.inner_size": 2 * W, "ARCH.ssm.state_size": 16, "ARCH.ssm.time_step_rank": 4,
            "ARCH.ssm.conv_kernel": 4, "ARCH.ssm.dt_b_c_rms": False, "ARCH.attention.layer_norm_rms_epsilon": 1e-5,
            "ARCH.context_length": 1 << 20}
    c.t("backbone.embeddings.weight", [V, W])
    c.t("backbone.norm_f.weight", [W])
    for i in range(2):
        p = f"backbone.layers.{i}."
        c.t(p + "norm.weight", [W])
        c.t(p + "mixer.in_proj.weight", [4 * W, W])
        c.t(p + "mixer.conv1d.weight", [2 * W, 1, 4], np.squeeze)
        c.t(p + "mixer.conv1d.bias", [2 * W])
        c.t(p + "mixer.x_proj.weight", [4 + 32, 2 * W])
        c.t(p + "mixer.dt_proj.weight", [2 * W, 4])
        c.t(p + "mixer.dt_proj.bias", [2 * W])
        c.t(p + "mixer.A_log", [2 * W, 16], neg_exp)
        c.t(p + "mixer.D", [2 * W])
        c.t(p + "mixer.out_proj.weight", [W, 2 * W])
    yield c

    def mamba2(c, p, at, inner, state, groups, heads, scale=lambda x: x, out=lambda x: x, names=True):
        i = p.split(".")[2]
        conv = inner + 2 * groups * state
        c.t(p + at + "in_proj.weight", [inner + conv + heads, W], scale)
        c.t(p + at + "conv1d.weight", [conv, 1, 4], np.squeeze)
        c.t(p + at + "conv1d.bias", [conv])
        c.put(f"blk.{i}.ssm_dt.bias", c.read(p + at + "dt_bias", [heads]))
        c.t(p + at + "A_log", [heads], lambda x: neg_exp(x).reshape(-1, 1))
        c.t(p + at + "D", [heads], lambda x: x.reshape(-1, 1))
        c.t(p + at + "norm.weight", [inner], lambda x: x.reshape(groups, -1))
        c.t(p + at + "out_proj.weight", [W, inner], out)

    skeys = {"ARCH.ssm.inner_size": 2 * W, "ARCH.ssm.state_size": 16, "ARCH.ssm.group_count": 2,
             "ARCH.ssm.time_step_rank": 8, "ARCH.ssm.conv_kernel": 4}
    c = Case("mamba2", A.MAMBA2, "Mamba2ForCausalLM",
             {"hidden_size": W, "expand": 2, "num_hidden_layers": 2, "state_size": 16, "conv_kernel": 4, "head_dim": 16,
              "num_heads": 8, "n_groups": 2, "layer_norm_epsilon": 1e-5, "vocab_size": V})
    c.kv = skeys
    c.t("backbone.embeddings.weight", [V, W])
    c.t("backbone.norm_f.weight", [W])
    for i in range(2):
        c.t(f"backbone.layers.{i}.norm.weight", [W])
        mamba2(c, f"backbone.layers.{i}.", "mixer.", 2 * W, 16, 2, 8)
    yield c

    m = {"attention_in_multiplier": 0.5, "attention_out_multiplier": 0.25, "ssm_in_multiplier": 2.0,
         "ssm_out_multiplier": 0.5, "mlp_multipliers": [0.5, 0.25], "ssm_multipliers": [0.5, 0.25, 2.0, 4.0, 0.125],
         "key_multiplier": 0.5, "lm_head_multiplier": 0.25, "embedding_multiplier": 2.0}
    c = Case("falcon-h1", A.FALCON_H1, "FalconH1ForCausalLM",
             {**BASE, **m, "head_dim": D, "mamba_d_ssm": 2 * W, "mamba_d_state": 16, "mamba_d_conv": 4,
              "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_n_heads": 8, "rope_theta": 1e11})
    c.kv = {**KEYS, **skeys, "ARCH.attention.key_length": D}
    times = lambda f: lambda x: x * np.float32(f)

    def ssm_in(x):
        x = x * np.float32(2.0)
        s = [0, 2 * W, 4 * W, 4 * W + 32, 4 * W + 64, x.shape[0]]
        for k in range(5):
            x[s[k]:s[k + 1]] *= np.float32(m["ssm_multipliers"][k])
        return x
    c.t("model.embed_tokens.weight", [V, W], times(2))
    c.t("model.final_layernorm.weight", [W])
    c.t("lm_head.weight", [V, W], times(0.25))
    for i in range(2):
        p = f"model.layers.{i}."
        c.t(p + "input_layernorm.weight", [W])
        c.t(p + "pre_ff_layernorm.weight", [W])
        for n, rows, f in (("q", H * D, 0.5), ("k", KV * D, 0.25), ("v", KV * D, 0.5)):
            c.t(f"{p}self_attn.{n}_proj.weight", [rows, W], times(f))
        c.t(p + "self_attn.o_proj.weight", [W, W], times(0.25))
        mamba2(c, p, "mamba.", 2 * W, 16, 2, 8, ssm_in, times(0.5))
        c.t(p + "feed_forward.gate_proj.weight", [FF, W], times(0.5))
        c.t(p + "feed_forward.up_proj.weight", [FF, W])
        c.t(p + "feed_forward.down_proj.weight", [W, FF], times(0.25))
    yield c

    def lfm2(name, arch, cls, config, keys, moe_from):
        c = Case(name, arch, cls, {**BASE, "norm_eps": 1e-5, "conv_L_cache": 3, "rope_theta": 1e6,
                                   "layer_types": ["conv", "full_attention"], **config})
        c.kv = {**KEYS, "ARCH.attention.head_count_kv": [0, KV], "ARCH.shortconv.l_cache": 3, **keys}
        c.t("model.embed_tokens.weight", [V, W])
        c.put("token_embd_norm.weight", c.read("model.embedding_norm.weight", [W]))
        for i in range(2):
            p = f"model.layers.{i}."
            c.t(p + "operator_norm.weight", [W])
            c.t(p + "ffn_norm.weight", [W])
            if i == 0:
                c.t(p + "conv.conv.weight", [W, 1, 3], lambda x: x.squeeze(1))
                c.t(p + "conv.in_proj.weight", [3 * W, W])
                c.t(p + "conv.out_proj.weight", [W, W])
            else:
                attention(c, p, o="out_proj")
                c.t(p + "self_attn.q_layernorm.weight", [D])
                c.t(p + "self_attn.k_layernorm.weight", [D])
            if i >= moe_from:
                c.t(p + "feed_forward.gate.weight", [4, W])
                c.put(f"blk.{i}.exp_probs_b.bias", c.read(p + "feed_forward.expert_bias", [4]))
                experts(c, p, 4, 48, [("w1", [48, W], "ffn_gate_exps"), ("w2", [W, 48], "ffn_down_exps"),
                                      ("w3", [48, W], "ffn_up_exps")], "feed_forward.experts")
            else:
                for w, shape in (("w1", [FF, W]), ("w2", [W, FF]), ("w3", [FF, W])):
                    c.t(f"{p}feed_forward.{w}.weight", shape)
        return c
    yield lfm2("lfm2", A.LFM2, "Lfm2ForCausalLM",
               {"block_ff_dim": 144, "block_auto_adjust_ff_dim": True, "block_ffn_dim_multiplier": 1.0,
                "block_multiple_of": 32}, {}, 9)
    yield lfm2("lfm2moe", A.LFM2MOE, "Lfm2MoeForCausalLM",
               {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "num_dense_layers": 1},
               {**mkeys, "ARCH.leading_dense_block_count": 1, "ARCH.expert_gating_func": 2}, 1)

    def nemotron(name, arch, config, keys, is_moe):
        kinds = "M*E" if is_moe else "M*-"
        c = Case(name, arch, "NemotronHForCausalLM",
                 {"hidden_size": W, "num_hidden_layers": 3, "hybrid_override_pattern": kinds, "vocab_size": V,
                  "num_attention_heads": H, "num_key_value_heads": KV, "head_dim": D, "intermediate_size": FF,
                  "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4,
                  "layer_norm_epsilon": 1e-5, "max_position_embeddings": 256, **config}, 3)
        c.kv = {**skeys, "ARCH.block_count": 3, "ARCH.attention.head_count_kv": [0, KV, 0],
                "ARCH.attention.layer_norm_rms_epsilon": 1e-5, "ARCH.attention.key_length": D, **keys}
        c.t("backbone.embeddings.weight", [V, W])
        c.t("backbone.norm_f.weight", [W])
        c.t("lm_head.weight", [V, W])
        for i in range(3):
            c.t(f"backbone.layers.{i}.norm.weight", [W])
        mamba2(c, "backbone.layers.0.", "mixer.", 2 * W, 16, 2, 8)
        p = "backbone.layers.1.mixer."
        for n, shape in (("q", [W, W]), ("k", [KV * D, W]), ("v", [KV * D, W]), ("o", [W, W])):
            c.t(f"{p}{n}_proj.weight", shape)
        p = "backbone.layers.2.mixer."
        if not is_moe:
            c.t(p + "up_proj.weight", [FF, W])
            c.t(p + "down_proj.weight", [W, FF])
            return c
        c.t(p + "gate.weight", [4, W])
        c.put("blk.2.exp_probs_b.bias", c.read(p + "gate.e_score_correction_bias", [4]))
        c.t(p + "shared_experts.up_proj.weight", [32, W])
        c.t(p + "shared_experts.down_proj.weight", [W, 32])
        experts(c, "backbone.layers.2.", 4, 48, [("up_proj", [48, W], "ffn_up_exps"),
                                                 ("down_proj", [W, 48], "ffn_down_exps")], "mixer.experts")
        return c
    yield nemotron("nemotron_h", A.NEMOTRON_H, {}, {"ARCH.feed_forward_length": [0, 0, FF]}, False)
    yield nemotron("nemotron_h_moe", A.NEMOTRON_H_MOE,
                   {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "n_shared_experts": 1,
                    "moe_shared_expert_intermediate_size": 32, "norm_topk_prob": True, "routed_scaling_factor": 2.5,
                    "n_group": 1, "topk_group": 1},
                   {**mkeys, "ARCH.feed_forward_length": [0, 0, 48], "ARCH.expert_weights_norm": True,
                    "ARCH.expert_weights_scale": 2.5}, True)

    KH, VH, KD, VDIM = 2, 4, 16, 16

    def tiled(x, dim, head):
        s = list(x.shape)
        x = x.reshape(s[:dim] + [KH, VH // KH, head] + s[dim + 1:])
        return np.ascontiguousarray(np.swapaxes(x, dim, dim + 1)).reshape(s)

    def qwen35(name, arch, cls, config, keys, is_moe):
        def layer(c, p):
            i = p.split(".")[2]
            c.t(p + "input_layernorm.weight", [W], plus1)
            c.t(p + "post_attention_layernorm.weight", [W], plus1)
            if i == "1":
                c.t(p + "self_attn.q_proj.weight", [2 * H * D, W])
                c.t(p + "self_attn.k_proj.weight", [KV * D, W])
                c.t(p + "self_attn.v_proj.weight", [KV * D, W])
                c.t(p + "self_attn.o_proj.weight", [W, W])
                c.t(p + "self_attn.q_norm.weight", [D], plus1)
                c.t(p + "self_attn.k_norm.weight", [D], plus1)
            else:
                keys_ = 2 * KH * KD
                late = lambda x: np.concatenate([x[:keys_], tiled(x[keys_:], 0, VDIM)])
                c.t(p + "linear_attn.in_proj_qkv.weight", [keys_ + VH * VDIM, W], late)
                c.t(p + "linear_attn.in_proj_z.weight", [VH * VDIM, W], lambda x: tiled(x, 0, VDIM))
                c.t(p + "linear_attn.in_proj_a.weight", [VH, W], lambda x: tiled(x, 0, 1))
                c.t(p + "linear_attn.in_proj_b.weight", [VH, W], lambda x: tiled(x, 0, 1))
                c.t(p + "linear_attn.conv1d.weight", [keys_ + VH * VDIM, 1, 4], lambda x: late(x.squeeze()))
                c.put(f"blk.{i}.ssm_dt.bias", tiled(c.read(p + "linear_attn.dt_bias", [VH]), 0, 1))
                c.put(f"blk.{i}.ssm_a", tiled(-np.exp(c.read(p + "linear_attn.A_log", [VH])), 0, 1))
                c.t(p + "linear_attn.norm.weight", [VDIM])
                c.t(p + "linear_attn.out_proj.weight", [W, VH * VDIM], lambda x: tiled(x, 1, VDIM))
            if not is_moe:
                mlp(c, p)
                return
            c.t(p + "mlp.gate.weight", [4, W])
            c.t(p + "mlp.shared_expert_gate.weight", [1, W])
            mlp(c, p, 32, "mlp.shared_expert.")
            fused(c, p, "mlp.experts.gate_up_proj", [4, 96, W], "ffn_gate_exps", "ffn_up_exps")
            c.put(f"blk.{i}.ffn_down_exps.weight", c.read(p + "mlp.experts.down_proj", [4, W, 48]))
        return decoder(name, arch, cls,
                       {"head_dim": D, "linear_num_key_heads": KH, "linear_num_value_heads": VH,
                        "linear_key_head_dim": KD, "linear_value_head_dim": VDIM, "linear_conv_kernel_dim": 4,
                        "full_attention_interval": 2,
                        "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25,
                                            "mrope_section": [1, 1, 0]}, **config},
                       {"ARCH.ssm.inner_size": VH * VDIM, "ARCH.ssm.state_size": KD, "ARCH.ssm.group_count": KH,
                        "ARCH.ssm.time_step_rank": VH, "ARCH.rope.dimension_count": D // 4,
                        "ARCH.rope.dimension_sections": [1, 1, 0, 0], "ARCH.full_attention_interval": 2,
                        "ARCH.rope.freq_base": 1e7, **keys}, layer, norm=plus1)
    yield qwen35("qwen35", A.QWEN35, "Qwen3_5ForCausalLM", {}, {}, False)
    yield qwen35("qwen35moe", A.QWEN35MOE, "Qwen3_5MoeForCausalLM",
                 {**qmoe, "shared_expert_intermediate_size": 32}, mkeys, True)


def main():
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.json")
    with open(out, "w") as f:
        made = [json.dumps(c.json(), separators=(",", ":")) for c in cases()]
        f.write("[\n" + ",\n".join(made) + "\n]\n")


if __name__ == "__main__":
    main()
