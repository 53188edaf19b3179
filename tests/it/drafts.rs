//! A smaller model that proposes tokens, on the demo model: it changes no text, whoever it is, and is
//! right where it should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oprel::{ModelSource, OprelError, Request, Sampling};
use oprel_engine::{Ask, DraftModel, Engine, Options, Says, Scope, SeqId};
use oprel_models::Model;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::state::{PageId, RowId};
use oprel_nn::{
    Batch, Decoder, Dev, Exec, Limits, Memory, Observer, Placement, Result, StateView, StepOut,
    Weights,
};
use oprel_quant::QuantType;
use oprel_tests::shared;

use crate::divergence::{demo, written};

/// An executor whose steps take as long as they are told to.
struct Timed {
    exec: CpuExec,
    clock: Arc<AtomicU64>,
    /// Microseconds of a step, and of each token.
    step: u64,
    token: u64,
}

impl Exec for Timed {
    fn prepare(
        &mut self,
        decoder: &Decoder,
        weights: &Weights,
        placement: &Placement,
        limits: &Limits,
    ) -> Result<Memory> {
        let memory = self.exec.prepare(decoder, weights, placement, limits)?;
        // Until steps are measured, what they take is told by the weights.
        Ok(Memory { mapped: self.step, weights: 0, ..memory })
    }

    fn step(
        &mut self,
        batch: &Batch<'_>,
        state: &StateView<'_>,
        out: &mut StepOut,
        watch: Option<&mut dyn Observer>,
    ) -> Result<()> {
        let took = self.step + self.token * batch.tokens.len() as u64;
        self.clock.fetch_add(took, Ordering::Relaxed);
        self.exec.step(batch, state, out, watch)
    }

    fn copy_pages(&mut self, group: usize, pages: &[(PageId, PageId)]) -> Result<()> {
        self.exec.copy_pages(group, pages)
    }

    fn page_bytes(&self, group: usize) -> usize {
        self.exec.page_bytes(group)
    }

    fn read_page(&self, group: usize, page: PageId, to: &mut [u8]) -> Result<()> {
        self.exec.read_page(group, page, to)
    }

    fn write_page(&mut self, group: usize, page: PageId, from: &[u8]) -> Result<()> {
        self.exec.write_page(group, page, from)
    }

    fn row_bytes(&self) -> usize {
        self.exec.row_bytes()
    }

    fn read_row(&self, row: RowId, to: &mut [u8]) -> Result<()> {
        self.exec.read_row(row, to)
    }

    fn write_row(&mut self, row: RowId, from: &[u8]) -> Result<()> {
        self.exec.write_row(row, from)
    }
}

/// What was said, in the order of the asks, and the engine after it.
fn answers(model: &Model, draft: Option<&Model>, asks: &[Ask]) -> (Vec<Vec<u32>>, Engine) {
    let clock = Arc::new(AtomicU64::new(0));
    let exec = |step, token| {
        let options = CpuOptions { threads: 2, isa: None };
        let exec = CpuExec::new(options).expect("threads");
        Box::new(Timed { exec, clock: clock.clone(), step, token })
    };
    let options = Options { positions: 512, sequences: 3, batch: 64, ..Options::new(320) };
    let placement = |model: &Model| Placement::all_on(Dev(0), model.decoder.layers().count());
    let (decoder, weights) = (&model.decoder, &model.weights);
    let place = placement(model);
    let large = exec(30_000, 1_000);
    let mut engine =
        Engine::new(large, decoder, weights, &place, Scope::Causal, &options).expect("prepared");
    if let Some(draft) = draft {
        let alone = engine.memory();
        let small = DraftModel {
            exec: exec(1_000, 100),
            decoder: &draft.decoder,
            weights: &draft.weights,
            placement: &placement(draft),
        };
        engine = engine.with_draft(small).expect("a draft");
        let both = engine.memory();
        assert!(both.state > alone.state && both.scratch > alone.scratch, "it takes memory");
    }
    let submit = |ask: &Ask| engine.submit(ask.clone(), Duration::ZERO).expect("a good ask");
    let ids: Vec<SeqId> = asks.iter().map(submit).collect();
    let mut says = Vec::new();
    while !engine.is_idle() {
        let now = || Duration::from_micros(clock.load(Ordering::Relaxed));
        engine.step(&now, &mut says);
    }
    let tokens = |id: &SeqId| {
        let own = says.iter().filter(|(i, _)| i == id);
        let token = |(_, said): &(SeqId, Says)| match said {
            Says::Token(token) => Some(token.id),
            _ => None,
        };
        own.filter_map(token).collect()
    };
    (ids.iter().map(tokens).collect(), engine)
}

fn asks(sampling: &Sampling) -> Vec<Ask> {
    let questions = ["What is oprel?", "Tell me a story.", "How do I start the server?"];
    let tokens = |text: &&str| {
        let prompt = format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
        let options = oprel::TokenizeOptions { parse_special: true, ..Default::default() };
        oprel::tokenize(&ModelSource::Demo, &prompt, options).expect("tokens")
    };
    let ask =
        |tokens| Ask { sampling: sampling.clone(), max_tokens: Some(120), ..Ask::new(tokens) };
    questions.iter().map(tokens).map(ask).collect()
}

#[test]
fn a_draft_changes_no_text_and_saves_steps() {
    let model = demo();
    let drawn = Sampling { temperature: 0.9, seed: Some(3), ..Sampling::default() };
    for sampling in [Sampling::greedy(), drawn] {
        let asks = asks(&sampling);
        let (expected, plain) = answers(&model, None, &asks);
        let plain = plain.gauges();
        for (name, draft) in
            [("itself", &model), ("itself in Q4_0", &written(&model, QuantType::Q4_0))]
        {
            let (made, engine) = answers(&model, Some(draft), &asks);
            let gauges = engine.gauges();
            assert_eq!(made, expected, "{name}");
            assert_eq!(gauges.pages_held, 0);
            let (drafted, accepted) = (gauges.drafted_tokens, gauges.accepted_tokens);
            println!(
                "{name}: {accepted} of {drafted}, {} steps, not {}",
                gauges.steps, plain.steps
            );
            assert!(gauges.steps * 5 < plain.steps * 4 && accepted * 2 > drafted, "{name}");
        }
    }
}

#[test]
fn the_library_says_the_same_with_a_draft() {
    let text = |builder: oprel::ModelBuilder| {
        let model = builder.context(256).threads(2).load().expect("loaded");
        let mut request = Request::prompt("What is oprel?");
        request.sampling = Sampling::greedy();
        model.generate(request).and_then(|s| s.answer()).expect("an answer").text
    };
    let demo = || oprel::Model::builder(ModelSource::Demo);
    assert_eq!(text(demo()), text(demo().draft(ModelSource::Demo)));
}

#[test]
fn a_draft_of_another_vocabulary_is_refused() {
    let Some(file) = shared("fixtures/stories260k-f32.gguf") else { return };
    let load = |draft| oprel::Model::builder(ModelSource::Demo).draft(draft).load();
    let error = load(ModelSource::File(file)).expect_err("another vocabulary");
    assert!(matches!(error, OprelError::Validation { .. }), "{error:?}");
    assert!(error.to_string().contains("its vocabulary has 512 tokens"), "{error}");
    let missing = load(ModelSource::File("no such file.gguf".into())).expect_err("no file");
    assert!(matches!(missing, OprelError::ModelNotFound { .. }), "{missing:?}");
}
