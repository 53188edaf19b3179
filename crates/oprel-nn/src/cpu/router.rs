//! Which experts each token runs through, and with which weight; then the same, expert by expert.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::arena::Buf;
use super::compile::{Compiler, Site, unsupported};
use super::linear::Linear;
use super::norm::Norm;
use super::run::Run;
use crate::describe::{self, ExpertGroups, Gating, RouterInput};
use crate::{Error, Result};

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
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Expert of each pair (n, used).
    pub(super) chosen: Vec<u32>,
    /// Weight of each pair (n, used).
    pub(super) weights: Vec<f32>,
    /// Place of each pair when pairs are sorted by expert (n, used).
    pub(super) place: Vec<u32>,
    /// Token of each place.
    pub(super) token: Vec<u32>,
    /// 0, 1, 2, ...: the places themselves.
    pub(super) places: Vec<u32>,
    /// First place of each expert, and the number of places at the end.
    pub(super) starts: Vec<u32>,
    /// Experts, being sorted.
    order: Vec<u32>,
    /// What experts of one token are chosen by.
    choice: Vec<f32>,
    /// Scores of groups.
    group_scores: Vec<f32>,
}

impl Routes {
    /// Room for `pairs` pairs of `experts` experts.
    pub(super) fn new(pairs: usize, experts: usize) -> Routes {
        Routes {
            chosen: Vec::with_capacity(pairs),
            weights: Vec::with_capacity(pairs),
            place: Vec::with_capacity(pairs),
            token: Vec::with_capacity(pairs),
            places: (0..pairs as u32).collect(),
            starts: Vec::with_capacity(experts + 1),
            order: Vec::with_capacity(experts),
            choice: Vec::with_capacity(experts),
            group_scores: Vec::with_capacity(experts),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let pairs = 5 * self.places.len();
        (pairs + self.starts.capacity() + 3 * self.order.capacity()) as u64 * 4
    }

    /// Places of an expert.
    pub(super) fn of_expert(&self, expert: usize) -> Range<usize> {
        self.starts[expert] as usize..self.starts[expert + 1] as usize
    }

    /// Sorts pairs by expert; those of one expert stay in token order.
    fn sort(&mut self, n_experts: usize, n_used: usize) {
        self.starts.clear();
        self.starts.resize(n_experts + 1, 0);
        for &expert in &self.chosen {
            self.starts[expert as usize + 1] += 1;
        }
        for expert in 0..n_experts {
            self.starts[expert + 1] += self.starts[expert];
        }
        self.place.clear();
        self.token.clear();
        self.token.resize(self.chosen.len(), 0);
        for (pair, &expert) in self.chosen.iter().enumerate() {
            let next = &mut self.starts[expert as usize];
            self.token[*next as usize] = (pair / n_used) as u32;
            self.place.push(*next);
            *next += 1;
        }
        // Every start has moved to its expert's end: one step back in the list.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
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

    /// Chooses for every token of the batch.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        if let Some((norm, from, to)) = &self.norm {
            norm.apply(run, *from, *to);
        }
        run.project(self.input, &[(&self.w, self.scores)]);
        let routes = &mut run.mem.routes;
        routes.chosen.clear();
        routes.weights.clear();
        let scores = run.mem.arena.row(run.n, self.scores);
        for scores in scores.chunks_exact_mut(self.n_experts()) {
            self.choose(scores, routes);
        }
        routes.sort(self.n_experts(), self.n_used);
    }

    /// Chooses for one token with these scores, which become probabilities.
    fn choose(&self, scores: &mut [f32], routes: &mut Routes) {
        match self.gating {
            Gating::Softmax => softmax(scores),
            Gating::Sigmoid => scores.iter_mut().for_each(|x| *x = sigmoid(*x)),
            Gating::SqrtSoftplus => scores.iter_mut().for_each(|x| *x = softplus(*x).sqrt()),
            Gating::SoftmaxChosen | Gating::SigmoidChosen => {}
        }
        routes.choice.clear();
        match &self.choice_bias {
            Some(bias) => routes.choice.extend(scores.iter().zip(&**bias).map(|(s, b)| s + b)),
            None => routes.choice.extend_from_slice(scores),
        }
        if let Some(groups) = self.groups {
            leave_out_groups(groups, routes);
        }
        best(&routes.choice, self.n_used, &mut routes.order);
        let first = routes.weights.len();
        routes.chosen.extend_from_slice(&routes.order);
        routes.weights.extend(routes.order.iter().map(|&e| scores[e as usize]));
        self.weigh(&mut routes.weights[first..]);
    }

    fn weigh(&self, weights: &mut [f32]) {
        match self.gating {
            Gating::SoftmaxChosen => softmax(weights),
            Gating::SigmoidChosen => weights.iter_mut().for_each(|w| *w = sigmoid(*w)),
            _ => {}
        }
        if self.normalize {
            let sum = weights.iter().sum::<f32>().max(LEAST_SUM);
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        weights.iter_mut().for_each(|w| *w *= self.scale);
    }
}

/// Indices of the `k` largest, the largest first; of equals the lower index first.
fn best(x: &[f32], k: usize, order: &mut Vec<u32>) {
    let by_value =
        |a: &u32, b: &u32| -> Ordering { x[*b as usize].total_cmp(&x[*a as usize]).then(a.cmp(b)) };
    order.clear();
    order.extend(0..x.len() as u32);
    if k < order.len() && k > 0 {
        order.select_nth_unstable_by(k - 1, by_value);
    }
    order.truncate(k);
    order.sort_unstable_by(by_value);
}

/// Makes experts outside the best groups impossible to choose.
fn leave_out_groups(groups: ExpertGroups, routes: &mut Routes) {
    let len = routes.choice.len() / groups.n as usize;
    routes.group_scores.clear();
    for group in routes.choice.chunks_exact(len) {
        best(group, 2.min(len), &mut routes.order);
        routes.group_scores.push(routes.order.iter().map(|&e| group[e as usize]).sum());
    }
    best(&routes.group_scores, groups.used as usize, &mut routes.order);
    for (g, group) in routes.choice.chunks_exact_mut(len).enumerate() {
        if !routes.order.contains(&(g as u32)) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|v| *v = (*v - max).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|v| *v /= sum);
}

/// 1 / (1 + e^-x).
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// ln(1 + e^x), x itself where that is the same.
pub(super) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_by_expert_and_stay_in_token_order() {
        let mut routes = Routes::new(6, 4);
        routes.chosen.extend([2, 0, 0, 3, 2, 0]);
        routes.sort(4, 2);
        assert_eq!(routes.starts, [0, 3, 3, 5, 6]);
        assert_eq!(routes.token, [0, 1, 2, 0, 2, 1]);
        assert_eq!(routes.place, [3, 0, 1, 5, 4, 2]);
        assert_eq!(routes.of_expert(2), 3..5);
    }

    #[test]
    fn experts_outside_the_best_groups_are_not_chosen() {
        let mut routes = Routes::new(2, 4);
        routes.choice.extend([5.0, -9.0, 1.0, 2.0]);
        leave_out_groups(ExpertGroups { n: 2, used: 1 }, &mut routes);
        best(&routes.choice, 2, &mut routes.order);
        assert_eq!(routes.order, [3, 2]);
    }
}
