//! Matrix kernels in portable code: every quant type, in the order that [`table`](crate::table)
//! defines. They are what other tiers are tested against.

use crate::act::{ActRow, F32Acts, GROUP, Q8Acts, SCALED, SUMMED, lane};
use crate::isa::Isa;
use crate::lanes::{self, ScalarOps};
use crate::table::{BlockKernels, Kernels, NumberKernels, Panel, Rows, TypeKernels, is_multiplied};
use oprel_quant::{QuantType, Unpacked, has_mins, unpack};

pub(crate) static KERNELS: Kernels =
    Kernels { isa: Isa::SCALAR, of: kernels_of, gemm_q8, gemm_f32 };

fn kernels_of(ty: QuantType) -> Option<TypeKernels> {
    if !is_multiplied(ty) {
        return None;
    }
    Some(if ty.is_quantized() {
        TypeKernels::Block(BlockKernels { dot, dot_n, unpack_panel })
    } else {
        TypeKernels::Number(NumberKernels { dot: dot_numbers, widen })
    })
}

/// Runs of [`SUMMED`] weights in a group.
const RUNS: usize = GROUP / SUMMED;

/// 128 weights: codes in order, scales and minima by lane.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) codes: [i8; GROUP],
    pub(crate) scales: [f32; RUNS],
    pub(crate) mins: [f32; RUNS],
}

impl Group {
    const ZERO: Group = Group { codes: [0; GROUP], scales: [0.0; RUNS], mins: [0.0; RUNS] };

    /// The part of a block's runs `run..` that goes to this group's runs `to..`.
    fn copy_runs(&mut self, parts: &Unpacked, run: usize, to: usize, n: usize) {
        self.codes[to * SUMMED..][..n * SUMMED]
            .copy_from_slice(&parts.codes[run * SUMMED..][..n * SUMMED]);
        for i in 0..n {
            self.scales[lane(to + i)] = parts.scales[run + i];
            self.mins[lane(to + i)] = parts.mins[run + i];
        }
    }
}

/// Unpacks `row` group by group, and gives each to `each` with its number.
pub(crate) fn for_groups(ty: QuantType, row: &[u8], mut each: impl FnMut(usize, &Group)) {
    let mut parts = Unpacked::ZERO;
    let mut group = Group::ZERO;
    let (mut g, mut filled) = (0, 0);
    for block in row.chunks_exact(ty.block_bytes()) {
        // Whole blocks of a type with kernels: this cannot fail.
        let unpacked = unpack(ty, block, &mut parts);
        debug_assert!(unpacked.is_ok());
        let n_runs = ty.block_len() / SUMMED;
        let mut run = 0;
        while run < n_runs {
            let n = (n_runs - run).min(RUNS - filled);
            group.copy_runs(&parts, run, filled, n);
            run += n;
            filled += n;
            if filled == RUNS {
                each(g, &group);
                (g, filled) = (g + 1, 0);
            }
        }
    }
    if filled > 0 {
        group.codes[filled * SUMMED..].fill(0);
        for run in filled..RUNS {
            group.scales[lane(run)] = 0.0;
            group.mins[lane(run)] = 0.0;
        }
        each(g, &group);
    }
}

/// Adds a group's products with the same group of a token to the eight lanes.
fn add_group(
    acc: &mut [f32; RUNS],
    (codes, scales, mins): (&[i8], &[f32], Option<&[f32]>),
    g: usize,
    act: ActRow<'_>,
) {
    let act_codes = &act.codes[g * GROUP..][..GROUP];
    for run in 0..RUNS {
        let products = codes[run * SUMMED..][..SUMMED].iter().zip(&act_codes[run * SUMMED..]);
        let sum: i32 = products.map(|(w, a)| i32::from(*w) * i32::from(*a)).sum();
        let l = lane(run);
        let scale = scales[l] * act.scales[g * GROUP / SCALED + run / 2];
        acc[l] = scale.mul_add(sum as f32, acc[l]);
    }
    if let Some(mins) = mins {
        for l in 0..RUNS {
            acc[l] = mins[l].mul_add(act.sums[g * RUNS + l], acc[l]);
        }
    }
}

fn dot(rows: Rows<'_>, act: ActRow<'_>, out: &mut [f32]) {
    let with_mins = has_mins(rows.ty);
    for (row, y) in rows.iter().zip(out) {
        let mut acc = [0.0; RUNS];
        for_groups(rows.ty, row, |g, w| {
            add_group(&mut acc, (&w.codes, &w.scales, with_mins.then_some(&w.mins)), g, act);
        });
        *y = lanes::sum(acc);
    }
}

fn dot_n(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    for (t, out) in out.chunks_exact_mut(rows.n()).enumerate().take(acts.n()) {
        dot(rows, acts.row(t), out);
    }
}

pub(crate) fn unpack_panel(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let with_mins = has_mins(rows.ty);
    let runs = panel.padded_k / SUMMED;
    for (r, row) in rows.iter().enumerate() {
        for_groups(rows.ty, row, |g, w| {
            panel.codes[r * panel.padded_k + g * GROUP..][..GROUP].copy_from_slice(&w.codes);
            panel.scales[r * runs + g * RUNS..][..RUNS].copy_from_slice(&w.scales);
            if with_mins {
                panel.mins[r * runs + g * RUNS..][..RUNS].copy_from_slice(&w.mins);
            }
        });
    }
}

fn gemm_q8(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    for t in 0..acts.n() {
        let act = acts.row(t);
        for r in 0..panel.n_rows {
            let (codes, scales, mins) = panel.row(r);
            let mut acc = [0.0; RUNS];
            for g in 0..panel.padded_k / GROUP {
                let runs = g * RUNS..(g + 1) * RUNS;
                let mins = mins.get(runs.clone());
                add_group(&mut acc, (&codes[g * GROUP..], &scales[runs], mins), g, act);
            }
            out[t * panel.n_rows + r] = lanes::sum(acc);
        }
    }
}

fn dot_numbers(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    for (row, y) in rows.iter().zip(out) {
        *y = number_dot(rows.ty, row, x);
    }
}

/// One row of numbers times one token.
fn number_dot(ty: QuantType, row: &[u8], x: &[f32]) -> f32 {
    let mut acc = [0.0f32; 16];
    let size = ty.block_bytes();
    for (i, (bytes, x)) in row.chunks_exact(size).zip(x).enumerate() {
        let lane = &mut acc[i % 16];
        *lane = widen_number(ty, bytes).mul_add(*x, *lane);
    }
    lanes::sum(std::array::from_fn(|l| acc[l] + acc[l + 8]))
}

/// One stored number.
pub(crate) fn widen_number(ty: QuantType, bytes: &[u8]) -> f32 {
    let mut value = [0.0];
    let widened = oprel_quant::dequantize(ty, bytes, &mut value);
    debug_assert!(widened.is_ok());
    value[0]
}

fn widen(rows: Rows<'_>, out: &mut [f32]) {
    let widened = oprel_quant::dequantize(rows.ty, rows.bytes, out);
    debug_assert!(widened.is_ok());
}

fn gemm_f32(w: &[f32], acts: F32Acts<'_>, out: &mut [f32]) {
    let n_rows = w.len() / acts.k();
    for t in 0..acts.n() {
        for (r, row) in w.chunks_exact(acts.k()).enumerate() {
            out[t * n_rows + r] = lanes::dot(ScalarOps, row, acts.row(t));
        }
    }
}
