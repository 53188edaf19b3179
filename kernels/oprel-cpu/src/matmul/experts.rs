//! Routed experts: each multiplies the tokens that chose it, all in one region.

use super::product::{Product, Scratch};
use super::result::To;
use super::{Job, MatMul, chunk_cost, chunk_rows, run_jobs};
use crate::act::Q8Mut;
use crate::activation::{Activation, add_times, set_times};
use crate::disjoint::Disjoint;
use crate::table::Kernels;
use crate::{Parts, Pool};

/// Which places of a list belong to which expert: tokens, sorted by their experts.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    starts: &'a [u32],
    active: &'a [u32],
}

impl<'a> Places<'a> {
    /// `starts` (experts + 1): the first place of each expert, and the number of places at the end;
    /// `active`: the experts that have places, in ascending order.
    ///
    /// # Panics
    /// If one of them is not sorted.
    pub fn new(starts: &'a [u32], active: &'a [u32]) -> Places<'a> {
        assert!(starts.is_sorted(), "places are sorted by expert");
        assert!(active.is_sorted_by(|a, b| a < b), "experts come once, in order");
        Places { starts, active }
    }

    /// First and last but one place of an expert.
    fn of(&self, expert: usize) -> (usize, usize) {
        (self.starts[expert] as usize, self.starts[expert + 1] as usize)
    }

    fn count(&self) -> usize {
        self.starts.last().map_or(0, |n| *n as usize)
    }
}

/// Every expert's product, in one region with the jobs `beside`: `out` (places, rows).
///
/// # Panics
/// If a product is not of its expert's places, or not of `rows` rows.
pub fn matmul_experts<'a>(
    pool: &mut Pool,
    kernels: &Kernels,
    places: Places<'_>,
    product: impl Fn(usize) -> Product<'a> + Sync,
    rows: usize,
    out: &mut [f32],
    beside: &mut [MatMul<'_>],
) {
    assert_eq!(out.len(), places.count() * rows, "a result for each place and row");
    let (out, beside) = (Disjoint::new(out), &*beside);
    let n_active = places.active.len();
    run_jobs(pool, kernels, n_active + beside.len(), |i| {
        if let Some(i) = i.checked_sub(n_active) {
            return beside[i].0;
        }
        let expert = places.active[i] as usize;
        let (start, end) = places.of(expert);
        let product = product(expert);
        assert_eq!((product.n(), product.rows()), (end - start, rows), "an expert's places");
        Job {
            product,
            gate: None,
            activation: None,
            to: To::Store(out.cut(start * rows, end * rows)),
        }
    });
}

/// Where activated results of experts go, by place.
pub struct Activated<'a, 'm> {
    /// (places, rows): the results, or memory for them meanwhile.
    pub wide: &'a mut [f32],
    /// The results quantized (places, rows).
    pub acts: Option<&'a mut Q8Mut<'m>>,
}

/// Every expert's product, activated: `f(product)`, or `f(gate) * product`; in one region with the
/// jobs `beside`. `products` gives an expert's product and its gate.
///
/// # Panics
/// If a product is not of its expert's places, or not of `rows` rows.
pub fn activated_experts<'a>(
    pool: &mut Pool,
    kernels: &Kernels,
    places: Places<'_>,
    products: impl Fn(usize) -> (Product<'a>, Option<Product<'a>>) + Sync,
    f: Activation,
    rows: usize,
    to: Activated<'_, '_>,
    beside: &mut [MatMul<'_>],
) {
    let count = places.count();
    assert_eq!(to.wide.len(), count * rows, "a result for each place and row");
    let shape = to.acts.as_ref().map(|acts| (acts.n(), acts.k()));
    assert!(shape.is_none_or(|shape| shape == (count, rows)), "a token for each place");
    let (wide, acts, beside) = (Disjoint::new(to.wide), to.acts.as_deref(), &*beside);
    let n_active = places.active.len();
    run_jobs(pool, kernels, n_active + beside.len(), |i| {
        if let Some(i) = i.checked_sub(n_active) {
            return beside[i].0;
        }
        let expert = places.active[i] as usize;
        let (start, end) = places.of(expert);
        let (product, gate) = products(expert);
        assert_eq!((product.n(), product.rows()), (end - start, rows), "an expert's places");
        let wide = wide.cut(start * rows, end * rows);
        let to = match acts {
            Some(acts) => To::Quantize { wide, acts, first: start },
            None => To::Store(wide),
        };
        Job::activated(product, gate, f, to)
    });
}

/// The weighted sum of `n` products of one token: `term` gives a product and its weight. It is stored
/// in `to` (rows), or added to it times a factor.
///
/// # Panics
/// If a product is of several tokens, or not of that many rows.
pub fn sum_products<'a>(
    pool: &mut Pool,
    kernels: &Kernels,
    n: usize,
    term: impl Fn(usize) -> (Product<'a>, f32) + Sync,
    to: &mut [f32],
    factor: Option<f32>,
) {
    let rows = to.len();
    let row_cost: usize = (0..n).map(|i| term(i).0.row_cost()).sum();
    let chunk_rows = chunk_rows(row_cost, chunk_cost(pool, row_cost * rows));
    pool.run_parts(Parts::new(to, chunk_rows), |chunk, to, worker| {
        let first = chunk * chunk_rows;
        let Scratch { tiles: [tile, sum], .. } = Scratch::of(worker, false);
        for (part, to) in to.chunks_mut(sum.len()).enumerate() {
            let start = first + part * sum.len();
            let sum = &mut sum[..to.len()];
            for i in 0..n {
                let (product, weight) = term(i);
                assert_eq!((product.n(), product.rows()), (1, rows), "a product of one token");
                let ready = product.stored(start..start + to.len());
                let tile = product.multiply(kernels, &ready, start, 0..1, tile);
                match i {
                    0 => set_times(kernels.isa(), sum, tile.y, weight),
                    _ => add_times(kernels.isa(), sum, tile.y, weight),
                }
            }
            match factor {
                Some(factor) => add_times(kernels.isa(), to, sum, factor),
                None => to.copy_from_slice(sum),
            }
        }
    });
}
