use super::*;
use crate::matmul::tests::numbers;
use oprel_quant::QuantType;

/// A random case: a cache whose pages are in reverse order, queries, and what they see.
#[derive(Clone)]
struct Case {
    layout: KvLayout,
    pages: Vec<u32>,
    n_heads: usize,
    /// (positions, kv heads, dim).
    keys: Vec<f32>,
    values: Vec<f32>,
    q: Vec<f32>,
    seen: Vec<Seen>,
}

/// A cache's bytes.
struct Cache {
    k: Vec<u8>,
    v: Vec<u8>,
}

impl Cache {
    fn kv(&self) -> Kv<'_> {
        Kv { k: &self.k, v: if self.v.is_empty() { &self.k } else { &self.v } }
    }
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
        let seen = (len - n..len).map(|at| Seen {
            start: (at + 1).saturating_sub(window),
            end: at + 1,
            at,
        });
        Case {
            layout: KvLayout::new(KvType::F32.into(), n_kv_heads, page_len, k_dim, v_dim),
            pages: (0..len.div_ceil(page_len) as u32).rev().collect(),
            n_heads,
            keys: numbers(1, len * n_kv_heads * k_dim),
            values: numbers(2, len * n_kv_heads * v_dim),
            q: numbers(3, n * n_heads * k_dim).iter().map(|x| x * 4.0).collect(),
            seen: seen.collect(),
        }
    }

    fn stored_as(mut self, types: KvTypes) -> Case {
        let l = self.layout;
        self.layout = KvLayout::new(types, l.n_kv_heads(), l.page_len(), l.k_dim(), l.v_dim());
        self
    }

    fn heads(&self) -> Heads<'static> {
        Heads { n_heads: self.n_heads, scale: 0.3, soft_cap: None, sinks: None, alibi: None }
    }

    /// Slopes and sinks for each head.
    fn extras(&self) -> [Vec<f32>; 2] {
        let slopes = (0..self.n_heads).map(|h| 0.02 * (h + 1) as f32).collect();
        [slopes, numbers(9, self.n_heads)]
    }

    /// Plain heads, then such with each of what may happen to scores.
    fn variant<'a>(&self, [slopes, sinks]: &'a [Vec<f32>; 2], variant: usize) -> Heads<'a> {
        Heads {
            soft_cap: (variant == 1).then_some(2.0),
            alibi: (variant == 2).then_some(slopes),
            sinks: (variant == 3).then_some(sinks),
            ..self.heads()
        }
    }

    /// The cache, filled some positions at a time; what is never written has every bit set.
    fn cache(&self, isa: Isa, steps: &[usize]) -> Cache {
        let n_pages = self.pages.len();
        let mut cache = Cache {
            k: vec![0xff; n_pages * self.layout.k_page_bytes()],
            v: vec![0xff; n_pages * self.layout.v_page_bytes()],
        };
        let n = self.keys.len() / self.layout.n_kv_heads() / self.layout.k_dim();
        let (mut start, mut step) = (0, steps.iter().cycle());
        while start < n {
            let n = (*step.next().unwrap()).min(n - start);
            let span = AppendSpan { pages: &self.pages, first: start, start, n };
            let kv = KvMut { k: &mut cache.k, v: &mut cache.v };
            let mut pool = Pool::new(2).unwrap();
            append(&mut pool, isa, &self.layout, kv, &[span], &self.keys, &self.values);
            start += n;
        }
        cache
    }

    fn run(&self, heads: &Heads<'_>, isa: Isa, n_threads: usize) -> Vec<f32> {
        let cache = self.cache(isa, &[1000]);
        self.run_rows(heads, isa, n_threads, cache.kv(), 0, self.seen.len(), None)
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
        let width = self.n_heads * self.layout.k_dim();
        let mut out = vec![f32::NAN; (to - from) * self.n_heads * self.layout.v_dim()];
        let span = AttnSpan { pages: &self.pages, first: 0, seen: &self.seen[from..to], mask };
        let q = &self.q[from * width..to * width];
        let mut partials = vec![f32::NAN; partial_len(self.n_heads, self.layout.v_dim(), 4096)];
        let spans = [span];
        attention(&mut pool, isa, heads, &self.layout, kv, &spans, q, &mut out, &mut partials);
        out
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
        let (n_kv_heads, k_dim) = (self.layout.n_kv_heads(), self.layout.k_dim());
        let kv_head = head / (self.n_heads / n_kv_heads);
        let seen = self.seen[row];
        let of = |x: &'_ [f32], pos: usize, dim: usize| -> Vec<f64> {
            let row = &x[(pos * n_kv_heads + kv_head) * dim..][..dim];
            row.iter().map(|x| f64::from(*x)).collect()
        };
        let q = &self.q[(row * self.n_heads + head) * k_dim..][..k_dim];
        let score = |pos: usize| {
            let key = of(&self.keys, pos, k_dim);
            let products = q.iter().zip(key).map(|(a, b)| f64::from(*a) * b);
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
        let mut out = vec![0.0; self.layout.v_dim()];
        for (pos, weight) in weights {
            let value = match self.layout.is_aliased() {
                true => of(&self.keys, pos, k_dim),
                false => of(&self.values, pos, self.layout.v_dim()),
            };
            out.iter_mut().zip(value).for_each(|(y, v)| *y += weight / total * v);
        }
        out
    }
}

fn assert_near(out: &[f32], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(out.len(), expected.len());
    for (y, e) in out.iter().zip(expected) {
        assert!((f64::from(*y) - e).abs() < bound, "{what}: {y} is not {e}");
    }
}

/// Values and scores are of order one; sums run over hundreds of terms.
const EXACT: f64 = 2e-5;

fn cases() -> Vec<Case> {
    vec![
        Case::causal((1, 1), (8, 8), 16, 1, 1, 100),
        Case::causal((4, 2), (16, 16), 16, 37, 37, 1000),
        Case::causal((6, 2), (24, 40), 64, 300, 5, 1000),
        Case::causal((8, 1), (33, 7), 16, 600, 3, 100),
        Case::causal((20, 1), (64, 32), 64, 520, 2, 300),
        Case::causal((4, 4), (64, 64), 64, 256, 9, 1000),
        Case::causal((4, 4), (64, 64), 320, 257, 3, 1),
        Case::causal((8, 2), (64, 80), 48, 1200, 1, 2000),
        Case::causal((7, 1), (32, 16), 64, 700, 40, 90),
        Case::causal((70, 1), (16, 16), 64, 90, 3, 1000),
        Case::causal((4, 2), (600, 272), 64, 140, 6, 1000),
    ]
}

#[test]
fn attention_is_its_formula_in_every_tier() {
    for case in cases() {
        let extras = case.extras();
        for variant in 0..4 {
            let heads = case.variant(&extras, variant);
            let expected = case.reference(&heads, |_, _| false);
            for isa in Isa::supported() {
                let out = case.run(&heads, isa, 2);
                assert_near(&out, &expected, EXACT, &format!("{isa} variant {variant}"));
            }
        }
    }
}

/// Types of which one at least is integers.
const INTEGERS: [KvTypes; 4] = [
    KvTypes::both(KvType::I16),
    KvTypes { k: KvType::I16, v: KvType::F32 },
    KvTypes { k: KvType::F32, v: KvType::I16 },
    KvTypes { k: KvType::Q8_0, v: KvType::I16 },
];

#[test]
fn attention_in_integers_is_the_formula_and_the_same_in_every_tier() {
    for (case, types) in cases().into_iter().flat_map(|c| INTEGERS.map(|t| (c.clone(), t))) {
        let case = case.stored_as(types);
        let extras = case.extras();
        for variant in 0..4 {
            let heads = case.variant(&extras, variant);
            let expected = case.reference(&heads, |_, _| false);
            let scalar = case.run(&heads, Isa::SCALAR, 1);
            // Where scores are in the hundreds, their smallest parts count.
            let bound = if types.k == KvType::Q8_0 { 5e-2 } else { 5e-3 };
            assert_near(&scalar, &expected, bound, &format!("{types} variant {variant}"));
            for isa in Isa::supported() {
                assert_eq!(case.run(&heads, isa, 2), scalar, "{isa} {types} variant {variant}");
            }
        }
    }
}

#[test]
fn integers_are_about_as_exact_as_half_precision() {
    for case in cases() {
        let heads = case.heads();
        let expected = case.reference(&heads, |_, _| false);
        let [integers, half] = [KvType::I16, KvType::F16].map(|ty| {
            let out = case.clone().stored_as(ty.into()).run(&heads, Isa::detect(), 1);
            let errors = out.iter().zip(&expected).map(|(y, e)| (f64::from(*y) - e).powi(2));
            (errors.sum::<f64>() / expected.len() as f64).sqrt()
        });
        assert!(integers < 1.6 * half, "{integers} beside {half}");
    }
}

#[test]
fn one_query_alone_gives_the_bits_it_gives_among_others() {
    let integers = cases().into_iter().map(|case| case.stored_as(KvType::I16.into()));
    for case in cases().into_iter().chain(integers) {
        let heads = case.heads();
        let together = case.run(&heads, Isa::SCALAR, 1);
        let width = case.n_heads * case.layout.v_dim();
        let n = case.seen.len();
        for isa in Isa::supported() {
            for n_threads in [1, 3, 16] {
                assert_eq!(case.run(&heads, isa, n_threads), together, "{isa}");
            }
            let cache = case.cache(isa, &[1, 15, 16, 40]);
            for row in 0..n {
                let alone = case.run_rows(&heads, isa, 2, cache.kv(), row, row + 1, None);
                assert_eq!(alone, together[row * width..][..width], "{isa} row {row}");
            }
            // A prompt in two steps.
            let half = case.run_rows(&heads, isa, 2, cache.kv(), n / 2, n, None);
            assert_eq!(half, together[n / 2 * width..], "{isa}");
        }
    }
}

#[test]
fn contexts_are_split_only_where_partial_results_find_room() {
    let case = Case::causal((8, 2), (32, 32), 64, 3000, 1, 4000);
    let cache = case.cache(Isa::detect(), &[3000]);
    let heads = case.heads();
    let whole = case.run(&heads, Isa::SCALAR, 1);
    let spans = [AttnSpan { pages: &case.pages, first: 0, seen: &case.seen, mask: None }];
    for len in [0, 1000, partial_len(8, 32, 3000) - 1, partial_len(8, 32, 3000)] {
        let mut partials = vec![f32::NAN; len];
        let mut out = vec![0.0; whole.len()];
        let mut pool = Pool::new(5).unwrap();
        let (isa, kv, q) = (Isa::detect(), cache.kv(), &case.q);
        attention(&mut pool, isa, &heads, &case.layout, kv, &spans, q, &mut out, &mut partials);
        assert_eq!(out, whole);
        let used = partials.iter().any(|x| !x.is_nan());
        assert_eq!(used, len == partial_len(8, 32, 3000), "{len}");
    }
}

/// What a cache gives back of rows of numbers.
fn stored(ty: KvType, x: &[f32], dim: usize) -> Vec<f32> {
    let blocks = |ty: QuantType| x.chunks(dim).flat_map(|row| quantized(ty, row)).collect();
    match ty {
        KvType::F32 => x.to_vec(),
        // Where keys are rows of integers, they do not meet numbers; where they hold values, they
        // are in half precision.
        KvType::F16 | KvType::I16 => x.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect(),
        KvType::Bf16 => x.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect(),
        KvType::Q8_0 => blocks(QuantType::Q8_0),
        KvType::Q4_0 => blocks(QuantType::Q4_0),
    }
}

/// Numbers in blocks of a type and back.
fn quantized(ty: QuantType, x: &[f32]) -> Vec<f32> {
    let mut padded = x.to_vec();
    padded.resize(x.len().next_multiple_of(32), 0.0);
    let mut bytes = vec![0; ty.row_bytes(padded.len()).unwrap()];
    oprel_quant::quantize(ty, &padded, &mut bytes).unwrap();
    oprel_quant::dequantize(ty, &bytes, &mut padded).unwrap();
    padded.truncate(x.len());
    padded
}

#[test]
fn every_type_of_cache_is_exact_attention_to_what_it_stores() {
    let pairs = KvType::ALL.into_iter().flat_map(|k| KvType::ALL.map(|v| KvTypes { k, v }));
    let in_numbers = |types: &KvTypes| types.k != KvType::I16 && types.v != KvType::I16;
    for types in pairs.filter(|types| *types != KvType::F32.into() && in_numbers(types)) {
        // Keys and values meet in scores alone: for types that differ, a few cases do.
        let n = if types.k == types.v { usize::MAX } else { 4 };
        for case in cases().into_iter().take(n) {
            let rounded = Case {
                keys: stored(types.k, &case.keys, case.layout.k_dim()),
                values: stored(types.v, &case.values, case.layout.v_dim()),
                q: case.q.clone(),
                seen: case.seen.clone(),
                pages: case.pages.clone(),
                ..case
            };
            let exact = rounded.run(&rounded.heads(), Isa::SCALAR, 1);
            let case = Case { keys: case.keys, values: case.values, ..rounded }.stored_as(types);
            for isa in Isa::supported() {
                assert_eq!(case.run(&case.heads(), isa, 3), exact, "{isa} {types}");
                let cache = case.cache(isa, &[1, 16, 33]);
                let n = case.seen.len();
                let out = case.run_rows(&case.heads(), isa, 2, cache.kv(), 0, n, None);
                assert_eq!(out, exact, "{isa} {types}");
            }
        }
    }
}

#[test]
fn values_may_be_the_first_elements_of_keys() {
    for ty in KvType::ALL {
        for n_heads in [2, 16] {
            let mut case = Case::causal((n_heads, 1), (72, 36), 64, 300, 3, 1000);
            case.layout = KvLayout::aliased(ty.into(), 1, 64, 72, 36);
            case.keys = stored(ty, &case.keys, 72);
            let expected = case.reference(&case.heads(), |_, _| false);
            let scalar = case.run(&case.heads(), Isa::SCALAR, 1);
            for isa in Isa::supported() {
                let out = case.run(&case.heads(), isa, 2);
                // What is rounded to blocks again is a little off what it was.
                let bound = match ty {
                    KvType::Q8_0 => 2e-3,
                    KvType::Q4_0 => 2e-2,
                    _ => EXACT,
                };
                assert_near(&out, &expected, bound, "aliased");
                assert_eq!(out, scalar, "{isa}");
                let cache = case.cache(isa, &[7]);
                let alone = case.run_rows(&case.heads(), isa, 4, cache.kv(), 2, 3, None);
                assert_eq!(alone, out[2 * n_heads * 36..]);
            }
        }
    }
}

#[test]
fn masked_positions_are_not_seen() {
    for (ty, bound) in [(KvType::F32, EXACT), (KvType::I16, 4e-4)] {
        masked_positions(ty, bound);
    }
}

fn masked_positions(ty: KvType, bound: f64) {
    let case = Case::causal((2, 1), (16, 16), 16, 40, 6, 1000).stored_as(ty.into());
    let visible: Vec<bool> = (0..6 * 6).map(|i| i / 6 == i % 6 || i % 6 == 0).collect();
    let mask = SeenMask { first: 34, width: 6, visible: &visible };
    let hidden = |row: usize, pos: usize| pos >= 34 && !visible[row * 6 + pos - 34];
    let expected = case.reference(&case.heads(), hidden);
    let cache = case.cache(Isa::detect(), &[40]);
    let out = case.run_rows(&case.heads(), Isa::detect(), 2, cache.kv(), 0, 6, Some(mask));
    assert_near(&out, &expected, bound, "mask");
}

#[test]
fn a_query_that_sees_nothing_gets_zeros() {
    for ty in [KvType::F32, KvType::I16] {
        nothing_seen(ty);
    }
}

fn nothing_seen(ty: KvType) {
    let mut case = Case::causal((2, 2), (8, 8), 16, 20, 2, 100).stored_as(ty.into());
    case.seen[0] = Seen { start: 5, end: 5, at: 5 };
    let sinks = [0.5, -0.5];
    for sinks in [None, Some(&sinks[..])] {
        let heads = Heads { sinks, ..case.heads() };
        let out = case.run(&heads, Isa::detect(), 1);
        assert!(out[..16].iter().all(|y| *y == 0.0), "{out:?}");
        assert!(out[16..].iter().any(|y| *y != 0.0));
    }
}

#[test]
fn what_is_no_number_is_not_hidden_and_does_not_spread() {
    for isa in Isa::supported() {
        for ty in [KvType::F32, KvType::I16] {
            let mut case = Case::causal((1, 1), (8, 8), 16, 40, 20, 100).stored_as(ty.into());
            // A query, and the last value, which only the last query sees.
            case.q[3] = f32::NAN;
            *case.values.last_mut().unwrap() = f32::NAN;
            let out = case.run(&case.heads(), isa, 1);
            assert!(out[..8].iter().all(|y| y.is_nan()));
            // A row of integers has one scale.
            let spread = if ty == KvType::I16 { 152 } else { 159 };
            assert!(out[8..spread].iter().all(|y| y.is_finite()), "{isa} {ty}");
            assert!(out[spread..].iter().all(|y| y.is_nan()), "{isa} {ty}");
        }
    }
}

#[test]
fn spans_of_several_sequences_keep_apart() {
    let a = Case::causal((4, 2), (16, 16), 16, 300, 3, 1000);
    let heads = a.heads();
    let expected = a.run(&heads, Isa::detect(), 1);
    // The same sequence twice, its pages in another place the second time.
    let n_pages = a.pages.len();
    let cache = a.cache(Isa::detect(), &[300]);
    let (k, v) = ([&cache.k[..], &cache.k].concat(), [&cache.v[..], &cache.v].concat());
    let q = [&a.q[..], &a.q].concat();
    let moved: Vec<u32> = a.pages.iter().map(|p| p + n_pages as u32).collect();
    let spans = [
        AttnSpan { pages: &a.pages, first: 0, seen: &a.seen, mask: None },
        AttnSpan { pages: &moved, first: 3, seen: &a.seen, mask: None },
    ];
    for len in [0, 2000, 10000] {
        let (mut out, mut partials) = (vec![0.0; 2 * expected.len()], vec![0.0; len]);
        let mut pool = Pool::new(3).unwrap();
        let (isa, kv) = (Isa::detect(), Kv { k: &k, v: &v });
        attention(&mut pool, isa, &heads, &a.layout, kv, &spans, &q, &mut out, &mut partials);
        assert_eq!(out, [&expected[..], &expected].concat());
    }
}
