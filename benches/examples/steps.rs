//! Times of steps in which many sequences take part: N of them decode a token each, alone or beside a
//! piece of a prompt.
//!
//! `steps MODEL.gguf [threads=2] [context=512] [kv=f16] [chunk=0] [seconds=1] [n=1,2,4,8,16,32]`

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::time::{Duration, Instant};

use oprel_gguf::Gguf;
use oprel_models::{Model, describe};
use oprel_nn::batch::SeqId;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Dev, Exec, KvTypes, Limits, PAGE_LEN, PageTable, Placement, Pos, RowSet, Span,
    StateView, StepOut, Transfer, Want, What,
};

/// Tokens whose keys and values fill all contexts.
const PROMPT: usize = 512;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// What is measured.
struct Options {
    model: String,
    threads: usize,
    context: usize,
    kv: KvTypes,
    /// Tokens of a prompt beside the decoding sequences.
    chunk: usize,
    seconds: f64,
    n: Vec<usize>,
}

impl Options {
    fn parse() -> Fallible<Options> {
        let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
        let model = args.next().ok_or("no model")?;
        let n = vec![1, 2, 4, 8, 16, 32];
        let (threads, context, kv, chunk, seconds) = (2, 512, KvTypes::default(), 0, 1.0);
        let mut options = Options { model, threads, context, kv, chunk, seconds, n };
        for arg in args {
            let (name, value) = arg.split_once('=').ok_or("arguments are name=value")?;
            match name {
                "threads" => options.threads = value.parse()?,
                "context" => options.context = value.parse()?,
                "kv" => options.kv = value.parse()?,
                "chunk" => options.chunk = value.parse()?,
                "seconds" => options.seconds = value.parse()?,
                "n" => options.n = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                _ => return Err(format!("no option {name}").into()),
            }
        }
        Ok(options)
    }
}

/// A prepared model with as many sequences as any step has.
struct Bench {
    exec: CpuExec,
    n_groups: usize,
    /// Of each sequence, for all groups alike.
    pages: Vec<Vec<PageId>>,
    out: StepOut,
}

impl Bench {
    fn new(model: &Model, options: &Options) -> Fallible<Bench> {
        let spans = options.n.iter().max().ok_or("no counts")? + 1;
        let tokens = PROMPT.max(options.chunk + spans);
        let context = options.context.max(PROMPT) + options.chunk.max(1);
        let (each, n_groups) = (context.div_ceil(PAGE_LEN), groups(&model.decoder.slots).len());
        let cpu = CpuOptions { threads: options.threads, isa: None };
        let mut exec = CpuExec::new(cpu)?;
        let limits = Limits {
            tokens: tokens as u32,
            spans: spans as u32,
            logit_rows: spans as u32,
            context: context as u32,
            pages: vec![(each * spans) as u32; n_groups],
            recurrent_rows: spans as u32,
            kv: options.kv,
        };
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        exec.prepare(&model.decoder, &model.weights, &placement, &limits)?;
        let page = |seq: usize, i: usize| PageId((i * spans + seq) as u32);
        let pages = (0..spans).map(|seq| (0..each).map(|i| page(seq, i)).collect()).collect();
        let mut bench = Bench { exec, n_groups, pages, out: StepOut::default() };
        bench.fill()?;
        Ok(bench)
    }

    /// Keys and values of a prompt, in every page.
    fn fill(&mut self) -> Fallible<()> {
        self.step(&[(0, 0, PROMPT)])?;
        let own = &self.pages[0];
        let copies = self.pages.iter().flat_map(|pages| pages.iter().enumerate());
        let copies = copies.map(|(i, &to)| (own[i % (PROMPT / PAGE_LEN)], to));
        let copies: Vec<_> = copies.filter(|(from, to)| from != to).collect();
        for group in 0..self.n_groups {
            self.exec.copy_pages(group, &copies)?;
        }
        Ok(())
    }

    /// A step of spans: sequence, tokens before, tokens.
    fn step(&mut self, parts: &[(usize, usize, usize)]) -> Fallible<Duration> {
        let of = |&(seq, start, n): &(usize, usize, usize)| {
            Span::causal(SeqId(seq as u32), n as u32, start as u32)
        };
        let spans: Vec<_> = parts.iter().map(of).collect();
        let tokens: Vec<u32> = (0..parts.iter().map(|p| p.2).sum::<usize>() as u32)
            .map(|i| 1000 + i * 37 % 9000)
            .collect();
        let pos: Vec<i32> = parts.iter().flat_map(|p| p.1..p.1 + p.2).map(|at| at as i32).collect();
        let want = [Want { of: RowSet::Last, what: What::Logits }];
        let tables: Vec<_> = parts
            .iter()
            .flat_map(|part| vec![PageTable(&self.pages[part.0]); self.n_groups])
            .collect();
        let transfers: Vec<_> = parts
            .iter()
            .map(|&(seq, start, _)| {
                let row = Some(RowId(seq as u32));
                Transfer { from: row.filter(|_| start > 0), to: row, keep: &[] }
            })
            .collect();
        let pos = Pos::Text(&pos);
        let batch = Batch { spans: &spans, tokens: &tokens, pos, embeds: &[], want: &want };
        let state = StateView { pages: &tables, recurrent: &transfers };
        let begin = Instant::now();
        self.exec.step(&batch, &state, &mut self.out, None)?;
        Ok(begin.elapsed())
    }
}

fn main() -> Fallible<()> {
    let options = Options::parse()?;
    let model = describe(&Gguf::open(&options.model)?)?;
    let mut bench = Bench::new(&model, &options)?;
    println!(
        "{:?}, context {}, kv {}, chunk {}",
        bench.exec, options.context, options.kv, options.chunk
    );
    println!("| sequences | median ms | least ms | tokens/s | times one |");
    println!("|---|---|---|---|---|");
    let mut one = None;
    for &n in &options.n {
        let mut parts: Vec<_> = (0..n).map(|seq| (seq, options.context, 1)).collect();
        if options.chunk > 0 {
            parts.push((n, options.context, options.chunk));
        }
        bench.step(&parts)?;
        let (begin, mut times) = (Instant::now(), Vec::new());
        while times.len() < 3 || begin.elapsed().as_secs_f64() < options.seconds {
            times.push(bench.step(&parts)?.as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let (median, least) = (times[times.len() / 2], times[0]);
        let one = *one.get_or_insert(median);
        let rate = 1e3 * n as f64 / median;
        println!("| {n} | {median:.2} | {least:.2} | {rate:.1} | {:.2} |", median / one);
    }
    Ok(())
}
