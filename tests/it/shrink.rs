//! A file that shrinks under a loaded model gives errors, not zeros for weights.

use oprel_gguf::Gguf;
use oprel_models::describe;
use oprel_nn::batch::SeqId;
use oprel_nn::state::PageId;
use oprel_nn::{
    Batch, Dev, Error, KvType, PageTable, Placement, Pos, RowSet, Span, StateView, StepOut, Want,
    What,
};
use oprel_tests::run::{executors, limits};
use oprel_tests::shared;

#[test]
fn a_file_that_shrinks_makes_the_next_step_fail() {
    let mut refused_by = 0;
    let Some(path) = shared("fixtures/stories260k-f32.gguf") else { return };
    for (name, mut exec) in executors() {
        let folder = std::env::temp_dir().join(format!("oprel-shrink-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let copy = folder.join("model.gguf");
        std::fs::copy(&path, &copy).expect("a copy");
        let model = describe(&Gguf::open(&copy).expect("a model")).expect("described");
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        let limits = limits(&model.decoder, 64, KvType::F16);
        let memory = exec.prepare(&model.decoder, &model.weights, &placement, &limits);
        if memory.expect("prepared").mapped == 0 {
            // It copied every weight: the file may go.
            continue;
        }
        let pages = [PageId(0)];
        let state = StateView { pages: &[PageTable(&pages)], recurrent: &[] };
        let want = [Want { of: RowSet::Last, what: What::Logits }];
        let mut step = |at: u32| {
            let spans = [Span::causal(SeqId(0), 1, at)];
            let pos = [at as i32];
            let pos = Pos::Text(&pos);
            let batch = Batch { spans: &spans, tokens: &[1], pos, embeds: &[], want: &want };
            exec.step(&batch, &state, &mut StepOut::default(), None)
        };
        step(0).expect("the file is whole");
        let file = std::fs::OpenOptions::new().write(true).open(&copy).expect("writable");
        file.set_len(4096).expect("it shrinks");
        let refused = step(1);
        std::fs::remove_dir_all(&folder).expect("gone");
        assert!(matches!(refused, Err(Error::File(_))), "{name}: {refused:?}");
        refused_by += 1;
    }
    assert!(refused_by > 0, "an executor reads weights in place");
}
