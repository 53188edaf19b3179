//! Which experts each token runs through, and with which weight; then the same, expert by expert.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use oprel_cpu::activation::{Activation, activate};
use oprel_cpu::matmul::Places;
use oprel_cpu::softmax::softmax;
use oprel_cpu::{Isa, Parts};

use super::arena::{Buf, zeroed};
use super::compile::{Compiler, Site, unsupported};
use super::linear::Linear;
use super::norm::Norm;
use super::run::{Memories, Run};
use crate::describe::{self, ExpertGroups, Gating, RouterInput};
use crate::{Error, Result};

/// Tokens that a thread chooses for at once.
const TOKENS: usize = 8;
/// Experts that a thread has room to sort.
const MOST_EXPERTS: usize = 1 << 16;
/// Least sum that weights are divided by, as in ggml.
const LEAST_SUM: f32 = 6.103_515_6e-5;

/// Scores experts and chooses some for each token.
#[derive(Debug)]
pub(super) struct Router {
    w: Linear,
    /// A norm of its own, from the residual.
    norm: Option<(Norm, Buf, Buf)>,
    /// What `w` reads.
    input: Buf,
    /// Whether that is what the branch reads.
    reads_branch: bool,
    branch_input: Buf,
    /// (n, experts).
    scores: Buf,
    gating: Gating,
    pub(super) n_used: usize,
    choice_bias: Option<Arc<[f32]>>,
    groups: Option<ExpertGroups>,
    normalize: bool,
    scale: f32,
}

/// The choice for a batch. A pair is a token and one of its experts, in the token's order.
#[derive(Debug)]
pub(super) struct Routes {
    /// Expert of each pair (n, used).
    chosen: Box<[u32]>,
    /// Weight of each pair (n, used).
    weights: Box<[f32]>,
    /// Place of each pair when pairs are sorted by expert (n, used).
    place: Box<[u32]>,
    /// Token of each place.
    token: Box<[u32]>,
    /// 0, 1, 2, ...: the places themselves.
    places: Box<[u32]>,
    /// First place of each expert, and the number of places at the end.
    starts: Vec<u32>,
    /// Experts that have places.
    active: Vec<u32>,
    /// Pairs of this batch.
    n: usize,
}

impl Routes {
    /// Room for `pairs` pairs of `experts` experts.
    ///
    /// # Errors
    /// [`Error::Memory`] if it cannot be had.
    pub(super) fn new(pairs: usize, experts: usize) -> Result<Routes> {
        let list = || zeroed(pairs, "routes of tokens");
        let mut places = list()?;
        places.iter_mut().zip(0..).for_each(|(place, i)| *place = i);
        Ok(Routes {
            chosen: list()?,
            weights: zeroed(pairs, "routes of tokens")?,
            place: list()?,
            token: list()?,
            places,
            starts: Vec::with_capacity(experts + 1),
            active: Vec::with_capacity(experts),
            n: 0,
        })
    }

    /// Bytes for `pairs` pairs of `experts` experts.
    pub(super) fn bytes_of(pairs: usize, experts: usize) -> u64 {
        (5 * pairs as u64 + 2 * experts as u64 + 1) * 4
    }

    pub(super) fn bytes(&self) -> u64 {
        let pairs = 5 * self.places.len();
        (pairs + self.starts.capacity() + self.active.capacity()) as u64 * 4
    }

    /// Experts of pairs.
    pub(super) fn chosen(&self) -> &[u32] {
        &self.chosen[..self.n]
    }

    /// Weights of pairs.
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights[..self.n]
    }

    /// Places of pairs.
    pub(super) fn place(&self) -> &[u32] {
        &self.place[..self.n]
    }

    /// Tokens of an expert's places.
    pub(super) fn tokens_of(&self, expert: usize) -> &[u32] {
        &self.token[self.of_expert(expert)]
    }

    /// An expert's places.
    pub(super) fn places_of(&self, expert: usize) -> &[u32] {
        &self.places[self.of_expert(expert)]
    }

    fn of_expert(&self, expert: usize) -> Range<usize> {
        self.starts[expert] as usize..self.starts[expert + 1] as usize
    }

    /// The places as kernels take them.
    pub(super) fn sorted(&self) -> Places<'_> {
        Places::new(&self.starts, &self.active)
    }

    /// Experts that have places, in ascending order.
    pub(super) fn active(&self) -> &[u32] {
        &self.active
    }

    /// Sorts pairs by expert; those of one expert stay in token order.
    fn sort(&mut self, n_experts: usize, n_used: usize) {
        let Routes { chosen, place, token, starts, active, n, .. } = self;
        let chosen = &chosen[..*n];
        starts.clear();
        starts.resize(n_experts + 1, 0);
        for &expert in chosen {
            starts[expert as usize + 1] += 1;
        }
        active.clear();
        active.extend((0..n_experts as u32).filter(|&e| starts[e as usize + 1] > 0));
        for expert in 0..n_experts {
            starts[expert + 1] += starts[expert];
        }
        for (pair, &expert) in chosen.iter().enumerate() {
            let next = &mut starts[expert as usize];
            token[*next as usize] = (pair / n_used) as u32;
            place[pair] = *next;
            *next += 1;
        }
        // Every start has moved to its expert's end: one step back in the list.
        starts.rotate_right(1);
        starts[0] = 0;
    }
}

impl Router {
    pub(super) fn compile(
        c: &mut Compiler<'_>,
        router: &describe::Router,
        site: Site,
    ) -> Result<Router> {
        if router.by_token.is_some() {
            return Err(unsupported("experts chosen by token id"));
        }
        let w = c.linear(&router.w, c.width)?;
        let (n_experts, n_used) = (w.rows(), router.n_used as usize);
        let groups = router.groups.filter(|g| g.n > 1);
        let grouped = groups
            .is_none_or(|g| n_experts.is_multiple_of(g.n as usize) && g.used > 0 && g.used <= g.n);
        if n_used == 0 || n_used > n_experts || !grouped {
            let what = format!("{n_used} of {n_experts} experts, in groups {groups:?}");
            return Err(Error::Description(what));
        }
        if n_experts > MOST_EXPERTS {
            return Err(unsupported(format!("{n_experts} experts")));
        }
        let norm = match &router.input {
            RouterInput::Residual(Some(norm)) => {
                Some((c.norm(norm, c.width)?, site.residual, c.layout.buf(c.width)?))
            }
            _ => None,
        };
        let input = match (&router.input, &norm) {
            (_, Some((_, _, to))) => *to,
            (RouterInput::Same, _) => site.input,
            (RouterInput::Residual(_), _) => site.residual,
        };
        c.experts = (c.experts.0.max(n_experts), c.experts.1.max(n_used));
        Ok(Router {
            scores: c.layout.buf(n_experts)?,
            choice_bias: router.choice_bias.map(|id| c.vector(id, n_experts)).transpose()?,
            w,
            norm,
            reads_branch: input == site.input,
            branch_input: site.input,
            input,
            gating: router.gating,
            n_used,
            groups,
            normalize: router.normalize,
            scale: router.scale,
        })
    }

    /// Number of experts.
    pub(super) fn n_experts(&self) -> usize {
        self.w.rows()
    }

    /// Chooses for every token of the batch. `beside` is a linear layer that reads the branch's input
    /// too, and where its result goes.
    pub(super) fn run(&self, run: &mut Run<'_>, beside: Option<(&Linear, Buf)>) {
        if let Some((norm, from, to)) = &self.norm {
            norm.apply(run, *from, *to);
        }
        let scores = (&self.w, self.scores);
        match beside {
            Some(beside) if self.reads_branch => run.project(self.input, &[scores, beside]),
            Some(beside) => {
                run.project(self.input, &[scores]);
                run.project(self.branch_input, &[beside]);
            }
            None => run.project(self.input, &[scores]),
        }
        let (isa, n_experts, n_used) = (run.kernels.isa(), self.n_experts(), self.n_used);
        let n_pairs = run.n * n_used;
        let Memories { arena, routes, .. } = &mut *run.mem;
        routes.n = n_pairs;
        let parts = (
            Parts::new(arena.row(run.n, self.scores), TOKENS * n_experts),
            Parts::new(&mut routes.chosen[..n_pairs], TOKENS * n_used),
            Parts::new(&mut routes.weights[..n_pairs], TOKENS * n_used),
        );
        run.pool.run_parts(parts, |_, (scores, chosen, weights), worker| {
            let pairs = chosen.chunks_exact_mut(n_used).zip(weights.chunks_exact_mut(n_used));
            for (scores, (chosen, weights)) in scores.chunks_exact_mut(n_experts).zip(pairs) {
                self.choose(isa, scores, worker.scratch(), chosen, weights);
            }
        });
        routes.sort(n_experts, n_used);
    }

    /// Chooses for one token with these scores, which become probabilities.
    fn choose(
        &self,
        isa: Isa,
        scores: &mut [f32],
        scratch: &mut [f32],
        chosen: &mut [u32],
        weights: &mut [f32],
    ) {
        match self.gating {
            Gating::Softmax => softmax(isa, scores),
            Gating::Sigmoid => activate(isa, Activation::Sigmoid, scores),
            Gating::SqrtSoftplus => {
                activate(isa, Activation::Softplus, scores);
                scores.iter_mut().for_each(|x| *x = x.sqrt());
            }
            Gating::SoftmaxChosen | Gating::SigmoidChosen => {}
        }
        let (choice, rest) = scratch.split_at_mut(scores.len());
        let (order, rest) = rest.split_at_mut(scores.len());
        let order: &mut [u32] = bytemuck::cast_slice_mut(order);
        match &self.choice_bias {
            Some(bias) => {
                let biased = scores.iter().zip(&**bias).map(|(s, b)| s + b);
                choice.iter_mut().zip(biased).for_each(|(c, x)| *c = x);
            }
            None => choice.copy_from_slice(scores),
        }
        if let Some(groups) = self.groups {
            leave_out_groups(groups, choice, order, &mut rest[..groups.n as usize]);
        }
        chosen.copy_from_slice(best(choice, self.n_used, order));
        weights.iter_mut().zip(&*chosen).for_each(|(w, &e)| *w = scores[e as usize]);
        self.weigh(isa, weights);
    }

    fn weigh(&self, isa: Isa, weights: &mut [f32]) {
        match self.gating {
            Gating::SoftmaxChosen => softmax(isa, weights),
            Gating::SigmoidChosen => activate(isa, Activation::Sigmoid, weights),
            _ => {}
        }
        if self.normalize {
            let sum = weights.iter().sum::<f32>().max(LEAST_SUM);
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        weights.iter_mut().for_each(|w| *w *= self.scale);
    }
}

/// Indices of the `k` largest, the largest first; of equals the lower index first. They stand at the
/// start of `order`, which is as long as `x`.
fn best<'o>(x: &[f32], k: usize, order: &'o mut [u32]) -> &'o [u32] {
    let by_value =
        |a: &u32, b: &u32| -> Ordering { x[*b as usize].total_cmp(&x[*a as usize]).then(a.cmp(b)) };
    let order = &mut order[..x.len()];
    order.iter_mut().zip(0..).for_each(|(o, i)| *o = i);
    if k < order.len() && k > 0 {
        order.select_nth_unstable_by(k - 1, by_value);
    }
    let order = &mut order[..k.min(x.len())];
    order.sort_unstable_by(by_value);
    order
}

/// Makes experts outside the best groups impossible to choose.
fn leave_out_groups(
    groups: ExpertGroups,
    choice: &mut [f32],
    order: &mut [u32],
    scores: &mut [f32],
) {
    let len = choice.len() / groups.n as usize;
    for (group, score) in choice.chunks_exact(len).zip(&mut *scores) {
        *score = best(group, 2.min(len), order).iter().map(|&e| group[e as usize]).sum();
    }
    let used = best(scores, groups.used as usize, order);
    for (g, group) in choice.chunks_exact_mut(len).enumerate() {
        if !used.contains(&(g as u32)) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_by_expert_and_stay_in_token_order() {
        let mut routes = Routes::new(8, 4).unwrap();
        routes.n = 6;
        routes.chosen[..6].copy_from_slice(&[2, 0, 0, 3, 2, 0]);
        routes.sort(4, 2);
        assert_eq!(routes.starts, [0, 3, 3, 5, 6]);
        assert_eq!(routes.active(), [0, 2, 3]);
        assert_eq!(routes.token[..6], [0, 1, 2, 0, 2, 1]);
        assert_eq!(routes.place(), [3, 0, 1, 5, 4, 2]);
        assert_eq!((routes.tokens_of(2), routes.places_of(2)), (&[0, 2][..], &[3, 4][..]));
    }

    #[test]
    fn experts_outside_the_best_groups_are_not_chosen() {
        let (mut choice, mut order) = ([5.0, -9.0, 1.0, 2.0], [0; 4]);
        leave_out_groups(ExpertGroups { n: 2, used: 1 }, &mut choice, &mut order, &mut [0.0; 2]);
        assert_eq!(best(&choice, 2, &mut order), [3, 2]);
    }
}
