use oprel_nn::{KvType, KvTypes};

use super::choice::longest;
use super::*;

const MB: u64 = 1 << 20;

/// A model of 100 MB of weights whose tokens take 64 kB in 2-byte types.
fn needs_of(_: u32, kv: KvTypes) -> Result<Needs> {
    let row = |ty: KvType| ty.row_bytes(128) as u64;
    let of_token = (64 << 10) * (row(kv.k) + row(kv.v)) / 512;
    Ok(Needs {
        memory: Memory { mapped: 100 * MB, ..Memory::default() },
        groups: vec![GroupNeeds {
            reach: Reach::Full,
            pages: 1 << 20,
            page_bytes: of_token * PAGE_LEN as u64,
        }],
        ..Needs::default()
    })
}

const F16: KvTypes = KvTypes::both(KvType::F16);
const Q8: KvTypes = KvTypes::both(KvType::Q8_0);

#[test]
fn what_comes_nearest_keeps_the_context_then_the_types_then_neither() {
    let nearest = |context, kv, free| {
        let refused = TooLarge::new((context, kv), free, needs_of).unwrap();
        refused.nearest.map(|n| (n.context, n.kv))
    };
    // 64 MB in two bytes, 34 MB in one.
    assert_eq!(nearest(1024, F16, 140 * MB), Some((1024, Q8)));
    assert_eq!(nearest(1024, Q8, 120 * MB), Some((512, Q8)));
    assert_eq!(nearest(32768, F16, 500 * MB), Some((6144, F16)));
    assert_eq!(nearest(32768, F16, 200 * MB).unwrap().1, Q8);
    assert_eq!(nearest(32768, F16, 101 * MB), None);
}

#[test]
fn what_is_chosen_fits_and_a_little_more_would_not() {
    let needs = needs_of(0, F16).unwrap();
    for free in [133, 150, 200, 1000, 5000].map(|n| n * MB) {
        let n = longest(&needs, 100_000, free).unwrap();
        assert!(needs.total(n) <= free && needs.total(n + 256) > free);
    }
    assert_eq!(longest(&needs, 100_000, 110 * MB), None);
    assert_eq!(longest(&needs, 100, 5000 * MB), None);
}

#[test]
fn the_refusal_says_the_sum_and_the_way_out() {
    let refused = TooLarge::new((1024, F16), 140 * MB, needs_of).unwrap();
    let text = refused.to_string();
    assert!(text.contains("needs 172 MB, and 147 MB is free"), "{text}");
    assert!(text.contains("weights 105 MB + state of 1024 tokens (f16) 67 MB"), "{text}");
    assert!(refused.hint().starts_with("--kv q8_0 fits"), "{}", refused.hint());
    let refused = TooLarge::new((1024, F16), 90 * MB, needs_of).unwrap();
    assert!(refused.hint().contains("smaller quant"), "{}", refused.hint());
}

#[test]
fn a_bound_counts_where_it_is_less_than_what_is_free() {
    let bound = |bytes| Some(Room { bytes, is_bound: true });
    assert_eq!(Room::of(None, None), None);
    assert_eq!(Room::of(Some(5), None), Some(5.into()));
    assert_eq!(Room::of(Some(5), Some(5)), Some(5.into()));
    assert_eq!(Room::of(Some(5), Some(4)), bound(4));
    assert_eq!(Room::of(None, Some(4)), bound(4));
    let refused = |bytes| TooLarge::new((1024, F16), bound(bytes).unwrap(), needs_of).unwrap();
    let text = refused(140 * MB).to_string();
    assert!(text.contains("and 147 MB is the most that max_memory_mb allows"), "{text}");
    assert!(refused(140 * MB).hint().starts_with("--kv q8_0 fits"));
    assert!(refused(90 * MB).hint().starts_with("raise max_memory_mb, or take a smaller quant"));
    assert!(refused(MB).hint().contains("beside its weights"), "{}", refused(MB).hint());
}

#[test]
fn more_tokens_never_need_less() {
    let mut needs = needs_of(0, F16).unwrap();
    needs.groups.push(GroupNeeds { reach: Reach::Window(512), pages: 20, page_bytes: 1000 });
    needs.rows = (20, 12345);
    let totals: Vec<u64> = (0..10000).step_by(77).map(|n| needs.total(n)).collect();
    assert!(totals.is_sorted());
    assert_eq!(
        needs.total(1 << 20) - needs.total((1 << 20) - 64),
        needs.groups[0].page_bytes + 400
    );
}

#[test]
fn contexts_and_pages_follow_from_the_wish_and_what_is_free() {
    let wish = Wish { parallel: Some(2), ..Wish::default() };
    // A fourth of 64 MB are 16 MB: 1600 tokens of 10 kB.
    let positions = |free: u64, fixed| wish.positions(1000, (fixed, 10 << 10), Some(free));
    assert_eq!(positions(64 * MB, 0), 1638);
    assert_eq!(positions(640 * MB, 0), 2000);
    assert_eq!(positions(64 * MB, 63 * MB), 1000, "a context is always there");
}
