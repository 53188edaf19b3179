//! On the demo model: what is measured is what its definition says, whatever the pieces.

use std::path::PathBuf;

use super::*;

fn text() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/demo/heldout.txt");
    std::fs::read_to_string(path).expect("committed")
}

const OPTIONS: WindowOptions = WindowOptions { context: 128, n_windows: Some(3), threads: Some(2) };

/// Nobody asks to stop.
fn on(_: MeasureProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_measurement_that_is_stopped_leaves_nothing_and_what_was_there() {
    let demo = oprel_models::demo().expect("built in");
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("base");
    std::fs::write(&base, "older").expect("written");
    let mut off = |_| ControlFlow::Break(());
    let stopped = perplexity(&demo, &text(), &OPTIONS, Some(&base), &mut off);
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    assert_eq!(std::fs::read(&base).expect("still there"), b"older");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    perplexity(&demo, &text(), &OPTIONS, Some(&base), &mut on).expect("runs");
    let stopped = divergence(&demo, &base, &OPTIONS, &mut off);
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
}

#[test]
fn the_demo_model_foretells_its_text_and_not_another() {
    let demo = oprel_models::demo().expect("built in");
    let mut seen = 0;
    let own = perplexity(&demo, &text(), &OPTIONS, None, &mut |p| {
        seen = p.done;
        ControlFlow::Continue(())
    })
    .expect("runs");
    assert_eq!((seen, own.n_tokens), (3, 3 * 63));
    assert!(own.perplexity.value > 1.0 && own.perplexity.error > 0.0, "{own:?}");
    let reversed: String = text().chars().rev().collect();
    let other = perplexity(&demo, &reversed, &OPTIONS, None, &mut on).expect("runs");
    assert!(other.perplexity.value > 2.0 * own.perplexity.value, "{own:?} {other:?}");
    let alone = WindowOptions { threads: Some(1), ..OPTIONS };
    let alone = perplexity(&demo, &text(), &alone, None, &mut on).expect("runs");
    assert_eq!(alone, own, "threads change nothing");
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let demo = oprel_models::demo().expect("built in");
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("base");
    let own = perplexity(&demo, &text(), &OPTIONS, Some(&base), &mut on).expect("runs");
    let d = divergence(&demo, &base, &WindowOptions::default(), &mut on).expect("runs");
    assert_eq!(d.n_tokens, own.n_tokens);
    assert!((d.perplexity.value - own.perplexity.value).abs() < 1e-9);
    // The base has steps of 16 / 65535.
    assert!((d.base_perplexity.value / own.perplexity.value - 1.0).abs() < 1e-3, "{d:?}");
    assert!(d.kl.value.abs() < 1e-5 && d.kl_max < 1e-4, "{d:?}");
    assert!(d.same_top.value > 0.98 && d.p_difference_rms < 1e-3, "{d:?}");
}

#[test]
fn damaged_bases_and_short_texts_are_refused() {
    let demo = oprel_models::demo().expect("built in");
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("base");
    let short = perplexity(&demo, "a few words", &OPTIONS, Some(&base), &mut on);
    assert!(matches!(short, Err(Error::Short { .. })), "{short:?}");
    let one = WindowOptions { n_windows: Some(1), context: 16, threads: Some(1) };
    perplexity(&demo, &text(), &one, Some(&base), &mut on).expect("runs");
    let whole = std::fs::read(&base).expect("read");
    let refused = |bytes: &[u8]| {
        std::fs::write(&base, bytes).expect("written");
        let result = divergence(&demo, &base, &one, &mut on);
        assert!(matches!(result, Err(Error::Base { .. })), "{result:?}");
    };
    for end in [0, 7, 8, 19, 20, 40, whole.len() - 1] {
        refused(&whole[..end]);
    }
    for (at, byte) in [(0, 1), (11, 0xff), (14, 1), (19, 0x7f), (8, 0), (23, 0xff)] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        refused(&bytes);
    }
}

#[test]
fn percentiles_lie_between_neighbours() {
    assert_eq!(percentile(&[], 0.5), 0.0);
    assert_eq!(percentile(&[1.0, 2.0], 0.5), 1.5);
    assert_eq!(percentile(&[1.0, 2.0, 4.0], 1.0), 4.0);
    let mut sums = Sums::default();
    [1.0, 3.0].into_iter().for_each(|x| sums.add(x));
    assert_eq!(sums.measured(), Measured { value: 2.0, error: 1.0 });
}

#[test]
fn a_base_that_was_not_finished_leaves_nothing() {
    let demo = oprel_models::demo().expect("built in");
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("base");
    let text = Text::read(&demo, &text(), &OPTIONS, 2).expect("tokens");
    drop(BaseWriter::create(&base, &text, 8).expect("a file"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
