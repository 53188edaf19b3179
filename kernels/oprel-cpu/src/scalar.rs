//! Matrix kernels in portable code: every quant type, in the order that [`table`](crate::table)
//! defines. They are what other tiers are tested against.

use crate::act::{ActRow, BLOCKS, F32Acts, GROUP, Q8Acts, SCALED, SUMMED, WholeRow};
use crate::isa::Isa;
use crate::lanes::{self, LANES};
use crate::row_panel::{self, RowPanel};
use crate::table::{
    BlockKernels, Kernels, NumberKernels, Panel, Rows, TypeKernels, has_halves, is_multiplied,
    is_whole,
};
use oprel_quant::{QuantType, Unpacked, has_mins, unpack, unpack_whole};

pub(crate) static KERNELS: Kernels =
    Kernels { isa: Isa::SCALAR, of: kernels_of, panel_size: row_panel::size };

fn kernels_of(ty: QuantType) -> Option<TypeKernels> {
    if !is_multiplied(ty) {
        return None;
    }
    Some(if is_whole(ty) {
        TypeKernels::Block(BlockKernels {
            dot: dot_n_whole,
            dot_n: dot_n_whole,
            unpack_panel: keep,
            gemm: gemm_whole,
        })
    } else if ty.is_quantized() {
        TypeKernels::Block(BlockKernels { dot, dot_n, unpack_panel, gemm })
    } else {
        TypeKernels::Number(NumberKernels {
            dot: dot_numbers,
            dot_n: dot_n_numbers,
            unpack_panel: widen,
            gemm: gemm_numbers,
            turn: None,
        })
    })
}

/// 256 weights: codes in order; scales and minima by half, then by block.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) codes: [i8; GROUP],
    pub(crate) scales: [[f32; BLOCKS]; 2],
    pub(crate) mins: [[f32; BLOCKS]; 2],
}

impl Group {
    const ZERO: Group =
        Group { codes: [0; GROUP], scales: [[0.0; BLOCKS]; 2], mins: [[0.0; BLOCKS]; 2] };

    /// The first `n` runs of a block, as this group's runs `to..`.
    fn copy_runs(&mut self, parts: &Unpacked, to: usize, n: usize) {
        self.codes[to * SUMMED..][..n * SUMMED].copy_from_slice(&parts.codes[..n * SUMMED]);
        for i in 0..n {
            let (half, block) = ((to + i) % 2, (to + i) / 2);
            self.scales[half][block] = parts.scales[i];
            self.mins[half][block] = parts.mins[i];
        }
    }
}

/// Unpacks `row` group by group, and gives each to `each` with its number.
pub(crate) fn for_groups(ty: QuantType, row: &[u8], mut each: impl FnMut(usize, &Group)) {
    let mut parts = Unpacked::ZERO;
    let n_runs = ty.block_len() / SUMMED;
    let blocks_of_group = GROUP / ty.block_len();
    for (g, blocks) in row.chunks(ty.block_bytes() * blocks_of_group).enumerate() {
        let mut group = Group::ZERO;
        for (i, block) in blocks.chunks_exact(ty.block_bytes()).enumerate() {
            // Whole blocks of a type with kernels: this cannot fail.
            let unpacked = unpack(ty, block, &mut parts);
            debug_assert!(unpacked.is_ok());
            group.copy_runs(&parts, i * n_runs, n_runs);
        }
        each(g, &group);
    }
}

/// Adds a group's products with the same group of a token to the eight lanes.
fn add_group(ty: QuantType, acc: &mut [f32; BLOCKS], w: &Group, g: usize, act: ActRow<'_>) {
    let act = &act[g];
    let (with_halves, with_mins) = (has_halves(ty), has_mins(ty));
    for b in 0..BLOCKS {
        let run = |half: usize| {
            let at = b * SCALED + half * SUMMED;
            let products = w.codes[at..at + SUMMED].iter().zip(&act.codes[at..at + SUMMED]);
            products.map(|(w, a)| i32::from(*w) * i32::from(*a)).sum::<i32>()
        };
        let mut p;
        if with_halves {
            p = w.scales[0][b] * run(0) as f32;
            p = w.scales[1][b].mul_add(run(1) as f32, p);
        } else {
            p = w.scales[0][b] * (run(0) + run(1)) as f32;
        }
        if with_mins && with_halves {
            p = w.mins[0][b].mul_add(act.sums[0][b] as f32, p);
            p = w.mins[1][b].mul_add(act.sums[1][b] as f32, p);
        } else if with_mins {
            p = w.mins[0][b].mul_add(act.totals[b] as f32, p);
        }
        acc[b] = p.mul_add(act.scales[b], acc[b]);
    }
}

fn dot(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    let act = acts.row(0);
    for (row, y) in rows.iter().zip(out) {
        let mut acc = [0.0; BLOCKS];
        for_groups(rows.ty, row, |g, w| add_group(rows.ty, &mut acc, w, g, act));
        *y = lanes::sum(acc);
    }
}

fn dot_n(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    for (t, out) in out.chunks_exact_mut(rows.n()).enumerate().take(acts.n()) {
        dot(rows, acts.range(t, t + 1), out);
    }
}

/// A row of a type that is summed in integers times a token.
fn whole_dot(ty: QuantType, row: &[u8], act: WholeRow<'_>) -> f32 {
    let mut acc = [0.0f32; BLOCKS];
    for (g, (block, act)) in row.chunks_exact(ty.block_bytes()).zip(act).enumerate() {
        // A whole block of a type with kernels: this cannot fail.
        let Ok(w) = unpack_whole(ty, block) else { unreachable!("a type in whole blocks") };
        let (mut products, mut mins) = (0, 0);
        for (i, codes) in w.codes.chunks_exact(SUMMED).enumerate() {
            let pairs = codes.iter().zip(&act.codes[i * SUMMED..]);
            let sum: i32 = pairs.map(|(w, a)| i32::from(*w) * i32::from(*a)).sum();
            products += i32::from(w.scales[i]) * sum;
            mins += i32::from(w.mins[i]) * i32::from(act.runs[i]);
        }
        let mut p = w.d * products as f32;
        if has_mins(ty) {
            p = w.d_min.mul_add(mins as f32, p);
        }
        acc[g % BLOCKS] = p.mul_add(act.scale, acc[g % BLOCKS]);
    }
    lanes::sum(acc)
}

fn dot_n_whole(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    let n = rows.n();
    for t in 0..acts.n() {
        for (row, y) in rows.iter().zip(&mut out[t * n..]) {
            *y = whole_dot(rows.ty, row, acts.whole_row(t));
        }
    }
}

/// A panel of rows as they are stored.
fn keep(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let memory: &mut [u8] = bytemuck::cast_slice_mut(panel.memory);
    memory[..rows.bytes.len()].copy_from_slice(rows.bytes);
}

fn gemm_whole(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    let (ty, k) = (panel.ty, panel.k);
    let stride = row_panel::size(ty, k).rows;
    let row_bytes = k / ty.block_len() * ty.block_bytes();
    let rows = bytemuck::cast_slice::<f32, u8>(panel.memory).chunks_exact(row_bytes);
    for (r, row) in rows.take(panel.n_rows).enumerate() {
        for t in 0..acts.n() {
            out[t * stride + r] = whole_dot(ty, row, acts.whole_row(t));
        }
    }
}

fn unpack_panel(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let mut panel = RowPanel::of(panel);
    for (r, row) in rows.iter().enumerate() {
        let (codes, scales, mins) = panel.row_mut(r);
        for_groups(rows.ty, row, |g, w| {
            codes[g * GROUP..][..GROUP].copy_from_slice(&w.codes);
            scales[g * 2 * BLOCKS..][..2 * BLOCKS].copy_from_slice(w.scales.as_flattened());
            if let Some(mins) = mins.get_mut(g * 2 * BLOCKS..(g + 1) * 2 * BLOCKS) {
                mins.copy_from_slice(w.mins.as_flattened());
            }
        });
    }
}

fn gemm(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    let stride = row_panel::size(panel.ty, panel.k).rows;
    let view = RowPanel::view(panel);
    let mut group = Group::ZERO;
    for t in 0..acts.n() {
        let act = acts.row(t);
        for r in 0..panel.n_rows {
            let (codes, scales, mins) = view.row(r);
            let mut acc = [0.0; BLOCKS];
            for g in 0..view.padded_k / GROUP {
                group.codes.copy_from_slice(&codes[g * GROUP..][..GROUP]);
                let runs = g * 2 * BLOCKS..(g + 1) * 2 * BLOCKS;
                group.scales.as_flattened_mut().copy_from_slice(&scales[runs.clone()]);
                if let Some(mins) = mins.get(runs) {
                    group.mins.as_flattened_mut().copy_from_slice(mins);
                }
                add_group(panel.ty, &mut acc, &group, g, act);
            }
            out[t * stride + r] = lanes::sum(acc);
        }
    }
}

fn dot_numbers(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    for (row, y) in rows.iter().zip(out) {
        *y = number_dot(rows.ty, row, x);
    }
}

fn dot_n_numbers(rows: Rows<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    for (t, out) in out.chunks_exact_mut(rows.n()).enumerate().take(acts.n()) {
        dot_numbers(rows, acts.row(t), out);
    }
}

/// One row of numbers times one token.
fn number_dot(ty: QuantType, row: &[u8], x: &[f32]) -> f32 {
    let mut acc = [0.0f32; LANES];
    let size = ty.block_bytes();
    for (i, (bytes, x)) in row.chunks_exact(size).zip(x).enumerate() {
        let lane = &mut acc[i % LANES];
        *lane = widen_number(ty, bytes).mul_add(*x, *lane);
    }
    lanes::sum(acc)
}

/// One stored number.
pub(crate) fn widen_number(ty: QuantType, bytes: &[u8]) -> f32 {
    let mut value = [0.0];
    let widened = oprel_quant::dequantize(ty, bytes, &mut value);
    debug_assert!(widened.is_ok());
    value[0]
}

fn widen(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let out = &mut panel.memory[..rows.n() * rows.k];
    let widened = oprel_quant::dequantize(rows.ty, rows.bytes, out);
    debug_assert!(widened.is_ok());
}

fn gemm_numbers(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    let stride = row_panel::size(panel.ty, panel.k).rows;
    for t in 0..acts.n() {
        for (r, row) in panel.memory.chunks_exact(panel.k).take(panel.n_rows).enumerate() {
            let row = bytemuck::cast_slice(row);
            out[t * stride + r] = number_dot(QuantType::F32, row, acts.row(t));
        }
    }
}
