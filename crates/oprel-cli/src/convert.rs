//! `oprel convert`, `quantize`, `imatrix`, `perplexity`, `gguf`: files to files.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Context;
use indicatif::ProgressBar;
use oprel::{Failure, OprelError};
use oprel_gguf::{QuantType, Value};
use oprel_tools::convert::{self, ConvertOptions, Weights};
use oprel_tools::gguf::{Change, Difference, MaxPart};
use oprel_tools::imatrix::Imatrix;
use oprel_tools::perplexity::{self, Measured};
use oprel_tools::quantize::{FileType, Mix, QuantizeOptions};
use oprel_tools::windows::WindowOptions;
use oprel_tools::{collect, quantize};
use serde_json::json;

use crate::args::{self, Over, WeightsArg};
use crate::columns::bytes;
use crate::commands::{print, source};
use crate::interrupt;
use crate::outcome::{harmless, tell};
use crate::terminal::bar_style;

/// An error of the tools, with what to do.
pub(crate) fn of_tools(error: oprel_tools::Error) -> OprelError {
    Failure::from(error).into()
}

/// A bar on standard error, where that is a terminal.
fn bar(total: u64, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(total).with_style(bar_style(template))
}

const OF_BYTES: &str =
    "{percent:>3}% ▕{bar:30}▏ {decimal_bytes}/{decimal_total_bytes}  {eta}  {wide_msg}";
const OF_WINDOWS: &str = "{pos}/{len} ▕{bar:30}▏ {eta}  {wide_msg}";

pub(crate) fn convert(args: &args::Convert) -> anyhow::Result<()> {
    let weights = match args.weights {
        WeightsArg::Auto => Weights::AsStored,
        WeightsArg::F32 => Weights::F32,
        WeightsArg::F16 => Weights::F16,
        WeightsArg::Bf16 => Weights::BF16,
        WeightsArg::Q8_0 => Weights::Q8_0,
    };
    let options = ConvertOptions { weights, name: args.name.clone(), reranker: args.reranker };
    interrupt::watch()?;
    let bar = bar(0, OF_BYTES);
    let made = convert::convert(&args.folder, &args.out, &options, &mut |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
        bar.set_message(harmless(progress.tensor));
        interrupt::flow()
    });
    bar.finish_and_clear();
    let made = made.map_err(of_tools)?;
    if args.json {
        return print(
            &json!({"architecture": made.architecture, "tensors": made.n_tensors, "bytes": made.n_bytes,
                "notes": made.notes})
            .to_string(),
        );
    }
    for note in &made.notes {
        tell(&format!("note: {note}"));
    }
    let (what, size) = (made.architecture, bytes(made.n_bytes));
    print(&harmless(&format!(
        "wrote {}: {what}, {} tensors, {size}",
        args.out.display(),
        made.n_tensors
    )))
}

pub(crate) fn quantize(args: &args::Quantize) -> anyhow::Result<()> {
    let mix = match (&args.file_type, &args.target_size) {
        (Some(name), _) => Mix::Named(quantize::file_type(name).map_err(of_tools)?),
        (None, Some(size)) => Mix::Size(size_of(size)?),
        (None, None) => {
            return Err(OprelError::validation("name a file type, or --target-size").into());
        }
    };
    let imatrix = args.imatrix.as_ref().map(Imatrix::read).transpose().map_err(of_tools)?;
    let optional = |name: &Option<String>| name.as_deref().map(type_of).transpose();
    let overrides = args.tensor_type.iter().map(|text| {
        let wrong = || OprelError::validation(format!("'{text}' is not TEXT=TYPE"));
        let (name, ty) = text.split_once('=').ok_or_else(wrong)?;
        Ok((name.to_owned(), type_of(ty)?))
    });
    let options = QuantizeOptions {
        imatrix,
        imatrix_path: args.imatrix.clone(),
        allow_requantize: args.allow_requantize,
        pure: args.pure,
        keep_output: args.leave_output,
        output_type: optional(&args.output_type)?,
        embedding_type: optional(&args.embedding_type)?,
        overrides: overrides.collect::<Result<_, OprelError>>()?,
        threads: args.threads.unwrap_or(0),
    };
    interrupt::watch()?;
    let bar = bar(0, OF_BYTES);
    let made = quantize::quantize(&args.input, &args.output, mix, &options, &mut |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
        let what = match progress.measuring {
            true => format!("measuring {}", progress.tensor),
            false => format!("{} {} -> {}", progress.tensor, progress.from, progress.to),
        };
        bar.set_message(harmless(&what));
        interrupt::flow()
    });
    bar.finish_and_clear();
    let made = made.map_err(of_tools)?;
    let file_type = made.file_type.map(FileType::name);
    if args.json {
        let tensors = made.tensors.iter().map(|t| {
            json!({"name": t.name, "from": t.from.name(), "to": t.to.name(), "bytes": t.n_bytes})
        });
        let all = json!({
            "file_type": file_type, "bytes_before": made.bytes_before, "bytes_after": made.bytes_after,
            "without_importance": made.without_importance, "tensors": tensors.collect::<Vec<_>>(),
        });
        return print(&serde_json::to_string_pretty(&all)?);
    }
    if !made.without_importance.is_empty() {
        tell(&format!(
            "note: {} matrices have fewer than three bits a weight and no importance: `oprel imatrix` makes them better",
            made.without_importance.len()
        ));
    }
    let (before, after) = (bytes(made.bytes_before), bytes(made.bytes_after));
    let what = file_type.unwrap_or("a mix of its own");
    print(&harmless(&format!("wrote {}: {what}, {before} -> {after}", args.output.display())))?;
    print(&kinds(&made.tensors))
}

/// How many tensors have which type.
fn kinds(tensors: &[quantize::Chosen]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for tensor in tensors {
        match kinds.iter_mut().find(|(name, _)| *name == tensor.to.name()) {
            Some((_, n)) => *n += 1,
            None => kinds.push((tensor.to.name(), 1)),
        }
    }
    let kinds: Vec<String> = kinds.iter().map(|(name, n)| format!("{n} {name}")).collect();
    format!("tensors: {}", kinds.join(", "))
}

fn type_of(name: &str) -> Result<QuantType, OprelError> {
    QuantType::from_name(name).ok_or_else(|| {
        OprelError::validation(format!("'{name}' is no type of tensors, such as Q6_K"))
    })
}

/// `4GB`, `700 MB`, `2GiB`, or bytes.
fn size_of(text: &str) -> Result<u64, OprelError> {
    let wrong = || OprelError::validation(format!("'{text}' is no size, such as 4GB or 700MB"));
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let unit: f64 = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = number * unit;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

impl Over {
    fn options(&self) -> WindowOptions {
        WindowOptions { context: self.ctx_size, n_windows: self.chunks, threads: self.threads }
    }

    fn text(&self) -> anyhow::Result<String> {
        let Some(path) = &self.file else { return crate::commands::stdin_text() };
        let text =
            std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
        let text = String::from_utf8(text);
        let wrong = |_| OprelError::validation(format!("'{}' is not UTF-8 text", path.display()));
        Ok(text.map_err(wrong)?)
    }

    /// Fails if `path`, which is to be written, is the text.
    fn refuse_text(&self, path: &Path) -> Result<(), OprelError> {
        let text = self.file.as_ref().and_then(|text| text.canonicalize().ok());
        match text.is_some_and(|text| path.canonicalize().is_ok_and(|path| path == text)) {
            true => Err(OprelError::Validation {
                message: format!("what is made would replace the text, '{}'", path.display()),
                hint: Some("write to another name".into()),
                source: None,
            }),
            false => Ok(()),
        }
    }

    fn model(&self) -> anyhow::Result<oprel_gguf::Gguf> {
        Ok(source(&self.model)?.open().map_err(OprelError::from)?)
    }
}

pub(crate) fn imatrix(args: &args::Imatrix) -> anyhow::Result<()> {
    let (over, file) = (&args.over, args.over.model()?);
    oprel_tools::check_output(&file, &args.out).map_err(of_tools)?;
    over.refuse_text(&args.out)?;
    let text = over.text()?;
    interrupt::watch()?;
    let bar = bar(0, OF_WINDOWS);
    let made = collect::collect(&file, &text, &over.options(), &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
        interrupt::flow()
    });
    bar.finish_and_clear();
    let mut made = made.map_err(of_tools)?;
    let text = over.file.as_ref().map_or("stdin".into(), |path| path.display().to_string());
    made.datasets.push(text);
    made.write(&args.out).map_err(of_tools)?;
    let (n, windows, context) = (made.entries.len(), made.chunk_count, made.chunk_size);
    if over.json {
        return print(&json!({"matrices": n, "windows": windows, "context": context}).to_string());
    }
    print(&harmless(&format!(
        "wrote {}: {n} matrices over {windows} windows of {context} tokens",
        args.out.display()
    )))
}

pub(crate) fn perplexity(args: &args::Perplexity) -> anyhow::Result<()> {
    let (over, file) = (&args.over, args.over.model()?);
    let save = args.save_base.as_deref();
    save.map_or(Ok(()), |save| over.refuse_text(save))?;
    // The text of a base is in it.
    let text = match (&over.file, &args.kl_base) {
        (None, Some(_)) => None,
        _ => Some(over.text()?),
    };
    interrupt::watch()?;
    let bar = bar(0, OF_WINDOWS);
    let mut progress = |progress: perplexity::MeasureProgress| {
        bar.set_length(progress.of as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(format!("perplexity {:.4}", progress.perplexity));
        interrupt::flow()
    };
    let Some(base) = &args.kl_base else {
        let text = text.unwrap_or_default();
        let made = perplexity::perplexity(&file, &text, &over.options(), save, &mut progress);
        bar.finish_and_clear();
        let made = made.map_err(of_tools)?;
        if over.json {
            let all = json!({"perplexity": pair(made.perplexity), "tokens": made.n_tokens});
            return print(&all.to_string());
        }
        let tokens = made.n_tokens;
        return print(&format!("perplexity  {} over {tokens} tokens", shown(made.perplexity)));
    };
    let made = perplexity::divergence(&file, base, text.as_deref(), &over.options(), &mut progress);
    bar.finish_and_clear();
    let made = made.map_err(of_tools)?;
    if over.json {
        let all = json!({
            "perplexity": pair(made.perplexity), "base_perplexity": pair(made.base_perplexity),
            "ln_ratio": pair(made.ln_ratio), "kl": pair(made.kl), "kl_median": made.kl_median,
            "kl_90": made.kl_90, "kl_99": made.kl_99, "kl_max": made.kl_max,
            "same_top": pair(made.same_top), "p_difference_rms": made.p_difference_rms,
            "p_difference": pair(made.p_difference), "tokens": made.n_tokens,
        });
        return print(&all.to_string());
    }
    let lines = [
        ("perplexity", shown(made.perplexity)),
        ("of the base", shown(made.base_perplexity)),
        ("KL divergence", shown(made.kl)),
        ("  median", format!("{:.6}", made.kl_median)),
        ("  99 %", format!("{:.6}", made.kl_99)),
        ("  largest", format!("{:.6}", made.kl_max)),
        ("same top token", format!("{:.2} %", 100.0 * made.same_top.value)),
        ("RMS of dp", format!("{:.3} %", 100.0 * made.p_difference_rms)),
    ];
    for (name, value) in lines {
        print(&format!("{name:<16}{value}"))?;
    }
    print(&format!("over {} tokens", made.n_tokens))
}

fn pair(measured: Measured) -> serde_json::Value {
    json!({"value": measured.value, "error": measured.error})
}

fn shown(measured: Measured) -> String {
    format!("{:.6} +- {:.6}", measured.value, measured.error)
}

pub(crate) fn gguf(command: &args::Gguf) -> anyhow::Result<()> {
    let goes_on = &|| !interrupt::is_pressed();
    if !matches!(command, args::Gguf::Diff { .. }) {
        interrupt::watch()?;
    }
    match command {
        args::Gguf::Split { input, prefix, size, tensors } => {
            let most = match (size, tensors) {
                (Some(size), _) => MaxPart::Bytes(size_of(size)?),
                (None, Some(n)) => MaxPart::Tensors(*n),
                (None, None) => {
                    return Err(OprelError::validation("say --size or --tensors").into());
                }
            };
            for part in oprel_tools::gguf::split(input, prefix, most, goes_on).map_err(of_tools)? {
                print(&harmless(&part.display().to_string()))?;
            }
            Ok(())
        }
        args::Gguf::Merge { input, output } => {
            oprel_tools::gguf::merge(input, output, goes_on).map_err(of_tools)?;
            print(&harmless(&format!("wrote {}", output.display())))
        }
        args::Gguf::Edit { file, out, set, remove } => {
            let known = oprel_gguf::Gguf::open(file).map_err(oprel_tools::Error::from);
            let known = known.map_err(of_tools)?;
            let set = set.iter().map(|text| change(text, &known));
            let remove = remove.iter().map(|key| Ok(Change::Remove(key.clone())));
            let changes: Vec<Change> = set.chain(remove).collect::<Result<_, OprelError>>()?;
            drop(known);
            if changes.is_empty() {
                return Err(OprelError::validation(
                    "nothing is to be changed: say --set or --remove",
                )
                .into());
            }
            oprel_tools::gguf::edit(file, out.as_deref(), &changes, goes_on).map_err(of_tools)?;
            let path = out.as_ref().unwrap_or(file);
            print(&harmless(&format!("changed {}", path.display())))
        }
        args::Gguf::Diff { first, second, json } => diff(first, second, *json),
    }
}

/// `KEY=VALUE` with the type that the file has the key in, or `KEY:TYPE=VALUE`.
fn change(text: &str, file: &oprel_gguf::Gguf) -> Result<Change, OprelError> {
    let wrong = |why: &str| OprelError::validation(format!("'{text}': {why}"));
    let (key, value) = text.split_once('=').ok_or_else(|| wrong("this is not KEY=VALUE"))?;
    let (key, ty) = match key.rsplit_once(':') {
        Some((key, ty)) => (key, ty.to_owned()),
        None => (key, file.metadata().get(key).map_or("str".into(), |value| name_of(value).into())),
    };
    let number = |ok: Option<Value>| ok.ok_or_else(|| wrong(&format!("the value is no {ty}")));
    let value = match ty.as_str() {
        "u8" => number(value.parse().ok().map(Value::U8))?,
        "i8" => number(value.parse().ok().map(Value::I8))?,
        "u16" => number(value.parse().ok().map(Value::U16))?,
        "i16" => number(value.parse().ok().map(Value::I16))?,
        "u32" => number(value.parse().ok().map(Value::U32))?,
        "i32" => number(value.parse().ok().map(Value::I32))?,
        "u64" => number(value.parse().ok().map(Value::U64))?,
        "i64" => number(value.parse().ok().map(Value::I64))?,
        "f32" => number(value.parse().ok().map(Value::F32))?,
        "f64" => number(value.parse().ok().map(Value::F64))?,
        "bool" => number(value.parse().ok().map(Value::Bool))?,
        "str" => Value::Str(value.to_owned()),
        _ => {
            return Err(wrong(
                "lists cannot be written here, and types are u8 to u64, i8 to i64, f32, f64, bool, str",
            ));
        }
    };
    Ok(Change::Set(key.to_owned(), value))
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::U8(_) => "u8",
        Value::I8(_) => "i8",
        Value::U16(_) => "u16",
        Value::I16(_) => "i16",
        Value::U32(_) => "u32",
        Value::I32(_) => "i32",
        Value::F32(_) => "f32",
        Value::Bool(_) => "bool",
        Value::Str(_) => "str",
        Value::U64(_) => "u64",
        Value::I64(_) => "i64",
        Value::F64(_) => "f64",
        Value::Array(_) => "a list",
    }
}

fn diff(first: &Path, second: &Path, json: bool) -> anyhow::Result<()> {
    let all = oprel_tools::gguf::diff(first, second).map_err(of_tools)?;
    for difference in &all {
        let line = match json {
            true => difference_json(difference).to_string(),
            false => harmless(&difference_line(difference)),
        };
        print(&line)?;
    }
    match all.len() {
        0 => Ok(()),
        1 => Err(anyhow::anyhow!("the models differ in one thing")),
        n => Err(anyhow::anyhow!("the models differ in {n} things")),
    }
}

fn difference_line(difference: &Difference) -> String {
    let error = |error: &Option<f64>| error.map_or(String::new(), |e| format!(", error {e:.3e}"));
    let value = |value: &Option<Value>| value.as_ref().map_or("absent".into(), short);
    match difference {
        Difference::Key { key, first, second } => {
            format!("key {key}: {} | {}", value(first), value(second))
        }
        Difference::Tensor { name, in_first } => {
            format!("tensor {name}: only in the {}", if *in_first { "first" } else { "second" })
        }
        Difference::Shape { name, first, second } => {
            format!("tensor {name}: shape {first:?} | {second:?}")
        }
        Difference::Type { name, first, second, error: e } => {
            format!("tensor {name}: {first} | {second}{}", error(e))
        }
        Difference::Content { name, n_bytes, error: e } => {
            format!("tensor {name}: {n_bytes} bytes differ{}", error(e))
        }
        Difference::Order => "tensors are in another order".into(),
    }
}

/// A value on a part of a line, with its type.
fn short(value: &Value) -> String {
    let number = |text: &dyn std::fmt::Display| format!("{text} ({})", name_of(value));
    let text = match value {
        Value::U8(x) => number(x),
        Value::I8(x) => number(x),
        Value::U16(x) => number(x),
        Value::I16(x) => number(x),
        Value::U32(x) => number(x),
        Value::I32(x) => number(x),
        Value::F32(x) => number(x),
        Value::Bool(x) => number(x),
        Value::U64(x) => number(x),
        Value::I64(x) => number(x),
        Value::F64(x) => number(x),
        Value::Str(text) => format!("{text:?}"),
        Value::Array(list) => format!("{list:?}"),
    };
    match text.chars().count() > 60 {
        true => text.chars().take(57).collect::<String>() + "...",
        false => text,
    }
}

fn difference_json(difference: &Difference) -> serde_json::Value {
    let value = |value: &Option<Value>| value.as_ref().map(short);
    match difference {
        Difference::Key { key, first, second } => {
            json!({"key": key, "first": value(first), "second": value(second)})
        }
        Difference::Tensor { name, in_first } => json!({"tensor": name, "in_first": in_first}),
        Difference::Shape { name, first, second } => {
            json!({"tensor": name, "shapes": [first, second]})
        }
        Difference::Type { name, first, second, error } => {
            json!({"tensor": name, "types": [first.name(), second.name()], "error": error})
        }
        Difference::Content { name, n_bytes, error } => {
            json!({"tensor": name, "bytes": n_bytes, "error": error})
        }
        Difference::Order => json!({"order": "differs"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("7", 7), ("4GB", 4_000_000_000), ("1.5 mb", 1_500_000), ("2GiB", 2 << 30)]
        {
            assert_eq!(size_of(text).ok(), Some(bytes), "{text}");
        }
        for text in ["", "x", "-1", "1 TBx", "0", "1e999GB", "9999999999999GB"] {
            assert!(size_of(text).is_err(), "{text}");
        }
    }
}
