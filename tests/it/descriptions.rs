//! Descriptions of architectures that no executor runs yet: what they say, and that users are told.

use std::collections::BTreeSet;

use oprel_gguf::{Array, Gguf, Value, Writer};
use oprel_models::{Error, Model, describe, describe_pending, supported};
use oprel_nn::candle::CandleExec;
use oprel_nn::describe::{
    Activation, Attn, Block, Gating, LaneMix, Layer, Moe, Op, Reach, Read, RouterInput, SlotId,
    StateSpec, Step, VDim, Write,
};
use oprel_nn::{Dev, Exec, KvType, Placement};
use oprel_quant::QuantType;
use oprel_tests::run::{Sequence, error, executors, limits};
use oprel_tests::zoo::{Reference, Set, Skeleton};

fn skeleton(name: &str) -> Skeleton {
    Skeleton::load(Set::Plain, name).expect("committed")
}

fn pending(name: &str) -> Model {
    describe_pending(&skeleton(name).gguf(1)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn layers(model: &Model) -> Vec<&Layer> {
    model.decoder.layers().collect()
}

fn op(block: &Block) -> &Op {
    &block.branches[0].op
}

fn attn(layer: &Layer) -> &Attn {
    match op(&layer.blocks[0]) {
        Op::Attn(attn) => attn,
        other => panic!("attention, not {other:?}"),
    }
}

fn spec(model: &Model, slot: SlotId) -> StateSpec {
    model.decoder.slots[slot.0 as usize]
}

#[test]
fn users_are_told_what_a_described_architecture_still_needs() {
    for name in ["deepseek4-moe", "hrm_text-dense", "kimi-k3-moe"] {
        let file = skeleton(name).gguf(1);
        let architecture = describe_pending(&file).expect("it is described").architecture;
        assert!(!supported().contains(&architecture.as_str()), "{architecture}");
        let refused = describe(&file).expect_err("users cannot run it");
        assert!(matches!(&refused, Error::Pending { name, .. } if *name == architecture));
        let text = refused.to_string();
        assert!(text.contains("needs") && text.contains("llama, "), "{text}");
    }
}

#[test]
fn an_unknown_architecture_is_named_beside_those_that_are_supported() {
    let mut writer = Writer::new();
    writer.set("general.architecture", Value::Str("elephant".into())).expect("a valid key");
    let refused = describe(&written(writer)).expect_err("there is none").to_string();
    assert!(refused.contains("'elephant'") && refused.contains("qwen3moe"), "{refused}");
}

#[test]
fn the_executor_names_what_it_cannot_run() {
    let model = pending("deepseek4-moe");
    let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
    let limits = limits(&model.decoder, 64, KvType::F32);
    let refused = CandleExec::cpu().prepare(&model.decoder, &model.weights, &placement, &limits);
    let refused = refused.expect_err("it cannot").to_string();
    assert!(refused.contains("lanes"), "{refused}");
}

#[test]
fn deepseek4_reads_and_writes_four_lanes() {
    let model = pending("deepseek4-moe");
    assert_eq!(model.decoder.lanes, 4);
    for block in layers(&model).iter().flat_map(|l| &l.blocks) {
        let Read::HyperConnection(read) = &block.read else { panic!("lanes are read") };
        assert_eq!(read.mix, LaneMix::Sinkhorn(2));
        assert_eq!(block.write, Write::HyperConnection);
        assert!(block.branches[0].norm.is_some(), "the norm follows the mix of lanes");
    }
    let Some(Step::Mix(Read::HyperConnection(last))) = model.decoder.steps.last() else {
        panic!("lanes become one row before the head")
    };
    assert_eq!(last.mix, LaneMix::ReadOnly);
}

#[test]
fn deepseek4_attends_to_a_window_and_to_compressed_blocks() {
    let model = pending("deepseek4-moe");
    let mut ratios = Vec::new();
    for layer in layers(&model) {
        let Op::Compressed(attn) = op(&layer.blocks[0]) else { panic!("compressed attention") };
        assert!(matches!(
            spec(&model, attn.slot),
            StateSpec::Kv { heads: 1, k: 64, v: VDim::AliasK(64), reach: Reach::Window(32) }
        ));
        let Some(blocks) = &attn.blocks else {
            ratios.push(0);
            continue;
        };
        let c = &blocks.compressor;
        assert_eq!(spec(&model, c.slot), StateSpec::Blocks { ratio: c.ratio, dim: 64 });
        assert_eq!((c.overlap, blocks.indexer.is_some()), (c.ratio == 4, c.ratio == 4));
        ratios.push(c.ratio);
    }
    assert_eq!(ratios, [0, 0, 4, 128]);
}

#[test]
fn deepseek4_chooses_experts_by_token_id_in_its_first_layers() {
    let mut skeleton = skeleton("deepseek4-moe");
    skeleton.replace("deepseek4.hash_layer_count", 1);
    let file = skeleton.changed_gguf(1, |w| {
        let table = vec![0; 4 * 2 * 128];
        let name = "blk.0.ffn_gate_tid2eid.weight";
        w.tensor(name, &[2, 128], QuantType::I32, table).expect("a valid tensor");
    });
    let model = describe_pending(&file).expect("it is described");
    let by_token: Vec<bool> = layers(&model)
        .iter()
        .map(|l| {
            let moe = moe(&l.blocks[1]);
            assert_eq!(moe.router.gating, Gating::SqrtSoftplus);
            assert_eq!(moe.act, Activation::SiluClamped { limit: 10.0, cap_before: true });
            assert_eq!(moe.router.choice_bias.is_some(), moe.router.by_token.is_none());
            moe.router.by_token.is_some()
        })
        .collect();
    assert_eq!(by_token, [true, false, false, false]);
}

fn moe(block: &Block) -> &Moe {
    match op(block) {
        Op::Moe(moe) => moe,
        other => panic!("experts, not {other:?}"),
    }
}

#[test]
fn hrm_text_runs_the_same_weights_in_turns_with_a_cache_each() {
    let model = pending("hrm_text-dense");
    let layers = layers(&model);
    let weights: Vec<u32> = layers.iter().map(|l| attn(l).q.w.0).collect();
    let (low, high) = (weights[0], weights[2]);
    assert_ne!(low, high);
    assert_eq!(weights, [low, low, high, low, low, high]);
    let sites: BTreeSet<u32> = layers.iter().map(|l| attn(l).q.site.0).collect();
    assert_eq!(sites.len(), 2, "an adapter meets a weight once, however often it runs");
    let slots: BTreeSet<_> = layers.iter().map(|l| attn(l).slot.map(|s| s.0)).collect();
    assert_eq!(slots.len(), 6);
    assert_eq!(model.decoder.slots.len(), 6);
}

#[test]
fn hrm_text_and_kimi_k3_match_llama_cpp_in_executors_that_can_run_them() {
    let reference = Reference::load(Set::Plain);
    for (name, runs_in) in [("hrm_text-dense", ["candle", "cpu"]), ("kimi-k3-moe", ["candle"; 2])] {
        let model = pending(name);
        for (exec_name, exec) in executors() {
            if !runs_in.contains(&exec_name) {
                continue;
            }
            let mut sequence = Sequence::new(exec, &model, 256, KvType::F16);
            for pieces in [vec![], vec![7, 1]] {
                let logits = sequence.logits(&reference.tokens, &pieces);
                let error = error(&reference.logits[name], &logits);
                // The reference's F16 keys and values are most of it; six turns add up.
                assert!(error <= 2e-5, "{name} {exec_name} {pieces:?}: {error:.1e}");
            }
        }
    }
}

#[test]
fn kimi_k3_banks_its_residual_and_attends_over_depth() {
    let model = pending("kimi-k3-moe");
    assert!(matches!(model.decoder.steps[0], Step::Save(_)));
    let layers = layers(&model);
    let over = |read: &Read| match read {
        Read::DepthAttention(depth) => depth.over.len(),
        _ => 0,
    };
    let reads: Vec<usize> = layers.iter().flat_map(|l| &l.blocks).map(|b| over(&b.read)).collect();
    assert_eq!(reads, [0, 1, 1, 1]);
    assert_eq!(layers[0].blocks[0].write, Write::Replace, "a banked residual starts anew");
    assert_eq!(layers[1].blocks[0].write, Write::ADD);
    assert!(matches!(model.decoder.steps.last(), Some(Step::Mix(Read::DepthAttention(_)))));
    let Op::Mla(mla) = op(&layers[0].blocks[0]) else { panic!("latent attention") };
    assert!(mla.rope.is_none() && mla.gate.is_some());
    let Op::Delta(delta) = op(&layers[1].blocks[0]) else { panic!("the delta rule") };
    assert!(delta.decay.per_channel && delta.gate_sigmoid);
    assert_eq!(delta.conv.channels, 3 * 128, "one convolution over queries, keys and values");
    let moe = moe(&layers[1].blocks[1]);
    assert!(moe.latent.as_ref().is_some_and(|l| l.norm.is_some()));
}

#[test]
fn gemma4_layers_share_the_keys_of_the_last_of_their_kind() {
    let model = describe_pending(&gemma4()).expect("it is described");
    let layers = layers(&model);
    let slots: Vec<u16> = layers.iter().filter_map(|l| attn(l).slot).map(|s| s.0).collect();
    assert_eq!(slots, [0, 1, 0, 1]);
    assert_eq!(model.decoder.slots.len(), 2);
    let own: Vec<bool> = layers.iter().map(|l| attn(l).k.is_some()).collect();
    assert_eq!(own, [true, true, false, false]);
    assert!(attn(layers[1]).v.is_none(), "values are raw keys where there is no projection");
    let dims: Vec<u32> = layers.iter().map(|l| attn(l).k_dim).collect();
    assert_eq!(dims, [8, 16, 8, 16], "windowed heads are smaller");
    assert_eq!(model.decoder.ropes.len(), 2);
}

#[test]
fn gemma4_adds_token_rows_in_every_layer_and_experts_beside_the_dense_branch() {
    let model = describe_pending(&gemma4()).expect("it is described");
    for (i, layer) in layers(&model).into_iter().enumerate() {
        let [_, feed_forward, rows] = &layer.blocks[..] else { panic!("three blocks") };
        let Op::TokenEmbed(embed) = op(rows) else { panic!("token rows") };
        assert_eq!((embed.layer as usize, embed.dim), (i, 4));
        assert!(layer.out_scale.is_some());
        assert_eq!(feed_forward.branches.len(), 2);
        let Op::Moe(moe) = &feed_forward.branches[1].op else { panic!("experts") };
        assert!(matches!(moe.router.input, RouterInput::Residual(Some(_))));
        assert!(moe.router.w.scale.is_some(), "the router's input is scaled down");
    }
}

/// A small Gemma 4: windowed and full layers in turns, the last two on the keys of the first two.
fn gemma4() -> Gguf {
    let (width, ff, vocab, layers, rows) = (32, 48, 64, 4_u32, 4);
    let mut w = Writer::new();
    w.set("general.architecture", Value::Str("gemma4".into())).expect("a valid key");
    let sizes = [
        ("block_count", layers),
        ("embedding_length", width),
        ("context_length", 128),
        ("feed_forward_length", ff),
        ("expert_feed_forward_length", 16),
        ("expert_count", 4),
        ("expert_used_count", 2),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 16),
        ("attention.value_length", 16),
        ("attention.key_length_swa", 8),
        ("attention.value_length_swa", 8),
        ("attention.sliding_window", 32),
        ("attention.shared_kv_layers", 2),
        ("rope.dimension_count", 16),
        ("rope.dimension_count_swa", 8),
        ("embedding_length_per_layer_input", rows),
    ];
    for (key, value) in sizes {
        w.set(&format!("gemma4.{key}"), Value::U32(value)).expect("a valid key");
    }
    let pattern = Value::Array(Array::Bool(vec![true, false, true, false]));
    w.set("gemma4.attention.sliding_window_pattern", pattern).expect("a valid key");
    let eps = Value::F32(1e-6);
    w.set("gemma4.attention.layer_norm_rms_epsilon", eps).expect("a valid key");
    let mut tensors: Vec<(String, Vec<u32>)> = vec![
        ("token_embd.weight".into(), vec![width, vocab]),
        ("output_norm.weight".into(), vec![width]),
        ("rope_freqs.weight".into(), vec![8]),
        ("per_layer_token_embd.weight".into(), vec![rows * layers, vocab]),
        ("per_layer_model_proj.weight".into(), vec![width, rows * layers]),
        ("per_layer_proj_norm.weight".into(), vec![rows]),
    ];
    for i in 0..layers {
        let dim = if i % 2 == 0 { 8 } else { 16 };
        let of_layer = gemma4_layer(width, ff, dim, rows, i);
        tensors.extend(of_layer.into_iter().map(|(n, shape)| (format!("blk.{i}.{n}"), shape)));
    }
    for (name, shape) in tensors {
        let n: u32 = shape.iter().product();
        let shape: Vec<u64> = shape.into_iter().map(u64::from).collect();
        w.tensor(&name, &shape, QuantType::F32, vec![0; 4 * n as usize]).expect("a valid tensor");
    }
    written(w)
}

fn gemma4_layer(width: u32, ff: u32, dim: u32, rows: u32, i: u32) -> Vec<(&'static str, Vec<u32>)> {
    let mut tensors = vec![
        ("attn_norm.weight", vec![width]),
        ("attn_q.weight", vec![width, 4 * dim]),
        ("attn_q_norm.weight", vec![dim]),
        ("attn_output.weight", vec![4 * dim, width]),
        ("post_attention_norm.weight", vec![width]),
        ("ffn_norm.weight", vec![width]),
        ("ffn_gate.weight", vec![width, ff]),
        ("ffn_up.weight", vec![width, ff]),
        ("ffn_down.weight", vec![ff, width]),
        ("post_ffw_norm.weight", vec![width]),
        ("post_ffw_norm_1.weight", vec![width]),
        ("pre_ffw_norm_2.weight", vec![width]),
        ("post_ffw_norm_2.weight", vec![width]),
        ("ffn_gate_inp.weight", vec![width, 4]),
        ("ffn_gate_inp.scale", vec![width]),
        ("ffn_gate_up_exps.weight", vec![width, 32, 4]),
        ("ffn_down_exps.weight", vec![16, width, 4]),
        ("inp_gate.weight", vec![width, rows]),
        ("proj.weight", vec![rows, width]),
        ("post_norm.weight", vec![width]),
        ("layer_output_scale.weight", vec![1]),
    ];
    if i < 2 {
        tensors.push(("attn_k.weight", vec![width, 2 * dim]));
        tensors.push(("attn_k_norm.weight", vec![dim]));
    }
    if i == 0 {
        tensors.push(("attn_v.weight", vec![width, 2 * dim]));
    }
    tensors
}

fn written(writer: Writer<'_>) -> Gguf {
    let mut file = Vec::new();
    writer.write(&mut file).expect("memory takes it");
    Gguf::from_bytes(file).expect("it is valid")
}
