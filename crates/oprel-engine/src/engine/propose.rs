//! Which proposals a step checks, for whom and from whom.
//!
//! For each stream the source that promises most tokens a second proposes as many as pay. The smaller
//! model is asked for all of them at once, after it is known how many it is to propose for each; it reads
//! one text at a time.

use std::time::Duration;

use oprel_nn::state::RowId;

use super::Engine;
use super::plan::{Piece, Plan};
use crate::draft::{Deal, MOST, Model, Source, Wish};
use crate::sequence::Sequence;

/// Tokens of an answer between two looks whether its text is to be read.
const LOOK: u32 = 4;

/// What a step is to be with its proposals, as they are added.
#[derive(Debug)]
struct Bids {
    /// The step with all proposals so far.
    step: Deal,
    /// The step with those only that cost nothing but their place.
    plain: Deal,
    /// Tokens that the step checks.
    checked: usize,
    /// Streams that the model may go on with: those whose texts it knows, and all.
    ready: usize,
    followed: usize,
    /// What it is asked for.
    asked: Vec<Asked>,
    /// A text that it reads.
    reads: Option<Wish>,
    /// Rows that are there for states between proposed tokens: others are for sequences.
    rows: usize,
}

/// Tokens that the model is asked for.
#[derive(Debug)]
struct Asked {
    /// The piece of the plan, and the place of its sequence.
    piece: usize,
    at: usize,
    n: usize,
    /// Tokens that the model must read before.
    lacks: usize,
    /// Where the states between them go; `None` if what it says is only to be compared.
    keep: Option<Vec<RowId>>,
}

/// What one source would propose.
struct Offer {
    source: Source,
    n: usize,
    with: Deal,
}

impl Engine {
    /// Proposals for streams that may have some, while they are worth it.
    pub(super) fn add_drafts(
        &mut self,
        plan: &mut Plan,
        rows: &mut usize,
        clock: &dyn Fn() -> Duration,
    ) {
        let used: usize = plan.pieces.iter().map(|p| p.n).sum();
        let mut room = (self.limits.tokens as usize).saturating_sub(used).min(*rows);
        let mut bids = self.open_bids(plan);
        let now = clock();
        for piece in 0..plan.pieces.len() {
            let Some(at) = self.place_of(&plan.pieces[piece]) else { continue };
            let most = self.most_proposed(at).min(room);
            let Some(offer) = self.best_offer(at, most, &mut bids, now) else { continue };
            if offer.source == Source::Model && self.rehearses(at, &bids) {
                bids.asked.extend(self.rehearsal(piece, at, bids.step));
                continue;
            }
            let Some(keep) = self.room_for(at, offer.n, &mut bids.rows) else { continue };
            room -= offer.n;
            bids.take(&offer);
            match offer.source {
                Source::Text => {
                    let s = &mut self.running[at];
                    let drafts = s.drafter.repeated(&s.tokens, offer.n).to_vec();
                    plan.pieces[piece].propose(Source::Text, drafts, keep);
                }
                Source::Model => {
                    let lacks = Model::ready(&self.running[at]).unwrap_or(1);
                    bids.asked.push(Asked { piece, at, n: offer.n, lacks, keep: Some(keep) });
                }
            }
        }
        self.ask_model(plan, bids, clock);
        *rows -= plan.pieces.iter().map(|p| p.drafts.len()).sum::<usize>();
    }

    fn open_bids(&self, plan: &Plan) -> Bids {
        let checked = plan.n_decoded();
        // Before anything was measured, as if proposals cost nothing.
        let seconds = self.pace.estimate(checked).unwrap_or(1.0);
        let step = Deal { streams: plan.pieces.len(), gain: 0.0, seconds };
        let places = plan.pieces.iter().filter_map(|p| self.place_of(p));
        let streams = places.map(|at| &self.running[at]).filter(|s| s.drafter.asks_model());
        let streams: Vec<&Sequence> = streams.collect();
        Bids {
            step,
            plain: step,
            checked,
            ready: streams.iter().filter(|s| Model::ready(s).is_some()).count(),
            followed: streams.len(),
            asked: Vec::new(),
            reads: None,
            rows: if self.state.is_recurrent() { MOST } else { 0 },
        }
    }

    /// The place of a piece's sequence, if tokens may be proposed for it.
    fn place_of(&self, piece: &Piece) -> Option<usize> {
        let at = self.running.iter().position(|s| s.id == piece.id)?;
        (self.running[at].ask.speculate && piece.n == 1).then_some(at)
    }

    fn most_proposed(&self, at: usize) -> usize {
        let s = &self.running[at];
        // The last token of an answer needs no proposal after it.
        let left = s.ask.max_tokens.map_or(usize::MAX, |most| (most - s.made) as usize - 1);
        let in_context = (s.context as usize).saturating_sub(s.tokens.len() + 1);
        MOST.min(left).min(in_context)
    }

    /// Pages for so many proposed tokens, and rows for the states between, of those that are left; `None` if
    /// there are not so many.
    fn room_for(&mut self, at: usize, n: usize, rows: &mut usize) -> Option<Vec<RowId>> {
        let end = self.running[at].tokens.len() + n;
        let wanted = if self.state.is_recurrent() { n } else { 0 };
        if wanted > *rows || !self.reserve_spare(at, end) {
            return None;
        }
        let keep = self.state.take_rows(wanted);
        if keep.len() < wanted {
            self.state.release_rows(&keep);
            return None;
        }
        *rows -= wanted;
        Some(keep)
    }

    /// What is to be proposed for a stream: by whom, and how many tokens.
    fn best_offer(
        &mut self,
        at: usize,
        most: usize,
        bids: &mut Bids,
        now: Duration,
    ) -> Option<Offer> {
        let text = self.offer_of_text(at, most, bids);
        let model = self.offer_of_model(at, most, bids);
        let model = model.filter(|model| {
            text.as_ref().is_none_or(|text| model.with.score() > text.with.score())
        });
        match model {
            Some(offer) if self.is_read(at, &offer, bids, now) => Some(offer),
            _ => text,
        }
    }

    /// What the text itself proposes.
    fn offer_of_text(&mut self, at: usize, most: usize, bids: &Bids) -> Option<Offer> {
        let s = &mut self.running[at];
        let repeated = s.drafter.repeated(&s.tokens, most).len();
        let record = s.drafter.record(Source::Text);
        if !record.is_up() || repeated == 0 {
            return None;
        }
        let worth = record.worth(repeated, bids.step, self.pace.checking(bids.checked));
        worth.map(|(n, with)| Offer { source: Source::Text, n, with })
    }

    /// What the model would propose for a stream that it has read.
    fn offer_of_model(&mut self, at: usize, most: usize, bids: &Bids) -> Option<Offer> {
        let draft = self.draft.as_ref().filter(|draft| !draft.is_broken())?;
        if !self.running[at].drafter.record(Source::Model).is_up() {
            return None;
        }
        self.pace.estimate(1)?;
        // A text that is to be read first is judged as if it were, and all others with it; so is a trial.
        let ready = Model::ready(&self.running[at]);
        let is_joint = ready.is_none() || !draft.is_known();
        let friends = if is_joint { bids.followed } else { bids.ready };
        let lacks = ready.unwrap_or(1);
        let first = draft.seconds(friends + lacks - 1, &self.pace)?;
        let next = draft.seconds(friends, &self.pace)?;
        let checks = self.pace.checking(bids.checked);
        let cost = |n: usize| (first + next * (n - 1) as f64) / friends as f64 + checks(n);
        let record = self.running[at].drafter.record(Source::Model);
        let worth = record.worth(most, bids.step, cost);
        worth.map(|(n, with)| Offer { source: Source::Model, n, with })
    }

    /// Whether the model knows the text that it is to go on with. If not, and if reading it pays, it reads.
    fn is_read(&self, at: usize, offer: &Offer, bids: &mut Bids, now: Duration) -> bool {
        let (Some(draft), s) = (&self.draft, &self.running[at]) else { return false };
        if Model::ready(s).is_some() {
            return true;
        }
        // It is tried on one text, and reads one at a time. To know what it has of a new one takes a walk
        // through all of it.
        let is_new = s.follow.is_none();
        let is_tried = || self.running.iter().any(|other| other.follow.is_some());
        let waits = is_new && (!s.made.is_multiple_of(LOOK) || (!draft.is_known() && is_tried()));
        if waits || bids.reads.is_some() {
            return false;
        }
        let lacks = draft.lacks(s);
        let Some(seconds) = draft.seconds(lacks, &self.pace) else { return false };
        // A text is expected to go on for as long as it has been going on.
        let since = now.saturating_sub(s.times.started.unwrap_or(now)).as_secs_f64();
        let left = s.ask.max_tokens.map_or(f64::MAX, |most| f64::from(most - s.made));
        let spell = since.min(left * bids.step.seconds);
        let saved = 1.0 - (bids.step.score() - offer.with.score()).exp();
        let on_trial = !draft.pays_to_read(seconds, saved, spell);
        if !on_trial || draft.may_try(seconds, bids.step.seconds) {
            let n = draft.piece(lacks, bids.step.seconds, &self.pace);
            bids.reads = Some(Wish { at, n, on_trial });
        }
        false
    }

    /// Whether what the model says is only compared: as long as it is not known, among others at any rate.
    fn rehearses(&mut self, at: usize, bids: &Bids) -> bool {
        let is_known = self.draft.as_ref().is_some_and(Model::is_known);
        let record = self.running[at].drafter.record(Source::Model);
        record.rehearses() || (!is_known && bids.step.streams > 1)
    }

    /// The model says a token that is only compared, if that may be spent.
    fn rehearsal(&self, piece: usize, at: usize, step: Deal) -> Option<Asked> {
        let (draft, lacks) = (self.draft.as_ref()?, Model::ready(&self.running[at])?);
        let seconds = draft.seconds(lacks, &self.pace)?;
        let asked = Asked { piece, at, n: 1, lacks, keep: None };
        draft.may_try(seconds, step.seconds).then_some(asked)
    }

    /// Lets the model say what it was asked for, if that pays for all together.
    fn ask_model(&mut self, plan: &mut Plan, mut bids: Bids, clock: &dyn Fn() -> Duration) {
        if !self.pays(&bids) {
            for dropped in bids.asked.extract_if(.., |asked| asked.keep.is_some()) {
                self.state.release_rows(&dropped.keep.unwrap_or_default());
            }
        }
        let Some(draft) = &mut self.draft else { return };
        if bids.asked.is_empty() && bids.reads.is_none() {
            return;
        }
        let wish = |a: &Asked| Wish { at: a.at, n: a.n, on_trial: a.keep.is_none() };
        let wanted: Vec<Wish> = bids.asked.iter().map(wish).collect();
        let said = draft.propose(&mut self.running, &wanted, bids.reads, clock);
        for (asked, drafts) in bids.asked.into_iter().zip(said) {
            let piece = &mut plan.pieces[asked.piece];
            let Some(mut keep) = asked.keep else {
                piece.rehearsed = drafts.first().copied();
                continue;
            };
            let unused = keep.split_off(drafts.len().min(keep.len()));
            self.state.release_rows(&unused);
            piece.propose(Source::Model, drafts, keep);
        }
    }

    /// Whether the step makes more tokens a second with what the model is asked for: its steps are of
    /// fewer and fewer streams, which the bids of each did not know.
    fn pays(&self, bids: &Bids) -> bool {
        let Some(draft) = &self.draft else { return false };
        let seconds = |tokens: usize| draft.seconds(tokens, &self.pace).unwrap_or(f64::MAX);
        let rounds = (1..=MOST).map(|round| {
            let proposes = |asked: &&Asked| asked.n >= round && asked.keep.is_some();
            let going = bids.asked.iter().filter(proposes);
            let first = |asked: &Asked| if round == 1 { asked.lacks } else { 1 };
            going.map(first).sum::<usize>()
        });
        let asking: f64 = rounds.take_while(|&tokens| tokens > 0).map(seconds).sum();
        let checking = self.pace.estimate(bids.checked).unwrap_or(f64::MAX);
        let with = Deal { seconds: asking + checking, ..bids.step };
        with.score() > bids.plain.score()
    }
}

impl Bids {
    fn take(&mut self, offer: &Offer) {
        if offer.source == Source::Text {
            self.plain.gain += offer.with.gain - self.step.gain;
            self.plain.seconds += offer.with.seconds - self.step.seconds;
        }
        self.step = offer.with;
        self.checked += offer.n;
    }
}

impl Piece {
    fn propose(&mut self, source: Source, drafts: Vec<u32>, keep: Vec<RowId>) {
        self.rows = 1 + drafts.len();
        (self.source, self.drafts, self.keep) = (source, drafts, keep);
    }
}
