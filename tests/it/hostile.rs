//! Files whose metadata lies: whatever a number says, describing and running the model ends in an answer
//! or an error, never in a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use oprel_gguf::Gguf;
use oprel_models::{Model, describe, describe_pending};
use oprel_nn::batch::SeqId;
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Dev, KvType, PageTable, Placement, Pos, RowSet, See, Span, StateView, StepOut, Transfer,
    Want, What,
};
use oprel_tests::run::{executors, limits};
use oprel_tests::zoo::{Set, Skeleton, names};

const INTEGERS: [u32; 4] = [0, 3, 1 << 31, u32::MAX];
const FLOATS: [f32; 4] = [0.0, -1.0, 3e38, f32::NAN];

/// Where the value of a key stands in a file: after its length, name and type.
fn value_at(file: &[u8], key: &str) -> usize {
    let mut entry = (key.len() as u64).to_le_bytes().to_vec();
    entry.extend_from_slice(key.as_bytes());
    let at = file.windows(entry.len()).position(|w| w == entry).expect("the file has the key");
    at + entry.len() + 4
}

/// Describes a file and runs three tokens through every executor; errors are fine.
fn try_all(file: &[u8], honest: &Model) {
    let Ok(file) = Gguf::from_bytes(file) else { return };
    let Ok(model) = describe(&file) else { return };
    if honest.decoder == model.decoder {
        return;
    }
    for (_, mut exec) in executors() {
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        let limits = limits(&model.decoder, 64, KvType::F16);
        if exec.prepare(&model.decoder, &model.weights, &placement, &limits).is_err() {
            continue;
        }
        let see = if model.causal { See::Causal } else { See::All };
        let batch = Batch {
            spans: &[Span { see, ..Span::causal(SeqId(0), 3, 0) }],
            tokens: &[1, 2, 3],
            pos: Pos::Text(&[0, 1, 2]),
            embeds: &[],
            want: &[Want { of: RowSet::Last, what: What::Logits }],
        };
        let tables = vec![PageTable(&[PageId(0)]); groups(&model.decoder.slots).len()];
        let transfer = [Transfer { from: None, to: Some(RowId(0)), keep: &[] }];
        let state = StateView { pages: &tables, recurrent: &transfer };
        let _ = exec.step(&batch, &state, &mut StepOut::default(), None);
    }
}

#[test]
fn no_number_in_the_metadata_makes_a_model_panic() {
    let mut failed = Vec::new();
    for name in names(Set::Plain) {
        let skeleton = Skeleton::load(Set::Plain, &name).expect("it is listed");
        let mut file = skeleton.file(1, |_| {});
        let Ok(honest) = describe(&Gguf::from_bytes(file.as_slice()).expect("valid")) else {
            continue;
        };
        for (key, ty) in skeleton.numbers() {
            let at = value_at(&file, key);
            let truth: [u8; 4] = file[at..at + 4].try_into().expect("four bytes");
            let lies = match ty {
                "FLOAT32" => FLOATS.map(f32::to_le_bytes),
                _ => INTEGERS.map(u32::to_le_bytes),
            };
            for lie in lies {
                file[at..at + 4].copy_from_slice(&lie);
                let run = || try_all(&file, &honest);
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    failed.push(format!("{name}: {key} = {lie:?} ({ty})"));
                }
            }
            file[at..at + 4].copy_from_slice(&truth);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn no_size_in_the_metadata_of_a_pending_architecture_makes_its_description_panic() {
    let mut failed = Vec::new();
    for name in ["deepseek4-moe", "hrm_text-dense", "kimi-k3-moe"] {
        let skeleton = Skeleton::load(Set::Plain, name).expect("committed");
        let mut file = skeleton.file(1, |_| {});
        for (key, ty) in skeleton.numbers() {
            let at = value_at(&file, key);
            let truth: [u8; 4] = file[at..at + 4].try_into().expect("four bytes");
            // Those at zero are defaults that the architecture does not have.
            if ty == "FLOAT32" || truth == [0; 4] {
                continue;
            }
            for lie in INTEGERS {
                file[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                let run =
                    || Gguf::from_bytes(file.as_slice()).map(|f| describe_pending(&f).is_ok());
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    failed.push(format!("{name}: {key} = {lie}"));
                }
            }
            file[at..at + 4].copy_from_slice(&truth);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
