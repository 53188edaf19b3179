//! What comes of a batch: tokens that are chosen, proposals that are checked, sequences that end.

use std::time::Duration;

use oprel_api::{EndReason, Failure, Sampled};
use oprel_nn::batch::SeqId;

use super::Engine;
use super::plan::{Piece, Plan, SPARSE};
use crate::draft::Source;
use crate::logprob;
use crate::sampler::{Given, Scratch};
use crate::sequence::{Says, Sequence};
use crate::{Error, Result};

/// What becomes of a sequence after its tokens of a step.
enum After {
    Goes,
    Ends(EndReason),
}

/// Rows of logits.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    n_vocab: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.n_vocab..(i + 1) * self.n_vocab]
    }

    fn from(&self, i: usize) -> Rows<'a> {
        Rows { values: &self.values[i * self.n_vocab..], n_vocab: self.n_vocab }
    }
}

impl Engine {
    /// Takes what a batch gave.
    pub(super) fn take_results(
        &mut self,
        plan: Plan,
        now: Duration,
        says: &mut Vec<(SeqId, Says)>,
    ) {
        let mut got = std::mem::take(&mut self.out.got);
        let has_logits = plan.pieces.iter().any(|p| p.rows > 0);
        let logits = if has_logits { &got[0].values[..] } else { &[] };
        let rows = Rows { values: logits, n_vocab: self.bounds.n_vocab as usize };
        let mut first = 0;
        for piece in &plan.pieces {
            self.take_piece(piece, rows.from(first), now, says);
            first += piece.rows;
        }
        self.take_vectors(plan.texts, &mut got[usize::from(has_logits)..], now, says);
        self.out.got = got;
    }

    fn take_piece(
        &mut self,
        piece: &Piece,
        rows: Rows<'_>,
        now: Duration,
        says: &mut Vec<(SeqId, Says)>,
    ) {
        let Some(at) = self.running.iter().position(|s| s.id == piece.id) else { return };
        let s = &mut self.running[at];
        s.alone = false;
        s.times.last = now;
        let (start, before, made) = (s.fed, s.tokens.len(), s.made);
        s.fed += piece.n;
        if piece.prefills {
            self.gauges.prompt_tokens += piece.n as u64;
            tell_prompt(s, start, piece.rows, rows, says);
        }
        let scratch = &mut self.scratch;
        let after =
            learn_again(s, start, piece, rows, scratch).and_then(|()| match s.fed < before {
                true => Ok(After::Goes),
                false => choose(s, piece, rows, scratch, says),
            });
        let taken = s.fed - start - piece.n;
        s.drafter.learn_outcome(piece.source, piece.drafts.len(), taken);
        if let Some(model) = &mut self.draft {
            if piece.source == Source::Model {
                model.learn(piece.drafts.len(), taken);
            }
            if let Some((said, is)) = piece.rehearsed.zip(s.tokens.get(before)) {
                s.drafter.learn_rehearsal(said == *is);
                model.learn(1, usize::from(said == *is));
            }
        }
        self.gauges.generated_tokens += u64::from(s.made - made);
        let (client, computed) = (s.ask.client.clone(), piece.n + piece.drafts.len());
        self.queue.charge(&client, computed);
        self.settle(at, piece, taken, before);
        match after {
            Ok(After::Goes) => self.shift(at, says),
            Ok(After::Ends(reason)) => self.end(at, reason, says),
            Err(error) => self.fail(at, Failure::from(error), says),
        }
    }

    /// Brings what a sequence holds to where it stands: the state after the last token that counts,
    /// names of pages that are whole, checkpoints.
    fn settle(&mut self, at: usize, piece: &Piece, taken: usize, before: usize) {
        let s = &mut self.running[at];
        let lasting = || s.fed.is_multiple_of(SPARSE) || s.message_end() == Some(s.fed);
        let lasting = piece.prefills && s.fed < before && lasting();
        let Some(holding) = s.holding.as_mut() else { return };
        if self.state.is_recurrent() {
            let back = piece.drafts.len() - taken;
            let row = if back == 0 { piece.to } else { Some(piece.keep[back - 1]) };
            for kept in piece.keep.iter().filter(|&&kept| Some(kept) != row) {
                self.state.release_rows(&[*kept]);
            }
            if row != piece.to && piece.to != holding.row {
                self.state.release_rows(piece.to.as_slice());
            }
            self.state.move_to(holding, row);
        }
        self.state.advance(holding, &s.tokens, &mut s.names, s.fed);
        if piece.prefills && s.fed >= before {
            // Others may begin like this prompt while its answer is made.
            self.state.publish_rest(holding, &s.tokens, before.min(s.fed));
        }
        if piece.prefills && s.fed < before {
            self.state.keep_point(holding, &s.tokens, s.fed, lasting);
        }
        s.decodes |= s.fed >= before;
    }

    /// Forgets the older half of a text whose context is full, if it wants that.
    fn shift(&mut self, at: usize, says: &mut Vec<(SeqId, Says)>) {
        let Some(truncation) = self.running[at].shift() else { return };
        let s = &mut self.running[at];
        says.push((s.id, Says::Truncated(truncation)));
        s.drafter.forget();
        if let Some(draft) = &mut self.draft {
            draft.forget(s);
        }
        self.begin_again(at, says);
    }

    /// A batch failed. Alone, a sequence fails with it; of several, each is run alone next, for one
    /// may have broken it for all. The states of all are lost.
    pub(super) fn take_failure(
        &mut self,
        plan: Plan,
        error: &Error,
        says: &mut Vec<(SeqId, Says)>,
    ) {
        let failure = || error.failure();
        let lone = plan.pieces.len() + plan.texts == 1;
        for piece in &plan.pieces {
            self.state.release_rows(&piece.keep);
            self.release_to(piece);
            let Some(at) = self.running.iter().position(|s| s.id == piece.id) else { continue };
            if lone {
                self.fail(at, failure(), says);
                continue;
            }
            self.running[at].alone = true;
            self.begin_again(at, says);
        }
        self.fail_texts(plan.texts, lone, &failure(), says);
    }
}

/// Says the probabilities of prompt tokens: row `i` tells of the token after position `start + i`.
fn tell_prompt(
    s: &mut Sequence,
    start: usize,
    n_rows: usize,
    rows: Rows<'_>,
    says: &mut Vec<(SeqId, Says)>,
) {
    if !s.tells_prompt() || s.fed <= s.told {
        return;
    }
    let next = s.ask.tokens.iter().skip(start + 1).take(n_rows).enumerate();
    let told = next.map(|(i, &token)| logprob::sampled(rows.row(i), token, s.ask.prompt_logprobs));
    // A sequence that is fed again has told of the beginning already.
    let told: Vec<Sampled> = told.skip(s.told.saturating_sub(start)).collect();
    s.told = s.fed;
    says.push((s.id, Says::Prompt(told)));
}

/// Lets the sampler learn from tokens that were made before the sequence came here.
fn learn_again(
    s: &mut Sequence,
    start: usize,
    piece: &Piece,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<()> {
    if s.unseen == 0 {
        return Ok(());
    }
    let first = start + piece.n - piece.rows;
    for row in 0..piece.rows {
        // The row of a position tells of the token after it.
        let next = first + row + 1;
        // One that was preempted is fed again what it has learned from.
        if (s.tokens.len() - s.unseen..s.tokens.len()).contains(&next) {
            let given = Given::after(&s.tokens[..next]);
            s.sampler.observe(scratch, rows.row(row), given, s.tokens[next])?;
            s.unseen -= 1;
        }
    }
    Ok(())
}

/// Chooses the next token from the last row of a text, and more while proposals turn out right.
fn choose(
    s: &mut Sequence,
    piece: &Piece,
    rows: Rows<'_>,
    scratch: &mut Scratch,
    says: &mut Vec<(SeqId, Says)>,
) -> Result<After> {
    if s.ask.max_tokens.is_some_and(|most| s.made >= most) {
        return Ok(After::Ends(EndReason::MaxTokens));
    }
    let first = piece.rows - 1 - piece.drafts.len();
    for (i, row) in (first..piece.rows).enumerate() {
        let (token, end) = choose_one(s, rows.row(row), scratch, says)?;
        if let Some(end) = end {
            return Ok(After::Ends(end));
        }
        if piece.drafts.get(i) != Some(&token) || s.pending() != 1 {
            break;
        }
        // It was proposed, so it is in the state already.
        s.fed += 1;
    }
    Ok(After::Goes)
}

/// Chooses one token, and takes those that must follow it; why the sequence ends, if it does.
fn choose_one(
    s: &mut Sequence,
    logits: &[f32],
    scratch: &mut Scratch,
    says: &mut Vec<(SeqId, Says)>,
) -> Result<(u32, Option<EndReason>)> {
    let banned = s.banned();
    let position = s.position();
    let allowed = match &mut s.ask.guide {
        Some(guide) => guide.0.allowed().map_err(|why| Error::Constraint { why })?,
        None => None,
    };
    let given = Given { tokens: &s.tokens, position, banned: &banned, allowed };
    let token = s.sampler.choose(scratch, logits, given)?;
    let replayed = s.ask.replay.as_ref().and_then(|text| text.get(s.made as usize).copied());
    let token = replayed.unwrap_or(token);
    s.times.first.get_or_insert(s.times.last);
    if let Some(end) = s.ends_at(token) {
        return Ok((token, Some(end)));
    }
    says.push((s.id, Says::Token(logprob::sampled(logits, token, s.ask.logprobs))));
    let mut end = take(s, token)?;
    // What must follow needs no choice and no step of its own, unless its probability is asked for.
    while s.ask.logprobs.is_none() && end.is_none() && s.has_room() {
        let Some(forced) = s.ask.guide.as_mut().map(|guide| guide.0.forced()) else { break };
        if forced.is_empty() {
            break;
        }
        for token in forced {
            if end.is_none() && s.has_room() {
                says.push((s.id, Says::Token(Sampled { id: token, ..Sampled::default() })));
                end = take(s, token)?;
            }
        }
    }
    if let Some(guide) = s.ask.guide.as_mut().filter(|_| end.is_none()) {
        guide.0.prepare();
    }
    Ok((token, end))
}

/// A token joins the text; why the sequence ends after it, if it does.
fn take(s: &mut Sequence, token: u32) -> Result<Option<EndReason>> {
    s.push(token);
    if let Some(guide) = &mut s.ask.guide {
        guide.0.accept(token).map_err(|why| Error::Constraint { why })?;
    }
    Ok(s.limit().filter(|end| *end != EndReason::ContextFull || s.ask.shift.is_none()))
}
