//! Routed experts: tokens are grouped by expert, so that each chosen expert's rows are read once a
//! step, and what experts give is summed in each token's own order.

use oprel_cpu::act::{Q8Mut, q8_words, quantized};
use oprel_cpu::activation::{add_times, set_times};
use oprel_cpu::matmul::{Activated, activated_experts, matmul_experts, sum_products};
use oprel_cpu::{Acts, MatMul, Parts};

use super::acts::Source;
use super::arena::Buf;
use super::compile::{Compiler, Site};
use super::ffn::Ffn;
use super::linear::{Linear, Out};
use super::norm::Norm;
use super::router::Router;
use super::run::{Memories, Run};
use crate::Result;
use crate::describe::{self, Activation};

/// Routed experts, and what runs beside them.
#[derive(Debug)]
pub(super) struct Moe {
    router: Router,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    act: Activation,
    latent: Option<Latent>,
    shared: Option<Shared>,
    /// What experts read: the branch's input, or its latent (n, dim).
    input: Buf,
    /// Inputs times weights, by place (n, used * dim).
    weighed: Option<Buf>,
    /// What is between up and down, by place (n, used * ff).
    middle: Buf,
    /// By place (n, used * dim).
    each: Buf,
    /// Where the sum over experts goes (n, dim).
    sum: Out,
    site: Site,
}

/// The space that experts work in.
#[derive(Debug)]
struct Latent {
    down: Linear,
    norm: Option<Norm>,
    up: Linear,
}

impl Latent {
    fn compile(c: &mut Compiler<'_>, latent: &describe::Latent) -> Result<Latent> {
        let down = c.linear(&latent.down, c.width)?;
        let norm = latent.norm.as_ref().map(|n| c.norm(n, down.rows())).transpose()?;
        let up = c.linear(&latent.up, down.rows())?;
        c.expect("the way out of the experts' space", up.rows(), c.width)?;
        Ok(Latent { down, norm, up })
    }
}

/// A feed-forward that every token runs through.
#[derive(Debug)]
struct Shared {
    ffn: Ffn,
    /// (n, width).
    out: Buf,
    /// Its gate and the gate's values (n, 1).
    gate: Option<(Linear, Buf)>,
}

impl Shared {
    fn compile(c: &mut Compiler<'_>, s: &describe::SharedExpert, site: Site) -> Result<Shared> {
        let out = c.layout.buf(c.width)?;
        let gate = match &s.gate {
            None => None,
            Some(gate) => {
                let gate = c.linear(gate, c.width)?;
                c.expect("the gate of a shared expert", gate.rows(), 1)?;
                Some((gate, c.layout.buf(1)?))
            }
        };
        let site = Site { out: Out { buf: out, into: None }, ..site };
        Ok(Shared { ffn: Ffn::compile(c, &s.ffn, site)?, out, gate })
    }
}

impl Moe {
    pub(super) fn compile(c: &mut Compiler<'_>, moe: &describe::Moe, site: Site) -> Result<Moe> {
        let shared = moe.shared.as_ref().map(|s| Shared::compile(c, s, site)).transpose()?;
        let router = Router::compile(c, &moe.router, site)?;
        let latent = moe.latent.as_ref().map(|l| Latent::compile(c, l)).transpose()?;
        let dim = latent.as_ref().map_or(c.width, |l| l.down.rows());
        let input = if latent.is_some() { c.layout.buf(dim)? } else { site.input };
        let used = router.n_used;
        let up = c.linear(&moe.up, dim)?;
        let ff = up.rows();
        let gate = moe.gate.as_ref().map(|g| c.linear(g, dim)).transpose()?;
        let down = c.linear(&moe.down, ff)?;
        c.expect("an expert's down projection", down.rows(), dim)?;
        for linear in [Some(&up), gate.as_ref(), Some(&down)].into_iter().flatten() {
            c.expect("a matrix of experts", linear.experts(), router.n_experts())?;
        }
        if let Some(gate) = &gate {
            c.expect("an expert's gate", gate.rows(), ff)?;
        }
        // A shared expert's middle stands behind those of the routed ones.
        c.quantizes(down.share(), used, ff);
        if let Some(shared) = &shared {
            c.quantizes_beside(
                (down.share(), used, ff),
                (shared.ffn.down.share(), shared.ffn.down.cols),
            );
        }
        let of_input = if moe.weigh_input { used } else { 1 };
        c.turns(used, down.ty(), ff);
        for linear in [Some(&up), gate.as_ref()].into_iter().flatten() {
            c.turns(of_input, linear.ty(), dim);
        }
        c.quantizes_inputs(of_input, dim);
        let weighed = moe.weigh_input.then(|| c.layout.buf(used * dim)).transpose()?;
        let sum = match latent {
            Some(_) => Out { buf: c.layout.buf(dim)?, into: None },
            None => site.out,
        };
        let (middle, each) = (c.layout.buf(used * ff)?, c.layout.buf(used * dim)?);
        let act = moe.act;
        Ok(Moe {
            router,
            gate,
            up,
            down,
            act,
            latent,
            shared,
            input,
            weighed,
            middle,
            each,
            sum,
            site,
        })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let gate = self.shared.as_ref().and_then(|s| s.gate.as_ref());
        self.router.run(run, gate.map(|(linear, values)| (linear, *values)));
        if let Some((_, values)) = gate {
            run.activate(Activation::Sigmoid, *values);
        }
        if let Some(latent) = &self.latent {
            run.project(self.site.input, &[(&latent.down, self.input)]);
        }
        if let Some(weighed) = self.weighed {
            self.weigh_inputs(run, weighed);
        }
        let quantizes = run.may_quantize_for(&self.down);
        // A shared expert runs in the regions of the others if it reads and leaves what they do.
        let alike = quantizes && self.latent.is_none() && self.weighed.is_none();
        let beside = self.shared.as_ref().filter(|s| alike && s.ffn.may_quantize(run));
        if let (Some(shared), None) = (&self.shared, beside) {
            shared.ffn.run(run)?;
        }
        self.ups(run, quantizes, beside);
        if run.n == 1 && alike && (beside.is_some() || self.shared.is_none()) {
            self.downs_of_one(run, beside);
            return Ok(());
        }
        self.downs(run, quantizes, beside);
        self.combine(run);
        self.leave_latent(run);
        Ok(())
    }

    /// Inputs times weights, by place.
    fn weigh_inputs(&self, run: &mut Run<'_>, weighed: Buf) {
        let (dim, isa) = (self.input.cols, run.kernels.isa());
        let [x, weighed] = run.mem.arena.rows(run.n, [self.input, weighed]);
        let routes = &run.mem.routes;
        for (pair, (&place, weight)) in routes.place().iter().zip(routes.weights()).enumerate() {
            let x = &x[pair / self.router.n_used * dim..][..dim];
            set_times(isa, &mut weighed[place as usize * dim..][..dim], x, *weight);
        }
    }

    /// What experts read, elements of a row, and whether every place has a row of its own.
    fn source(&self) -> (Buf, usize, bool) {
        let dim = self.input.cols;
        self.weighed.map_or((self.input, dim, false), |weighed| (weighed, dim, true))
    }

    /// Gate and up of all places, activated, in one region; with those of a shared expert.
    fn ups(&self, run: &mut Run<'_>, quantizes: bool, beside: Option<&Shared>) {
        let (x, dim, by_place) = self.source();
        for linear in self.gate.iter().chain([&self.up]) {
            run.observe_experts(linear, (x, dim), by_place);
        }
        let (n, ff) = (run.n, self.up.rows());
        let places = n * self.router.n_used;
        let Memories { arena, acts, routes, .. } = &mut *run.mem;
        let beside_wide = beside.map_or(0..0, |shared| shared.ffn.middle().out.range(n));
        let [x_rows, wide, beside_wide] =
            arena.ranges([x.range(n), self.middle.range(n), beside_wide]);
        let readers = self.gate.iter().chain([&self.up]);
        let readers = readers.chain(beside.iter().flat_map(|s| s.ffn.middle().layers()));
        let (source, inner) = acts.source_apart(run.pool, run.kernels, (x, dim, x_rows), readers);
        let share = self.down.share();
        let words = if quantizes { q8_words(share, places, ff) } else { 0 };
        let (mine, others) = inner.split_at_mut(words);
        let mut mine = quantizes.then(|| Q8Mut::new(share, mine, places, ff));
        let mut others = beside.map(|shared| {
            let down = &shared.ffn.down;
            Q8Mut::new(down.share(), others, n, down.cols)
        });
        let beside = beside.zip(others.as_mut());
        let mut beside =
            beside.map(|(shared, acts)| shared.ffn.middle().job(&source, beside_wide, acts));
        let (gate, up, routes) = (self.gate.as_ref(), &self.up, &*routes);
        let products = |e: usize| {
            let rows = if by_place { routes.places_of(e) } else { routes.tokens_of(e) };
            let source = source.select(rows);
            (up.product(e, source.acts(up)), gate.map(|gate| gate.product(e, source.acts(gate))))
        };
        let to = Activated { wide, acts: mine.as_mut() };
        let beside = beside.as_mut_slice();
        let sorted = routes.sorted();
        activated_experts(run.pool, run.kernels, sorted, products, self.act, ff, to, beside);
    }

    /// Down of the experts of one token, summed, in one region; with that of a shared expert.
    fn downs_of_one(&self, run: &mut Run<'_>, beside: Option<&Shared>) {
        let (used, ff) = (self.router.n_used, self.down.cols);
        let Memories { arena, acts, routes, .. } = &mut *run.mem;
        let share = self.down.share();
        let (mine, others) = acts.inner.split_at(q8_words(share, used, ff));
        let mine = quantized(share, mine, used, ff);
        let gate = beside.and_then(|shared| shared.gate.as_ref());
        let gate = gate.map_or(1.0, |(_, values)| arena.row(1, *values)[0]);
        let beside = beside.map(|shared| &shared.ffn.down);
        let beside = beside.map(|down| {
            let acts = quantized(down.share(), others, 1, down.cols);
            (down.product(0, Acts::Q8(acts)), gate)
        });
        let term = |slot: usize| match (routes.chosen().get(slot), beside) {
            (Some(&expert), _) => {
                let acts = mine.select(&routes.place()[slot..=slot]);
                (self.down.product(expert as usize, Acts::Q8(acts)), routes.weights()[slot])
            }
            (None, Some(beside)) => beside,
            (None, None) => unreachable!("a term for each slot, and one for the shared expert"),
        };
        let n_terms = used + usize::from(beside.is_some());
        let (to, factor) = match self.sum.into {
            Some((to, factor)) => (arena.row(1, to), Some(factor)),
            None => (arena.row(1, self.sum.buf), None),
        };
        sum_products(run.pool, run.kernels, n_terms, term, to, factor);
    }

    /// Down of all places in one region; with that of a shared expert.
    fn downs(&self, run: &mut Run<'_>, quantizes: bool, beside: Option<&Shared>) {
        run.observe_experts(&self.down, (self.middle, self.down.cols), true);
        let (n, ff) = (run.n, self.down.cols);
        let places = n * self.router.n_used;
        let Memories { arena, acts, routes, .. } = &mut *run.mem;
        let beside_out = beside.map_or(0..0, |shared| shared.out.range(n));
        let [wide, each, beside_out] =
            arena.ranges([self.middle.range(n), self.each.range(n), beside_out]);
        let (source, others) = if quantizes {
            let share = self.down.share();
            let (mine, others) = acts.inner.split_at(q8_words(share, places, ff));
            (Source::quantized(wide, quantized(share, mine, places, ff)), others)
        } else {
            let readers = [&self.down].into_iter();
            (acts.source(run.pool, run.kernels, (self.middle, ff, wide), readers), &[][..])
        };
        let mut beside = beside.map(|shared| {
            let down = &shared.ffn.down;
            let acts = Acts::Q8(quantized(down.share(), others, n, down.cols));
            MatMul::store(down.product(0, acts), beside_out)
        });
        let (down, routes) = (&self.down, &*routes);
        let product = |e: usize| down.product(e, source.select(routes.places_of(e)).acts(down));
        let beside = beside.as_mut_slice();
        let rows = down.rows();
        matmul_experts(run.pool, run.kernels, routes.sorted(), product, rows, each, beside);
    }

    /// Sums what the experts of each token gave, by weight, in the order of its choice; then what the
    /// shared expert gave.
    fn combine(&self, run: &mut Run<'_>) {
        let (dim, used, isa) = (self.sum.buf.cols, self.router.n_used, run.kernels.isa());
        let shared = self.shared.as_ref().filter(|_| self.latent.is_none());
        let gate = shared.and_then(|shared| shared.gate.as_ref());
        let n = run.n;
        let Memories { arena, routes, .. } = &mut *run.mem;
        let [sum, to, each, shared, gates] = arena.ranges([
            self.sum.buf.range(n),
            self.sum.into.map_or(0..0, |(to, _)| to.range(n)),
            self.each.range(n),
            shared.map_or(0..0, |shared| shared.out.range(n)),
            gate.map_or(0..0, |(_, values)| values.range(n)),
        ]);
        let factor = self.sum.into.map(|(_, factor)| factor);
        let to = factor.map(|_| Parts::new(to, dim));
        let weighed = self.weighed.is_some();
        run.pool.run_parts((Parts::new(sum, dim), to), |token, (sum, to), _| {
            for slot in 0..used {
                let pair = token * used + slot;
                let x = &each[routes.place()[pair] as usize * dim..][..dim];
                let weight = if weighed { 1.0 } else { routes.weights()[pair] };
                match slot {
                    0 => set_times(isa, sum, x, weight),
                    _ => add_times(isa, sum, x, weight),
                }
            }
            if let Some(shared) = shared.chunks_exact(dim).nth(token) {
                add_times(isa, sum, shared, gates.get(token).copied().unwrap_or(1.0));
            }
            if let (Some(to), Some(factor)) = (to, factor) {
                add_times(isa, to, sum, factor);
            }
        });
    }

    /// Takes the sum out of the experts' space.
    fn leave_latent(&self, run: &mut Run<'_>) {
        let Some(latent) = &self.latent else { return };
        if let Some(norm) = &latent.norm {
            norm.in_place(run, self.sum.buf);
        }
        let Some(shared) = &self.shared else {
            return run.project_out(self.sum.buf, &latent.up, self.site.out);
        };
        let out = self.site.out.buf;
        run.project(self.sum.buf, &[(&latent.up, out)]);
        if let Some((_, values)) = &shared.gate {
            let [rows, values] = run.mem.arena.rows(run.n, [shared.out, *values]);
            for (row, gate) in rows.chunks_exact_mut(shared.out.cols).zip(values) {
                row.iter_mut().for_each(|y| *y *= *gate);
            }
        }
        run.add(out, shared.out, 1.0);
        run.write_out(self.site.out);
    }
}

impl Run<'_> {
    /// Tells whoever watches what each expert reads: rows of its tokens, or of its places.
    fn observe_experts(&mut self, linear: &Linear, (x, k): (Buf, usize), by_place: bool) {
        let Some(watch) = &mut self.watch else { return };
        let x = self.mem.arena.row(self.n, x);
        let routes = &self.mem.routes;
        for &expert in routes.active() {
            let of = expert as usize;
            let rows = if by_place { routes.places_of(of) } else { routes.tokens_of(of) };
            for &row in rows {
                watch.input(linear.site, &x[row as usize * k..][..k], k, &[expert]);
            }
        }
    }
}
