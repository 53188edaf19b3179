//! The fused operations of the model with their derivatives: norm, attention, gate, loss.
//! Everything else of a training step is candle's. All inputs are contiguous f32 rows on the CPU.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail,
};
use rayon::prelude::*;
use std::sync::Arc;

/// Width of one attention head; the sizes below follow from it.
pub const HEAD: usize = 64;
/// Query heads and key-value heads.
pub const Q_HEADS: usize = 4;
/// Key-value heads; each serves `Q_HEADS / KV_HEADS` query heads.
pub const KV_HEADS: usize = 2;
const GROUP: usize = Q_HEADS / KV_HEADS;
const QKV: usize = (Q_HEADS + 2 * KV_HEADS) * HEAD;
const OUT: usize = Q_HEADS * HEAD;
/// Rows one rayon task takes.
const ROWS: usize = 64;

fn rows<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    let Some((from, to)) = l.contiguous_offsets() else {
        bail!("fused operations take contiguous rows")
    };
    Ok(&s.as_slice::<f32>()?[from..to])
}

fn flat(t: &Tensor) -> Result<Vec<f32>> {
    t.flatten_all()?.to_vec1::<f32>()
}

/// RMS norm of rows x (n, d) by weights (d).
pub struct RmsNorm {
    pub eps: f32,
}

impl RmsNorm {
    fn scale(&self, x: &[f32]) -> f32 {
        1. / (x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32 + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (rows(x, xl)?, rows(w, wl)?);
        let d = w.len();
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(d * ROWS).zip(x.par_chunks(d * ROWS)).for_each(|(y, x)| {
            for (y, x) in y.chunks_mut(d).zip(x.chunks(d)) {
                let s = self.scale(x);
                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                    *y = x * s * w;
                }
            }
        });
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let shape = x.shape().clone();
        let (xv, wv, gv) = (flat(x)?, flat(w)?, flat(g)?);
        let d = wv.len();
        let mut dx = vec![0f32; xv.len()];
        let dw = dx
            .par_chunks_mut(d * ROWS)
            .zip(xv.par_chunks(d * ROWS))
            .zip(gv.par_chunks(d * ROWS))
            .map(|((dx, x), g)| {
                let mut dw = vec![0f32; d];
                for ((dx, x), g) in dx.chunks_mut(d).zip(x.chunks(d)).zip(g.chunks(d)) {
                    let s = self.scale(x);
                    let mut along = 0f32;
                    for i in 0..d {
                        dw[i] += g[i] * x[i] * s;
                        along += g[i] * wv[i] * x[i];
                    }
                    let pull = along * s * s * s / d as f32;
                    for i in 0..d {
                        dx[i] = g[i] * wv[i] * s - x[i] * pull;
                    }
                }
                dw
            })
            .collect::<Vec<_>>()
            .into_iter()
            .fold(vec![0f32; d], |mut sum, part| {
                sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
                sum
            });
        Ok((
            Some(Tensor::from_vec(dx, shape, &Device::Cpu)?),
            Some(Tensor::from_vec(dw, d, &Device::Cpu)?),
        ))
    }
}

/// `silu(gate) * up` of rows (n, 2 f) that hold gate and up side by side.
pub struct SwiGlu;

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, two_f) = l.shape().dims2()?;
        let f = two_f / 2;
        let x = rows(x, l)?;
        let mut y = vec![0f32; n * f];
        y.par_chunks_mut(f * ROWS).zip(x.par_chunks(two_f * ROWS)).for_each(|(y, x)| {
            for (y, x) in y.chunks_mut(f).zip(x.chunks(two_f)) {
                let (gate, up) = x.split_at(f);
                for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                    *y = g / (1. + (-g).exp()) * u;
                }
            }
        });
        Ok((CpuStorage::F32(y), (n, f).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (n, two_f) = x.dims2()?;
        let f = two_f / 2;
        let (xv, gv) = (flat(x)?, flat(g)?);
        let mut dx = vec![0f32; xv.len()];
        dx.par_chunks_mut(two_f * ROWS)
            .zip(xv.par_chunks(two_f * ROWS))
            .zip(gv.par_chunks(f * ROWS))
            .for_each(|((dx, x), g)| {
                for ((dx, x), g) in dx.chunks_mut(two_f).zip(x.chunks(two_f)).zip(g.chunks(f)) {
                    let (gate, up) = x.split_at(f);
                    let (d_gate, d_up) = dx.split_at_mut(f);
                    for i in 0..f {
                        let s = 1. / (1. + (-gate[i]).exp());
                        d_up[i] = g[i] * gate[i] * s;
                        d_gate[i] = g[i] * up[i] * s * (1. + gate[i] * (1. - s));
                    }
                }
            });
        Ok(Some(Tensor::from_vec(dx, (n, two_f), &Device::Cpu)?))
    }
}

/// Cosine and sine of every position and pair, positions slowest.
pub struct Rope {
    angles: Vec<(f32, f32)>,
}

impl Rope {
    pub fn new(context: usize, base: f32) -> Self {
        let angles = (0..context)
            .flat_map(|p| {
                (0..HEAD / 2).map(move |i| {
                    let a = p as f64 * f64::from(base).powf(-2. * i as f64 / HEAD as f64);
                    (a.cos() as f32, a.sin() as f32)
                })
            })
            .collect();
        Self { angles }
    }

    /// Rotates the adjacent pairs of one head at a position, backwards when `turn` is -1.
    pub fn rotate(&self, x: &mut [f32], pos: usize, turn: f32) {
        let at = &self.angles[pos * HEAD / 2..][..HEAD / 2];
        for (pair, (c, s)) in x.chunks_exact_mut(2).zip(at) {
            let (a, b, s) = (pair[0], pair[1], s * turn);
            pair[0] = a * c - b * s;
            pair[1] = a * s + b * c;
        }
    }
}

/// Causal attention inside each document of a packed batch: rows (n, q k v) to rows (n, heads).
/// Positions count from 0 in each document.
pub struct Attention {
    pub rope: Arc<Rope>,
    /// Lengths of the documents, in order; they sum to n.
    pub lengths: Arc<Vec<usize>>,
}

/// The heads of one document, gathered: q (kv, group * len, head), k and v (kv, len, head).
struct Heads {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// Probabilities (kv, group * len, len).
    p: Vec<f32>,
}

impl Attention {
    fn heads(&self, x: &[f32]) -> Result<Heads> {
        let len = x.len() / QKV;
        let mut q = vec![0f32; len * OUT];
        let mut k = vec![0f32; len * KV_HEADS * HEAD];
        let mut v = vec![0f32; len * KV_HEADS * HEAD];
        for (t, row) in x.chunks(QKV).enumerate() {
            for h in 0..Q_HEADS {
                let to = &mut q[(h * len + t) * HEAD..][..HEAD];
                to.copy_from_slice(&row[h * HEAD..][..HEAD]);
                self.rope.rotate(to, t, 1.);
                to.iter_mut().for_each(|v| *v /= (HEAD as f32).sqrt());
            }
            for h in 0..KV_HEADS {
                let to = &mut k[(h * len + t) * HEAD..][..HEAD];
                to.copy_from_slice(&row[OUT + h * HEAD..][..HEAD]);
                self.rope.rotate(to, t, 1.);
                let to = &mut v[(h * len + t) * HEAD..][..HEAD];
                to.copy_from_slice(&row[OUT + (KV_HEADS + h) * HEAD..][..HEAD]);
            }
        }
        let cpu = &Device::Cpu;
        let q = Tensor::from_vec(q, (KV_HEADS, GROUP * len, HEAD), cpu)?;
        let k = Tensor::from_vec(k, (KV_HEADS, len, HEAD), cpu)?;
        let v = Tensor::from_vec(v, (KV_HEADS, len, HEAD), cpu)?;
        let mut p = flat(&q.matmul(&k.t()?)?)?;
        for (i, row) in p.chunks_mut(len).enumerate() {
            let (seen, hidden) = row.split_at_mut(i % len + 1);
            let top = seen.iter().copied().fold(f32::MIN, f32::max);
            let mut sum = 0f32;
            for s in seen.iter_mut() {
                *s = (*s - top).exp();
                sum += *s;
            }
            seen.iter_mut().for_each(|s| *s /= sum);
            hidden.fill(0.);
        }
        Ok(Heads { q, k, v, p })
    }

    fn forward(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let len = x.len() / QKV;
        let h = self.heads(x)?;
        let p = Tensor::from_vec(h.p, (KV_HEADS, GROUP * len, len), &Device::Cpu)?;
        let o = flat(&p.matmul(&h.v)?)?;
        for (t, row) in y.chunks_mut(OUT).enumerate() {
            for head in 0..Q_HEADS {
                row[head * HEAD..][..HEAD].copy_from_slice(&o[(head * len + t) * HEAD..][..HEAD]);
            }
        }
        Ok(())
    }

    fn backward(&self, x: &[f32], g: &[f32], dx: &mut [f32]) -> Result<()> {
        let len = x.len() / QKV;
        let cpu = &Device::Cpu;
        let h = self.heads(x)?;
        let mut d_out = vec![0f32; g.len()];
        for (t, row) in g.chunks(OUT).enumerate() {
            for head in 0..Q_HEADS {
                d_out[(head * len + t) * HEAD..][..HEAD]
                    .copy_from_slice(&row[head * HEAD..][..HEAD]);
            }
        }
        let d_out = Tensor::from_vec(d_out, (KV_HEADS, GROUP * len, HEAD), cpu)?;
        let mut ds = flat(&d_out.matmul(&h.v.t()?)?)?;
        for (ds, p) in ds.chunks_mut(len).zip(h.p.chunks(len)) {
            let along: f32 = ds.iter().zip(p).map(|(d, p)| d * p).sum();
            for (d, p) in ds.iter_mut().zip(p) {
                *d = p * (*d - along);
            }
        }
        let p = Tensor::from_vec(h.p, (KV_HEADS, GROUP * len, len), cpu)?;
        let ds = Tensor::from_vec(ds, (KV_HEADS, GROUP * len, len), cpu)?;
        let dv = flat(&p.t()?.matmul(&d_out)?)?;
        let mut dq = flat(&ds.matmul(&h.k)?)?;
        let mut dk = flat(&ds.t()?.matmul(&h.q)?)?;
        for (t, row) in dx.chunks_mut(QKV).enumerate() {
            for head in 0..Q_HEADS {
                let from = &mut dq[(head * len + t) * HEAD..][..HEAD];
                self.rope.rotate(from, t, -1.);
                let to = &mut row[head * HEAD..][..HEAD];
                to.iter_mut().zip(from).for_each(|(t, f)| *t = *f / (HEAD as f32).sqrt());
            }
            for head in 0..KV_HEADS {
                let from = &mut dk[(head * len + t) * HEAD..][..HEAD];
                self.rope.rotate(from, t, -1.);
                row[OUT + head * HEAD..][..HEAD].copy_from_slice(from);
                row[OUT + (KV_HEADS + head) * HEAD..][..HEAD]
                    .copy_from_slice(&dv[(head * len + t) * HEAD..][..HEAD]);
            }
        }
        Ok(())
    }
}

/// Cuts `data` of rows of a width into the documents' pieces.
fn pieces<'a>(mut data: &'a mut [f32], lengths: &[usize], width: usize) -> Vec<&'a mut [f32]> {
    let mut out = Vec::with_capacity(lengths.len());
    for len in lengths {
        let (head, tail) = data.split_at_mut(len * width);
        out.push(head);
        data = tail;
    }
    out
}

/// First row of each document.
fn starts(lengths: &[usize]) -> Vec<usize> {
    let sum = |at: &mut usize, len: &usize| {
        let here = *at;
        *at += len;
        Some(here)
    };
    lengths.iter().scan(0, sum).collect()
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, _) = l.shape().dims2()?;
        let x = rows(x, l)?;
        let mut y = vec![0f32; n * OUT];
        pieces(&mut y, &self.lengths, OUT)
            .into_par_iter()
            .zip(starts(&self.lengths))
            .try_for_each(|(y, at)| self.forward(&x[at * QKV..][..y.len() / OUT * QKV], y))?;
        Ok((CpuStorage::F32(y), (n, OUT).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let shape = x.shape().clone();
        let (x, g) = (flat(x)?, flat(g)?);
        let mut dx = vec![0f32; x.len()];
        pieces(&mut dx, &self.lengths, QKV)
            .into_par_iter()
            .zip(starts(&self.lengths))
            .try_for_each(|(dx, at)| {
                let len = dx.len() / QKV;
                self.backward(&x[at * QKV..][..len * QKV], &g[at * OUT..][..len * OUT], dx)
            })?;
        Ok(Some(Tensor::from_vec(dx, shape, &Device::Cpu)?))
    }
}

/// Weighted mean of the cross entropies of logits (n, vocabulary) at the targets.
pub struct CrossEntropy {
    pub targets: Arc<Vec<u32>>,
    /// Weight of each row; 0 leaves a row out.
    pub weights: Arc<Vec<f32>>,
}

impl CrossEntropy {
    fn total(&self) -> f32 {
        self.weights.iter().sum::<f32>().max(1e-6)
    }
}

/// Natural logarithm of the sum of the exponentials.
pub fn log_sum_exp(row: &[f32]) -> f32 {
    let top = row.iter().copied().fold(f32::MIN, f32::max);
    top + row.iter().map(|v| (v - top).exp()).sum::<f32>().ln()
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, vocab) = l.shape().dims2()?;
        let x = rows(x, l)?;
        let losses: Vec<f32> = x
            .par_chunks(vocab)
            .zip(self.targets.par_iter())
            .zip(self.weights.par_iter())
            .map(|((row, t), w)| w * (log_sum_exp(row) - row[*t as usize]))
            .collect();
        let mean = losses.iter().sum::<f32>() / self.total();
        Ok((CpuStorage::F32(vec![mean]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (n, vocab) = x.dims2()?;
        let g = g.to_dtype(DType::F32)?.to_scalar::<f32>()? / self.total();
        let mut d = flat(x)?;
        d.par_chunks_mut(vocab).zip(self.targets.par_iter()).zip(self.weights.par_iter()).for_each(
            |((row, t), w)| {
                let lse = log_sum_exp(row);
                let w = w * g;
                row.iter_mut().for_each(|v| *v = (*v - lse).exp() * w);
                row[*t as usize] -= w;
            },
        );
        Ok(Some(Tensor::from_vec(d, (n, vocab), &Device::Cpu)?))
    }
}

#[cfg(test)]
mod tests;
