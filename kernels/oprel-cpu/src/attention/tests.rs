use super::*;
use crate::matmul::tests::numbers;

/// A random case: caches of `pages` in shuffled order, queries, and what they see.
struct Case {
    layout: KvLayout,
    pages: Vec<u32>,
    n_kv_heads: usize,
    n_heads: usize,
    k: Vec<f32>,
    v: Vec<f32>,
    q: Vec<f32>,
    seen: Vec<Seen>,
}

impl Case {
    /// `n` queries at the end of `len` positions, each seeing the last `window` up to itself.
    fn causal(
        (n_heads, n_kv_heads): (usize, usize),
        (k_dim, v_dim): (usize, usize),
        page_len: usize,
        len: usize,
        n: usize,
        window: usize,
    ) -> Case {
        let n_pages = len.div_ceil(page_len);
        let layout = KvLayout::new(n_kv_heads, page_len, k_dim, v_dim);
        let seen = (len - n..len).map(|at| Seen {
            start: (at + 1).saturating_sub(window),
            end: at + 1,
            at,
        });
        Case {
            layout,
            pages: (0..n_pages as u32).rev().collect(),
            n_kv_heads,
            n_heads,
            k: numbers(1, n_pages * layout.k_page),
            v: numbers(2, n_pages * layout.v_page),
            q: numbers(3, n * n_heads * k_dim).iter().map(|x| x * 4.0).collect(),
            seen: seen.collect(),
        }
    }

    fn heads(&self) -> Heads<'static> {
        Heads {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            scale: 0.3,
            soft_cap: None,
            sinks: None,
            alibi: None,
        }
    }

    fn run(&self, heads: &Heads<'_>, isa: Isa, n_threads: usize, kv: Kv<'_>) -> Vec<f32> {
        self.run_rows(heads, isa, n_threads, kv, 0, self.seen.len(), None)
    }

    /// Rows `from..to` alone.
    fn run_rows(
        &self,
        heads: &Heads<'_>,
        isa: Isa,
        n_threads: usize,
        kv: Kv<'_>,
        from: usize,
        to: usize,
        mask: Option<SeenMask<'_>>,
    ) -> Vec<f32> {
        let mut pool = Pool::new(n_threads).unwrap();
        let width = self.n_heads * self.layout.k_dim;
        let mut out = vec![f32::NAN; (to - from) * self.n_heads * self.layout.v_dim];
        let span = AttnSpan { pages: &self.pages, first: 0, seen: &self.seen[from..to], mask };
        let q = &self.q[from * width..to * width];
        attention(&mut pool, isa, heads, &self.layout, kv, &[span], q, &mut out);
        out
    }

    fn kv(&self) -> Kv<'_> {
        Kv::F32 { k: &self.k, v: &self.v }
    }

    fn reference(&self, heads: &Heads<'_>, hidden: impl Fn(usize, usize) -> bool) -> Vec<f64> {
        let mut out = Vec::new();
        for row in 0..self.seen.len() {
            for head in 0..self.n_heads {
                out.extend(self.reference_head(heads, row, head, &hidden));
            }
        }
        out
    }

    fn reference_head(
        &self,
        heads: &Heads<'_>,
        row: usize,
        head: usize,
        hidden: &impl Fn(usize, usize) -> bool,
    ) -> Vec<f64> {
        let KvLayout { page_len, k_dim, v_dim, v_row, k_page, v_page } = self.layout;
        let kv_head = head / (self.n_heads / self.n_kv_heads);
        let seen = self.seen[row];
        let at = |pos: usize, page: usize, dim: usize| {
            let in_page = kv_head * page_len + pos % page_len;
            self.pages[pos / page_len] as usize * page + in_page * dim
        };
        let q = &self.q[(row * self.n_heads + head) * k_dim..][..k_dim];
        let score = |pos: usize| {
            let key = &self.k[at(pos, k_page, k_dim)..][..k_dim];
            let products = q.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b));
            let mut score = products.sum::<f64>() * f64::from(heads.scale);
            if let Some(cap) = heads.soft_cap {
                score = f64::from(cap) * (score / f64::from(cap)).tanh();
            }
            score - heads.alibi.map_or(0.0, |s| f64::from(s[head]) * pos.abs_diff(seen.at) as f64)
        };
        let weights: Vec<(usize, f64)> = (seen.start..seen.end)
            .filter(|pos| !hidden(row, *pos))
            .map(|pos| (pos, score(pos).exp()))
            .collect();
        let sink = heads.sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
        let total: f64 = weights.iter().map(|w| w.1).sum::<f64>() + sink;
        let mut out = vec![0.0; v_dim];
        for (pos, weight) in weights {
            let value = &self.v[at(pos, v_page, v_row)..][..v_dim];
            out.iter_mut().zip(value).for_each(|(y, v)| *y += weight / total * f64::from(*v));
        }
        out
    }
}

fn assert_near(out: &[f32], expected: &[f64], what: &str) {
    assert_eq!(out.len(), expected.len());
    for (y, e) in out.iter().zip(expected) {
        // Values and scores are of order one; sums run over hundreds of terms.
        assert!((f64::from(*y) - e).abs() < 2e-5, "{what}: {y} is not {e}");
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case::causal((1, 1), (8, 8), 4, 1, 1, 100),
        Case::causal((4, 2), (16, 16), 8, 37, 37, 1000),
        Case::causal((6, 2), (24, 40), 64, 300, 5, 1000),
        Case::causal((8, 1), (33, 7), 16, 600, 3, 100),
        Case::causal((20, 1), (64, 32), 64, 520, 2, 300),
        Case::causal((4, 4), (64, 64), 64, 256, 9, 1000),
        Case::causal((4, 4), (64, 64), 300, 257, 3, 1),
    ]
}

#[test]
fn attention_is_its_formula_in_every_tier() {
    for case in cases() {
        let n_heads = case.n_heads;
        let slopes: Vec<f32> = (0..n_heads).map(|h| 0.02 * (h + 1) as f32).collect();
        let sinks = numbers(9, n_heads);
        for variant in 0..4 {
            let mut heads = case.heads();
            heads.soft_cap = (variant == 1).then_some(2.0);
            heads.alibi = (variant == 2).then_some(&slopes);
            heads.sinks = (variant == 3).then_some(&sinks);
            let expected = case.reference(&heads, |_, _| false);
            for isa in Isa::supported() {
                let out = case.run(&heads, isa, 2, case.kv());
                assert_near(&out, &expected, &format!("{isa} variant {variant}"));
            }
        }
    }
}

#[test]
fn one_query_alone_gives_the_bits_it_gives_among_others() {
    for case in cases() {
        let heads = case.heads();
        let together = case.run(&heads, Isa::SCALAR, 1, case.kv());
        let width = case.n_heads * case.layout.v_dim;
        for isa in Isa::supported() {
            for n_threads in [1, 3, 5] {
                assert_eq!(case.run(&heads, isa, n_threads, case.kv()), together, "{isa}");
            }
            for row in 0..case.seen.len() {
                let alone = case.run_rows(&heads, isa, 2, case.kv(), row, row + 1, None);
                assert_eq!(alone, together[row * width..][..width], "{isa} row {row}");
            }
        }
    }
}

#[test]
fn half_precision_caches_are_read_exactly() {
    for case in cases() {
        let round = |x: &[f32]| x.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>();
        let (k, v) = (round(&case.k), round(&case.v));
        let widen = |x: &[f16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
        let (wide_k, wide_v) = (widen(&k), widen(&v));
        for isa in Isa::supported() {
            let half = case.run(&case.heads(), isa, 2, Kv::F16 { k: &k, v: &v });
            let full = case.run(&case.heads(), isa, 2, Kv::F32 { k: &wide_k, v: &wide_v });
            assert_eq!(half, full, "{isa}");
        }
    }
}

#[test]
fn values_may_be_the_first_elements_of_keys() {
    let mut case = Case::causal((16, 1), (48, 32), 16, 70, 3, 1000);
    case.layout = KvLayout::aliased(1, 16, 48, 32);
    case.v = case.k.clone();
    let expected = case.reference(&case.heads(), |_, _| false);
    let kv = Kv::F32 { k: &case.k, v: &case.k };
    assert_near(&case.run(&case.heads(), Isa::detect(), 2, kv), &expected, "aliased");
}

#[test]
fn masked_positions_are_not_seen() {
    let case = Case::causal((2, 1), (16, 16), 8, 40, 6, 1000);
    let visible: Vec<bool> = (0..6 * 6).map(|i| i / 6 == i % 6 || i % 6 == 0).collect();
    let mask = SeenMask { first: 34, width: 6, visible: &visible };
    let hidden = |row: usize, pos: usize| pos >= 34 && !visible[row * 6 + pos - 34];
    let expected = case.reference(&case.heads(), hidden);
    let out = case.run_rows(&case.heads(), Isa::detect(), 2, case.kv(), 0, 6, Some(mask));
    assert_near(&out, &expected, "mask");
}

#[test]
fn a_query_that_sees_nothing_gets_zeros() {
    let mut case = Case::causal((2, 2), (8, 8), 8, 20, 2, 100);
    case.seen[0] = Seen { start: 5, end: 5, at: 5 };
    let sinks = [0.5, -0.5];
    for sinks in [None, Some(&sinks[..])] {
        let heads = Heads { sinks, ..case.heads() };
        let out = case.run(&heads, Isa::detect(), 1, case.kv());
        assert!(out[..16].iter().all(|y| *y == 0.0), "{out:?}");
        assert!(out[16..].iter().any(|y| *y != 0.0));
    }
}

#[test]
fn what_is_no_number_is_not_hidden() {
    let mut case = Case::causal((1, 1), (8, 8), 8, 20, 2, 100);
    case.q[3] = f32::NAN;
    let out = case.run(&case.heads(), Isa::detect(), 1, case.kv());
    assert!(out[..8].iter().all(|y| y.is_nan()));
    assert!(out[8..].iter().all(|y| y.is_finite()));
}

#[test]
fn spans_of_several_sequences_keep_apart() {
    let a = Case::causal((4, 2), (16, 16), 8, 30, 3, 1000);
    let heads = a.heads();
    let expected = a.run(&heads, Isa::detect(), 1, a.kv());
    // The same sequence twice, its pages in another place the second time.
    let n_pages = a.pages.len();
    let twice = |x: &[f32]| [x, x].concat();
    let (k, v, q) = (twice(&a.k), twice(&a.v), twice(&a.q));
    let moved: Vec<u32> = a.pages.iter().map(|p| p + n_pages as u32).collect();
    let spans = [
        AttnSpan { pages: &a.pages, first: 0, seen: &a.seen, mask: None },
        AttnSpan { pages: &moved, first: 3, seen: &a.seen, mask: None },
    ];
    let mut out = vec![0.0; 2 * expected.len()];
    let mut pool = Pool::new(3).unwrap();
    let kv = Kv::F32 { k: &k, v: &v };
    attention(&mut pool, Isa::detect(), &heads, &a.layout, kv, &spans, &q, &mut out);
    assert_eq!(out, twice(&expected));
}
