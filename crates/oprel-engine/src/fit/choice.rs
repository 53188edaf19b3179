//! Why a model cannot be loaded as it was asked for, and what comes nearest to that.

use std::fmt;

use oprel_nn::{KvType, KvTypes};

use super::Needs;
use crate::Result;

/// Contexts are chosen in steps of this.
const STEP: u32 = 256;
/// Shorter ones are of no use.
const SHORTEST: u32 = 512;
/// One of this length is worth more than keys and values as they were asked for.
const SHORT: u32 = 4096;

/// How many bytes a model may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// So many.
    pub bytes: u64,
    /// Whether a user set them, and not what is free.
    pub is_bound: bool,
}

impl Room {
    /// What is free, or less where a user allows no more; `None` if neither is known.
    pub fn of(free: Option<u64>, most: Option<u64>) -> Option<Room> {
        match (free, most) {
            (Some(free), Some(most)) if free <= most => Some(free.into()),
            (_, Some(bytes)) => Some(Room { bytes, is_bound: true }),
            (free, None) => free.map(Room::from),
        }
    }
}

/// What is free.
impl From<u64> for Room {
    fn from(bytes: u64) -> Room {
        Room { bytes, is_bound: false }
    }
}

/// A way to load a model that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Most tokens of a text.
    pub context: u32,
    /// How keys and values are stored.
    pub kv: KvTypes,
    /// What it needs.
    pub bytes: u64,
}

/// A model that does not fit, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// What it needs.
    pub needs: Needs,
    /// What it may take.
    pub room: Room,
    /// Most tokens of a text, as asked for.
    pub context: u32,
    /// How keys and values would be stored.
    pub kv: KvTypes,
    /// What comes nearest to that and fits; `None` if nothing does.
    pub nearest: Option<Choice>,
}

impl TooLarge {
    /// Looks for what comes nearest; `needs_of` says what a context and types of keys and values need.
    ///
    /// # Errors
    /// As `needs_of`.
    pub fn new(
        (context, kv): (u32, KvTypes),
        room: impl Into<Room>,
        needs_of: impl Fn(u32, KvTypes) -> Result<Needs>,
    ) -> Result<TooLarge> {
        let (needs, room) = (needs_of(context, kv)?, room.into());
        let nearest = nearest((context, kv), room.bytes, needs_of)?;
        Ok(TooLarge { needs, room, context, kv, nearest })
    }

    /// What to do about it, as a user does it.
    pub fn hint(&self) -> String {
        let Some(nearest) = &self.nearest else {
            let weights = self.needs.memory.mapped;
            let others = self.needs.fixed() - weights;
            let beside = others + self.needs.state(SHORTEST);
            let more = if self.room.is_bound { "raise max_memory_mb, or " } else { "" };
            return match self.room.bytes.checked_sub(beside).filter(|&left| left > 0) {
                Some(left) => format!(
                    "{more}take a smaller quant or a smaller model: a file of less than {} would fit",
                    Bytes(left)
                ),
                None => format!(
                    "{more}take a smaller model: beside its weights alone this one needs {}",
                    Bytes(beside)
                ),
            };
        };
        let context = format!("--ctx-size {}", nearest.context);
        let kv = format!("--kv {}", nearest.kv);
        let how = match (nearest.context == self.context, nearest.kv == self.kv) {
            (true, _) => kv,
            (false, true) => context,
            (false, false) => format!("{context} {kv}"),
        };
        format!("{how} fits: it needs {}", Bytes(nearest.bytes))
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLarge { needs, room, context, kv, .. } = self;
        let room_is = if room.is_bound { "the most that max_memory_mb allows" } else { "free" };
        write!(
            f,
            "this model needs {}, and {} is {room_is}: {}",
            Bytes(needs.total(*context)),
            Bytes(room.bytes),
            Sum { needs, context: *context, kv: *kv }
        )
    }
}

impl std::error::Error for TooLarge {}

/// What is needed, purpose by purpose.
struct Sum<'a> {
    needs: &'a Needs,
    context: u32,
    kv: KvTypes,
}

impl fmt::Display for Sum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sum { needs, context, kv } = self;
        let beside = needs.threads + needs.vocabulary + needs.process;
        write!(
            f,
            "weights {} + state of {context} tokens ({kv}) {} + activations {} + program and vocabulary {}",
            Bytes(needs.memory.mapped + needs.memory.weights + needs.decoded),
            Bytes(needs.state(*context)),
            Bytes(needs.scratch),
            Bytes(beside)
        )
    }
}

/// A number of bytes as people read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 as f64;
        match n {
            _ if n >= 1e9 => write!(f, "{:.2} GB", n / 1e9),
            _ if n >= 1e6 => write!(f, "{:.0} MB", n / 1e6),
            _ if n >= 1e3 => write!(f, "{:.0} kB", n / 1e3),
            _ => write!(f, "{} bytes", self.0),
        }
    }
}

/// What comes nearest: the same context with keys and values in fewer bits, then fewer tokens, then both.
fn nearest(
    (context, kv): (u32, KvTypes),
    free: u64,
    needs_of: impl Fn(u32, KvTypes) -> Result<Needs>,
) -> Result<Option<Choice>> {
    let small = KvTypes::both(KvType::Q8_0);
    let smaller = match is_smaller(small, kv) {
        true => Some(needs_of(context, small)?),
        false => None,
    };
    if let Some(needs) = &smaller
        && needs.total(context) <= free
    {
        return Ok(Some(Choice { context, kv: small, bytes: needs.total(context) }));
    }
    let as_asked = longest_of((context, kv), free, &needs_of)?;
    let in_fewer_bits = match smaller {
        Some(_) => longest_of((context, small), free, &needs_of)?,
        None => None,
    };
    Ok(match (as_asked, in_fewer_bits) {
        (Some(long), _) if long.context >= SHORT => Some(long),
        (long, short) => short.or(long),
    })
}

fn is_smaller(small: KvTypes, kv: KvTypes) -> bool {
    let bytes = |kv: KvTypes| kv.k.row_bytes(128) + kv.v.row_bytes(128);
    bytes(small) < bytes(kv)
}

/// The longest text below `context` that fits. What does not depend on a text depends on the longest that there may
/// be, so that a bound far above what fits would leave less: lower ones are tried, too.
fn longest_of(
    (context, kv): (u32, KvTypes),
    free: u64,
    needs_of: &impl Fn(u32, KvTypes) -> Result<Needs>,
) -> Result<Option<Choice>> {
    let mut best: Option<Choice> = None;
    let mut most = context;
    while most >= SHORTEST && best.as_ref().is_none_or(|best| most > best.context) {
        let needs = needs_of(most, kv)?;
        let found = longest(&needs, most, free);
        if let Some(context) = found.filter(|n| best.as_ref().is_none_or(|best| *n > best.context))
        {
            best = Some(Choice { context, kv, bytes: needs.total(context) });
        }
        most /= 4;
    }
    Ok(best)
}

/// The longest text below `most` that fits.
pub(crate) fn longest(needs: &Needs, most: u32, free: u64) -> Option<u32> {
    let fits = |steps: u32| needs.total(steps * STEP) <= free;
    let (mut low, mut high) = (SHORTEST / STEP, most / STEP);
    if high < low || !fits(low) {
        return None;
    }
    while low < high {
        let middle = high - (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    Some(low * STEP)
}
