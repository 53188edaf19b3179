//! Routed experts: tokens are grouped by expert, so that each chosen expert's rows are read once a
//! step, and what experts give is summed in each token's own order.

use oprel_cpu::act::{ActFormat, q8_words, quantize_acts};
use oprel_cpu::{Acts, F32Acts, MatMul, Parts, matmul_all};

use super::activation::Act;
use super::arena::Buf;
use super::compile::{Compiler, Site};
use super::ffn::Ffn;
use super::linear::{Linear, select};
use super::norm::Norm;
use super::router::{Router, Routes, sigmoid};
use super::run::Run;
use crate::Result;
use crate::describe;

/// Experts in one region.
const REGION: usize = 8;

/// Routed experts, and what runs beside them.
#[derive(Debug)]
pub(super) struct Moe {
    router: Router,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    act: Act,
    latent: Option<Latent>,
    shared: Option<Shared>,
    /// What experts read: the branch's input, or its latent (n, dim).
    input: Buf,
    /// Inputs times weights, by place (n, used * dim).
    weighed: Option<Buf>,
    /// By place (n, used * ff); the same as `up_out` without a gate.
    gate_out: Buf,
    up_out: Buf,
    /// By place (n, used * dim).
    each: Buf,
    /// Sum over experts (n, dim).
    sum: Buf,
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
            if linear.act_format() == ActFormat::Q8 {
                c.act_words = c.act_words.max(q8_words(1, linear.cols) * used);
            }
        }
        if let Some(gate) = &gate {
            c.expect("an expert's gate", gate.rows(), ff)?;
        }
        let weighed = moe.weigh_input.then(|| c.layout.buf(used * dim)).transpose()?;
        let sum = if latent.is_some() { c.layout.buf(dim)? } else { site.out };
        let up_out = c.layout.buf(used * ff)?;
        let gate_out = if gate.is_some() { c.layout.buf(used * ff)? } else { up_out };
        let each = c.layout.buf(used * dim)?;
        let act = Act::new(moe.act);
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
            gate_out,
            up_out,
            each,
            sum,
            site,
        })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        self.router.run(run);
        if let Some(latent) = &self.latent {
            run.project(self.site.input, &[(&latent.down, self.input)]);
        }
        if let Some(weighed) = self.weighed {
            self.weigh_inputs(run, weighed);
        }
        let (input, read) = match self.weighed {
            Some(weighed) => (weighed, Read::ByPlace),
            None => (self.input, Read::ByToken),
        };
        run.experts(&self.up, input, read, self.up_out);
        match &self.gate {
            Some(gate) => {
                run.experts(gate, input, read, self.gate_out);
                self.act.gated(run, self.gate_out, self.up_out);
            }
            None => self.act.alone(run, self.up_out),
        }
        run.experts(&self.down, self.gate_out, Read::ByPlace, self.each);
        self.combine(run);
        if let Some(latent) = &self.latent {
            if let Some(norm) = &latent.norm {
                norm.in_place(run, self.sum);
            }
            run.project(self.sum, &[(&latent.up, self.site.out)]);
        }
        match &self.shared {
            Some(shared) => shared.run(run, self.site),
            None => Ok(()),
        }
    }
}

impl Moe {
    /// Inputs times weights, by place.
    fn weigh_inputs(&self, run: &mut Run<'_>, weighed: Buf) {
        let dim = self.input.cols;
        let [x, weighed] = run.mem.arena.rows(run.n, [self.input, weighed]);
        let routes = &run.mem.routes;
        for (pair, (&place, weight)) in routes.place.iter().zip(&routes.weights).enumerate() {
            let x = &x[pair / self.router.n_used * dim..][..dim];
            let y = &mut weighed[place as usize * dim..][..dim];
            y.iter_mut().zip(x).for_each(|(y, x)| *y = weight * x);
        }
    }

    /// Sums what the experts of each token gave, by weight, in the order of its choice.
    fn combine(&self, run: &mut Run<'_>) {
        let (dim, used) = (self.sum.cols, self.router.n_used);
        let [sum, each] = run.mem.arena.rows(run.n, [self.sum, self.each]);
        let Routes { place, weights, .. } = &run.mem.routes;
        let weighed = self.weighed.is_some();
        run.pool.run_parts(Parts::new(sum, dim), |token, sum, _| {
            for slot in 0..used {
                let pair = token * used + slot;
                let x = &each[place[pair] as usize * dim..][..dim];
                let weight = if weighed { 1.0 } else { weights[pair] };
                if slot == 0 {
                    sum.iter_mut().zip(x).for_each(|(y, x)| *y = weight * x);
                } else {
                    sum.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
                }
            }
        });
    }
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
        let ffn = Ffn::compile(c, &s.ffn, Site { out, ..site })?;
        Ok(Shared { ffn, out, gate })
    }

    /// Adds what the expert gives to the branch's output.
    fn run(&self, run: &mut Run<'_>, site: Site) -> Result<()> {
        self.ffn.run(run)?;
        if let Some((gate, values)) = &self.gate {
            run.project(site.input, &[(gate, *values)]);
            let [out, values] = run.mem.arena.rows(run.n, [self.out, *values]);
            for (row, gate) in out.chunks_exact_mut(self.out.cols).zip(values) {
                let gate = sigmoid(*gate);
                row.iter_mut().for_each(|y| *y *= gate);
            }
        }
        run.add(site.out, self.out, 1.0);
        Ok(())
    }
}

/// Which row of its input a place reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// That of its token: input (n, k).
    ByToken,
    /// Its own: input (n, used * k).
    ByPlace,
}

impl Run<'_> {
    /// Runs every place through the matrix of its expert, a few experts in one region.
    fn experts(&mut self, linear: &Linear, x: Buf, read: Read, out_buf: Buf) {
        self.observe_experts(linear, x, read);
        let [x, mut out] = self.mem.arena.rows(self.n, [x, out_buf]);
        let routes = &self.mem.routes;
        let rows = match read {
            Read::ByToken => routes.token.as_slice(),
            Read::ByPlace => &routes.places[..routes.token.len()],
        };
        let all = match linear.act_format() {
            ActFormat::F32 => Acts::F32(F32Acts::new(x, linear.cols)),
            ActFormat::Q8 => {
                let memory = &mut self.mem.acts;
                Acts::Q8(quantize_acts(self.pool, self.kernels.isa(), x, linear.cols, memory))
            }
        };
        let mut experts = (0..linear.experts()).filter(|&e| !routes.of_expert(e).is_empty());
        loop {
            let region: [Option<usize>; REGION] = std::array::from_fn(|_| experts.next());
            let n_jobs = region.iter().flatten().count();
            if n_jobs == 0 {
                break;
            }
            let mut muls: [MatMul<'_>; REGION] = region.map(|expert| {
                let (e, range) = expert.map_or((0, 0..0), |e| (e, routes.of_expert(e)));
                let (mine, rest) =
                    std::mem::take(&mut out).split_at_mut(range.len() * linear.rows());
                out = rest;
                let acts = select(all, &rows[range]);
                MatMul::new(linear.mat(e), acts, linear.kernel_bias(e), mine)
            });
            matmul_all(self.pool, self.kernels, &mut muls[..n_jobs]);
        }
        let out = self.mem.arena.row(self.n, out_buf);
        for e in 0..linear.experts() {
            let range = routes.of_expert(e);
            linear.finish(e, &mut out[range.start * linear.rows()..range.end * linear.rows()]);
        }
    }

    /// Tells whoever watches what each expert reads.
    fn observe_experts(&mut self, linear: &Linear, x: Buf, read: Read) {
        let Some(watch) = &mut self.watch else { return };
        let x = self.mem.arena.row(self.n, x);
        let routes = &self.mem.routes;
        for expert in 0..linear.experts() {
            for place in routes.of_expert(expert) {
                let row = match read {
                    Read::ByToken => routes.token[place] as usize,
                    Read::ByPlace => place,
                };
                let row = &x[row * linear.cols..][..linear.cols];
                watch.input(linear.site, row, linear.cols, &[expert as u32]);
            }
        }
    }
}
