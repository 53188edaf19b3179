//! Collecting importance: how large what each column of every matrix is multiplied by is over a text.

use std::collections::HashMap;
use std::ops::ControlFlow;

use oprel_gguf::Gguf;
use oprel_models::Model;
use oprel_nn::Observer;
use oprel_nn::describe::SiteId;

use crate::error::{Error, Result};
use crate::imatrix::{Entry, Imatrix};
use crate::windows::{Runner, Text, WindowOptions};

/// Runs the model over a text, whose windows begin anew as in [`perplexity`](crate::perplexity::perplexity), and sums
/// the squares of what the matrices of its layers read. The head is left out, as in llama.cpp; which text it was is for
/// the caller to add. `progress` is told windows that are done and all, and may stop it.
///
/// # Errors
/// If the model cannot be run or is an embedder, or the text is shorter than a window; [`Error::Stopped`].
pub fn collect(
    file: &Gguf,
    text: &str,
    options: &WindowOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Imatrix> {
    let mut runner = Runner::new(file, options)?;
    let text = Text::read(file, text, options, 1)?;
    let mut collector = Collector::of(&runner.model);
    for window in 0..text.n_windows {
        runner.watch(&text, window, &mut collector)?;
        file.check()?;
        if progress(window + 1, text.n_windows).is_break() {
            return Err(Error::Stopped);
        }
    }
    let entries = collector.into_entries();
    let finite = |entry: &Entry| entry.sums.iter().all(|x| x.is_finite());
    if !entries.iter().all(finite) {
        return Err(Error::Overflow { at: 0 });
    }
    Ok(Imatrix {
        entries,
        datasets: Vec::new(),
        chunk_count: u32::try_from(text.n_windows).unwrap_or(u32::MAX),
        chunk_size: options.context,
    })
}

struct Sum {
    name: String,
    columns: usize,
    squares: Vec<f64>,
    counts: Vec<u64>,
}

/// Sums by the place that reads.
struct Collector {
    sums: Vec<Sum>,
    /// Which sum a place adds to. Of places that read one matrix, one counts: they read the same.
    by_site: HashMap<SiteId, usize>,
}

impl Collector {
    fn of(model: &Model) -> Collector {
        let mut linears = model.decoder.linears();
        linears.sort_by_key(|l| (l.w, l.rows.start, l.site.0));
        linears.dedup_by_key(|l| l.w);
        let mut collector = Collector { sums: Vec::new(), by_site: HashMap::new() };
        for linear in linears {
            let matrix = model.weights.matrix(linear.w);
            if !matrix.name.starts_with("blk.") {
                continue;
            }
            let (columns, experts) = (matrix.cols as usize, matrix.experts as usize);
            collector.by_site.insert(linear.site, collector.sums.len());
            collector.sums.push(Sum {
                name: matrix.name.clone(),
                columns,
                squares: vec![0.0; columns * experts],
                counts: vec![0; experts],
            });
        }
        collector
    }

    fn into_entries(self) -> Vec<Entry> {
        let entry = |sum: Sum| Entry {
            name: sum.name,
            sums: sum.squares.into_iter().map(|x| x as f32).collect(),
            counts: sum.counts.into_iter().map(|n| n as f32).collect(),
        };
        // What was never read says nothing.
        let read = self.sums.into_iter().filter(|sum| sum.counts.iter().any(|n| *n > 0));
        read.map(entry).collect()
    }
}

impl Observer for Collector {
    fn input(&mut self, site: SiteId, rows: &[f32], cols: usize, experts: &[u32]) {
        let Some(sum) = self.by_site.get(&site).and_then(|at| self.sums.get_mut(*at)) else {
            return;
        };
        if cols != sum.columns || cols == 0 {
            return;
        }
        for (i, row) in rows.chunks_exact(cols).enumerate() {
            let expert = experts.get(i).copied().unwrap_or(0) as usize;
            let Some(squares) = sum.squares.chunks_exact_mut(cols).nth(expert) else { continue };
            squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x).powi(2));
            if let Some(count) = sum.counts.get_mut(expert) {
                *count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: WindowOptions =
        WindowOptions { context: 64, n_windows: Some(2), threads: Some(1) };

    fn text() -> String {
        let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(root.join("../../models/demo/heldout.txt")).expect("committed")
    }

    #[test]
    fn every_matrix_of_the_layers_is_read_once_a_token() {
        let demo = oprel_models::demo().expect("built in");
        let found =
            collect(&demo, &text(), &OPTIONS, &mut |_, _| ControlFlow::Continue(())).expect("runs");
        let matrices = demo.tensors().iter().filter(|t| {
            t.shape.len() > 1 && t.name.starts_with("blk.") && t.name.ends_with(".weight")
        });
        let mut wanted: Vec<&str> = matrices.map(|t| t.name.as_str()).collect();
        let mut names: Vec<&str> = found.entries.iter().map(|m| m.name.as_str()).collect();
        wanted.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, wanted);
        for m in &found.entries {
            assert_eq!(m.counts, [2.0 * 64.0], "{}", m.name);
            assert!(
                m.sums.iter().all(|x| *x >= 0.0) && m.sums.iter().any(|x| *x > 0.0),
                "{}",
                m.name
            );
        }
        let of = |name: &str| &found.entries.iter().find(|m| m.name == name).expect("there").sums;
        assert_eq!(of("blk.0.ffn_up.weight"), of("blk.0.ffn_gate.weight"), "they read the same");
        assert_ne!(of("blk.0.ffn_up.weight"), of("blk.1.ffn_up.weight"));
    }

    #[test]
    fn who_is_told_may_stop_it() {
        let demo = oprel_models::demo().expect("built in");
        let stopped = collect(&demo, &text(), &OPTIONS, &mut |_, _| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    }

    #[test]
    fn threads_change_nothing() {
        let demo = oprel_models::demo().expect("built in");
        let one =
            collect(&demo, &text(), &OPTIONS, &mut |_, _| ControlFlow::Continue(())).expect("runs");
        let two = WindowOptions { threads: Some(2), ..OPTIONS };
        assert_eq!(
            collect(&demo, &text(), &two, &mut |_, _| ControlFlow::Continue(())).expect("runs"),
            one
        );
    }

    #[test]
    fn experts_are_summed_apart() {
        let mut collector = Collector {
            sums: vec![Sum {
                name: "e".into(),
                columns: 2,
                squares: vec![0.0; 6],
                counts: vec![0; 3],
            }],
            by_site: HashMap::from([(SiteId(4), 0)]),
        };
        collector.input(SiteId(4), &[1.0, 2.0, 3.0, 4.0], 2, &[2, 0]);
        collector.input(SiteId(4), &[1.0, 1.0], 2, &[2]);
        collector.input(SiteId(9), &[9.0, 9.0], 2, &[1]);
        collector.input(SiteId(4), &[9.0, 9.0], 2, &[7]);
        let found = collector.into_entries();
        assert_eq!(found[0].sums, [9.0, 16.0, 0.0, 0.0, 2.0, 5.0]);
        assert_eq!(found[0].counts, [1.0, 0.0, 2.0]);
    }
}
