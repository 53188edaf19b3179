//! What a model needs on a machine: bytes by purpose, layer and device, whether that fits, and how fast it
//! will be. No weights are read but those that loading would convert.
//!
//! The bytes come from [`oprel_engine::fit`], which asks the executor; a plan adds where they belong. What
//! refuses to load a model asks the same.

mod layers;
mod offers;
mod predict;
mod recommend;
mod work;

use oprel_engine::Scope;
use oprel_engine::fit::{self, Bytes, Needs, Room, TooLarge, Wish};
use oprel_gguf::Gguf;
use oprel_models::Model;
use oprel_nn::{Dev, KvTypes, Placement};
use oprel_telemetry::Host;
use serde::Serialize;

use crate::error::Result;

pub use layers::{LayerPlan, StateKind};
pub use offers::{Offer, Offered, offered};
pub use oprel_cpu::Isa;
pub use oprel_cpu::pool::MOST_THREADS;
pub use predict::{Prediction, Speeds};
pub use recommend::{Candidate, Recommendation, recommend};
pub use work::{Alike, LookBack, Work};

/// How the model would be loaded; what is unset is chosen as loading chooses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Most tokens of a text.
    pub context: Option<u32>,
    /// How keys and values are stored.
    pub kv: KvTypes,
    /// Texts at a time.
    pub parallel: Option<u32>,
    /// Threads.
    pub threads: Option<usize>,
    /// Most tokens of prompts in one step.
    pub batch: Option<u32>,
    /// Tier of kernels.
    pub isa: Option<Isa>,
    /// Most bytes that it may need, also where more is free.
    pub most_memory: Option<u64>,
}

/// What a model needs, and where.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Its architecture.
    pub architecture: String,
    /// Its file type: `Q4_K_M`.
    pub quant: String,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Most tokens of a text.
    pub context: u32,
    /// What it was trained for.
    pub trained_context: u32,
    /// How keys and values are stored.
    pub kv: String,
    /// The same.
    #[serde(skip)]
    pub kv_types: KvTypes,
    /// Texts at a time; one of the whole context is counted.
    pub parallel: u32,
    /// Threads.
    pub threads: usize,
    /// Tier of kernels.
    pub isa: String,
    /// Bytes by purpose.
    pub bytes: Parts,
    /// Layer by layer.
    pub layers: Vec<LayerPlan>,
    /// What belongs to no layer: embeddings, the head, norms.
    pub outside: Vec<Outside>,
    /// Bytes of a further token of a text.
    pub bytes_of_token: u64,
    /// What is free, if that is known.
    pub free_bytes: Option<u64>,
    /// Most bytes that it may need, if a user set that.
    pub most_bytes: Option<u64>,
    /// What is best left of what is free.
    pub margin_bytes: u64,
    /// Whether it fits.
    pub fits: Fits,
    /// What comes nearest and fits, as options of loading, where this does not.
    pub instead: Option<String>,
    /// Where everything goes, as the engine takes it.
    #[serde(skip)]
    pub placement: Placement,
    /// What loading asks.
    #[serde(skip)]
    pub needs: Needs,
    /// What a token costs.
    #[serde(skip)]
    pub work: Work,
}

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// Weights, in the file's own pages: the system may take them back and read them again.
    pub weights: u64,
    /// Weights that loading decodes or converts, and the parts of the file that it reads for that.
    pub converted: u64,
    /// Keys and values, and recurrent state, of one text of the whole context.
    pub state: u64,
    /// Activations, and what operations work in.
    pub scratch: u64,
    /// Memory of threads.
    pub threads: u64,
    /// Tables of the vocabulary.
    pub vocabulary: u64,
    /// The program itself.
    pub process: u64,
    /// All together.
    pub total: u64,
}

/// A weight, or a few, that belong to no layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// Its name in the file.
    pub name: String,
    /// Where it is.
    pub device: u8,
    /// Its bytes.
    pub bytes: u64,
}

/// Whether a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fits {
    /// With something left for all else.
    Yes,
    /// Just: what else the machine does may push weights out of memory.
    Tight,
    /// Loading it is refused.
    No,
    /// The system does not tell what is free.
    Unknown,
}

impl Fits {
    /// Whether so many bytes fit into what is free.
    pub fn of(bytes: u64, free: Option<u64>) -> Fits {
        match free {
            None => Fits::Unknown,
            Some(free) if bytes.saturating_add(fit::margin(free)) <= free => Fits::Yes,
            Some(free) if bytes <= free => Fits::Tight,
            Some(_) => Fits::No,
        }
    }

    /// The same where it may need no more than `most`.
    pub fn within(bytes: u64, free: Option<u64>, most: Option<u64>) -> Fits {
        match most {
            Some(most) if bytes > most => Fits::No,
            _ => Fits::of(bytes, free),
        }
    }
}

impl Plan {
    /// Whether it fits into what is free.
    pub fn fits(&self, free: Option<u64>) -> Fits {
        Fits::within(self.bytes.total, free, self.most_bytes)
    }

    /// The sum in words.
    pub fn sum(&self) -> String {
        let p = &self.bytes;
        let beside = p.threads + p.vocabulary + p.process;
        format!(
            "{} = weights {} + state of {} tokens ({}) {} + activations {} + program and vocabulary {}",
            Bytes(p.total),
            Bytes(p.weights + p.converted),
            self.context,
            self.kv,
            Bytes(p.state),
            Bytes(p.scratch),
            Bytes(beside)
        )
    }
}

/// A described model and how it would be loaded.
struct Asked<'a> {
    model: &'a Model,
    wish: Wish,
    isa: Isa,
    threads: usize,
    most_memory: Option<u64>,
}

impl Asked<'_> {
    fn scope(&self) -> Scope {
        if self.model.causal { Scope::Causal } else { Scope::Bidirectional }
    }

    fn needs(&self, context: u32, kv: KvTypes) -> Result<Needs, oprel_engine::Error> {
        let model = (&self.model.decoder, &self.model.weights);
        let options = oprel_engine::Options { kv, ..self.wish.options(model.0, context) };
        fit::needs(model, self.scope(), &options, (self.isa, self.threads))
    }
}

/// Plans for the model of a file.
///
/// # Errors
/// If the native engine cannot run it: the error says why.
pub fn plan(file: &Gguf, options: &PlanOptions, host: &Host) -> Result<Plan> {
    let model = oprel_models::describe(file)?;
    let PlanOptions { context, kv, parallel, threads, batch, isa, most_memory } = *options;
    let asked = Asked {
        model: &model,
        wish: Wish { context, longest: false, parallel, batch, kv },
        isa: isa.unwrap_or_else(Isa::detect),
        threads: threads.unwrap_or_else(|| host.suited_threads()).clamp(1, MOST_THREADS),
        most_memory,
    };
    let context = asked.wish.asked((&model.decoder, asked.scope())).max(1);
    let needs = asked.needs(context, kv)?;
    of(file, &asked, (context, needs), host)
}

fn of(file: &Gguf, asked: &Asked<'_>, (context, needs): (u32, Needs), host: &Host) -> Result<Plan> {
    let (model, kv) = (asked.model, asked.wish.kv);
    let free = host.memory.free_bytes;
    let total = needs.total(context);
    let most = asked.most_memory;
    let instead = match Room::of(free, most) {
        Some(room) if total > room.bytes => {
            let refused = TooLarge::new((context, kv), room, |c, kv| asked.needs(c, kv))?;
            Some(refused.hint())
        }
        _ => None,
    };
    let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
    Ok(Plan {
        architecture: model.architecture.clone(),
        quant: file.file_type().into(),
        file_bytes: file.total_bytes(),
        context,
        trained_context: model.decoder.context_length,
        kv: kv.to_string(),
        kv_types: kv,
        parallel: asked.wish.sequences(),
        threads: asked.threads,
        isa: asked.isa.to_string(),
        bytes: Parts {
            weights: needs.memory.mapped,
            converted: needs.memory.weights + needs.decoded,
            state: needs.state(context),
            scratch: needs.scratch,
            threads: needs.threads,
            vocabulary: needs.vocabulary,
            process: needs.process,
            total,
        },
        layers: layers::layers(model, &needs, &placement, context),
        outside: layers::outside(model, &placement),
        bytes_of_token: fit::bytes_of_token(&model.decoder, kv),
        free_bytes: free,
        margin_bytes: free.map_or(0, fit::margin),
        most_bytes: most,
        fits: Fits::within(total, free, most),
        instead,
        work: Work::of(model, &needs),
        placement,
        needs,
    })
}

#[cfg(test)]
mod tests;
