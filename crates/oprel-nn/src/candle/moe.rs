//! Routed experts: the choice is made on the host, each expert runs on the tokens that chose it.

use candle_core::Tensor;

use super::ops::activate;
use super::pass::Pass;
use crate::describe::{ExpertGroups, Gating, Moe, Router, RouterInput};
use crate::exec::Dev;
use crate::{Error, Result};

/// Smallest sum that weights are divided by: 2^-14, as in ggml.
const LEAST_SUM: f32 = 6.103_515_6e-5;

/// The tokens of one expert and the weights they give it.
#[derive(Clone, Default)]
struct Load {
    tokens: Vec<u32>,
    weights: Vec<f32>,
}

impl Pass<'_> {
    /// Experts on `x` (n, width): the router and shared experts run on the layer's feed-forward device,
    /// the routed ones on theirs.
    pub(super) fn moe(&mut self, m: &Moe, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let (ffn, experts) = (self.place.ffn, self.place.experts);
        let loads = self.route(&m.router, x, residual, ffn)?;
        let inner = match &m.latent {
            Some(latent) => self.linear(&latent.down, x, ffn)?,
            None => x.clone(),
        };
        let inner = self.to(&inner, ffn, experts)?;
        let y = self.run_experts(m, &loads, &inner, experts)?;
        let mut y = self.to(&y, experts, ffn)?;
        if let Some(latent) = &m.latent {
            if let Some(norm) = &latent.norm {
                y = self.norm(norm, &y, ffn)?;
            }
            y = self.linear(&latent.up, &y, ffn)?;
        }
        let Some(shared) = &m.shared else { return Ok(y) };
        let mut beside = self.feed_forward(&shared.ffn, x, ffn)?;
        if let Some(gate) = &shared.gate {
            let gate = candle_nn::ops::sigmoid(&self.linear(gate, x, ffn)?)?;
            beside = beside.broadcast_mul(&gate)?;
        }
        Ok((y + beside)?)
    }

    /// Chooses and weighs the experts of every token.
    fn route(&mut self, r: &Router, x: &Tensor, residual: &Tensor, dev: Dev) -> Result<Vec<Load>> {
        let input = match &r.input {
            RouterInput::Same => x.clone(),
            RouterInput::Residual(Some(norm)) => self.norm(norm, residual, dev)?,
            RouterInput::Residual(None) => residual.clone(),
        };
        let scores: Vec<Vec<f32>> = self.linear(&r.w, &input, dev)?.to_vec2()?;
        let bias = match r.choice_bias {
            Some(id) => Some(self.vector(id, dev)?.to_vec1::<f32>()?),
            None => None,
        };
        let mut loads = vec![Load::default(); r.w.rows.len()];
        for (t, scores) in scores.iter().enumerate() {
            let fixed = self.fixed_choice(r, t, dev)?;
            for (expert, weight) in choose(r, scores, bias.as_deref(), fixed)? {
                loads[expert].tokens.push(t as u32);
                loads[expert].weights.push(weight);
            }
        }
        Ok(loads)
    }

    /// The experts that a table names for the id of token `t`.
    fn fixed_choice(&self, r: &Router, t: usize, dev: Dev) -> Result<Option<Vec<usize>>> {
        let Some(table) = r.by_token else { return Ok(None) };
        let row = self.matrix(table, dev)?.get(self.batch.tokens[t] as usize)?;
        let ids = row.to_vec1::<f32>()?;
        Ok(Some(ids.into_iter().map(|id| id as usize).collect()))
    }

    fn run_experts(&mut self, m: &Moe, loads: &[Load], x: &Tensor, dev: Dev) -> Result<Tensor> {
        let mut sum = x.zeros_like()?;
        for (expert, load) in loads.iter().enumerate() {
            if load.tokens.is_empty() {
                continue;
            }
            let n = load.tokens.len();
            let tokens = Tensor::new(load.tokens.as_slice(), self.device(dev))?;
            let weights =
                Tensor::new(load.weights.as_slice(), self.device(dev))?.reshape((n, 1))?;
            let mut x = x.index_select(&tokens, 0)?;
            if m.weigh_input {
                x = x.broadcast_mul(&weights)?;
            }
            let mut y = self.run_expert(m, expert as u32, &x, dev)?;
            if !m.weigh_input {
                y = y.broadcast_mul(&weights)?;
            }
            sum = sum.index_add(&tokens, &y, 0)?;
        }
        Ok(sum)
    }

    fn run_expert(&mut self, m: &Moe, expert: u32, x: &Tensor, dev: Dev) -> Result<Tensor> {
        let gate = m.gate.as_ref().map(|g| self.expert(g, expert, x, dev)).transpose()?;
        let up = self.expert(&m.up, expert, x, dev)?;
        let y = activate(m.act, gate.as_ref(), &up)?;
        self.expert(&m.down, expert, &y, dev)
    }
}

/// The experts of one token with their weights; `fixed` names them instead of the scores.
fn choose(
    r: &Router,
    scores: &[f32],
    bias: Option<&[f32]>,
    fixed: Option<Vec<usize>>,
) -> Result<Vec<(usize, f32)>> {
    let probabilities = gated(r.gating, scores);
    // llama4 chooses by the scores themselves.
    let mut choice = match r.gating {
        Gating::SigmoidChosen => scores.to_vec(),
        _ => probabilities.clone(),
    };
    if let Some(bias) = bias {
        choice.iter_mut().zip(bias).for_each(|(c, b)| *c += b);
    }
    if let Some(groups) = r.groups {
        keep_best_groups(&mut choice, groups)?;
    }
    let chosen = fixed.unwrap_or_else(|| largest(&choice, r.n_used as usize));
    if chosen.iter().any(|&e| e >= scores.len()) {
        return Err(Error::Description("a token's expert is not there".into()));
    }
    let mut weights: Vec<f32> = chosen.iter().map(|&e| probabilities[e]).collect();
    if r.gating == Gating::SoftmaxChosen {
        weights = softmax(&weights);
    }
    if r.normalize {
        let sum = weights.iter().sum::<f32>().max(LEAST_SUM);
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    weights.iter_mut().for_each(|w| *w *= r.scale);
    Ok(chosen.into_iter().zip(weights).collect())
}

fn gated(gating: Gating, scores: &[f32]) -> Vec<f32> {
    let sigmoid = |x: &f32| 1.0 / (1.0 + (-x).exp());
    match gating {
        Gating::Softmax => softmax(scores),
        Gating::SoftmaxChosen => scores.to_vec(),
        Gating::Sigmoid | Gating::SigmoidChosen => scores.iter().map(sigmoid).collect(),
        Gating::SqrtSoftplus => scores.iter().map(|x| softplus(*x).sqrt()).collect(),
    }
}

/// ln(1 + e^x); x itself above 20, as in ggml.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

fn softmax(scores: &[f32]) -> Vec<f32> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

/// Takes every expert out of the choice whose group is not among the best; a group counts by the sum of
/// its two best experts.
fn keep_best_groups(choice: &mut [f32], groups: ExpertGroups) -> Result<()> {
    let n = groups.n as usize;
    if n == 0 || !choice.len().is_multiple_of(n) {
        return Err(Error::Description(format!("{} experts in {n} groups", choice.len())));
    }
    let len = choice.len() / n;
    let score = |group: &[f32]| largest(group, 2).into_iter().map(|e| group[e]).sum::<f32>();
    let scores: Vec<f32> = choice.chunks(len).map(score).collect();
    let best = largest(&scores, groups.used as usize);
    for (g, group) in choice.chunks_mut(len).enumerate() {
        if !best.contains(&g) {
            group.fill(f32::NEG_INFINITY);
        }
    }
    Ok(())
}

/// Indices of the `k` largest values, largest first; of equal ones the earlier.
fn largest(values: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::{Linear, SiteId};
    use crate::weights::WeightId;

    fn router(gating: Gating, n_used: u32) -> Router {
        let w = Linear { w: WeightId(0), rows: 0..4, bias: None, scale: None, site: SiteId(0) };
        Router {
            w,
            input: RouterInput::Same,
            gating,
            n_used,
            choice_bias: None,
            groups: None,
            normalize: false,
            scale: 1.0,
            by_token: None,
        }
    }

    /// Chosen experts, with weights in thousandths.
    fn chosen(r: &Router, scores: &[f32], bias: Option<&[f32]>) -> Vec<(usize, i32)> {
        let all = choose(r, scores, bias, None).expect("the router is sound");
        all.into_iter().map(|(e, w)| (e, (w * 1000.0).round() as i32)).collect()
    }

    #[test]
    fn softmax_is_over_all_experts_or_over_the_chosen() {
        let scores = [0.0, 2.0_f32.ln(), 0.0, 4.0_f32.ln()];
        assert_eq!(chosen(&router(Gating::Softmax, 2), &scores, None), [(3, 500), (1, 250)]);
        let over_chosen = router(Gating::SoftmaxChosen, 2);
        assert_eq!(chosen(&over_chosen, &scores, None), [(3, 667), (1, 333)]);
    }

    #[test]
    fn normalized_weights_sum_to_the_scale() {
        let scores = [0.0, 2.0_f32.ln(), 0.0, 4.0_f32.ln()];
        let r = Router { normalize: true, scale: 3.0, ..router(Gating::Softmax, 2) };
        assert_eq!(chosen(&r, &scores, None), [(3, 2000), (1, 1000)]);
    }

    #[test]
    fn a_choice_bias_chooses_and_does_not_weigh() {
        let r = router(Gating::Sigmoid, 1);
        let bias = [0.0, 0.0, 9.0, 0.0];
        assert_eq!(chosen(&r, &[1.0, 1.0, 0.0, 1.0], Some(&bias)), [(2, 500)]);
    }

    #[test]
    fn only_experts_of_the_best_groups_are_chosen() {
        // Expert 0 is the best, but its group is worse than the other by the sum of two.
        let groups = Some(ExpertGroups { n: 2, used: 1 });
        let r = Router { groups, ..router(Gating::Sigmoid, 2) };
        let experts = chosen(&r, &[3.0, -9.0, 2.0, 2.5], None);
        assert_eq!(experts.into_iter().map(|(e, _)| e).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn experts_in_groups_that_do_not_divide_them_are_refused() {
        let groups = Some(ExpertGroups { n: 3, used: 1 });
        let r = Router { groups, ..router(Gating::Sigmoid, 2) };
        assert!(matches!(choose(&r, &[0.0; 4], None, None), Err(Error::Description(_))));
    }
}
