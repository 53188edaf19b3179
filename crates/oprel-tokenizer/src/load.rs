//! From metadata to a tokenizer: which kind of vocabulary it is, and its defaults.

use oprel_gguf::{Array, Metadata, Value};

use crate::bpe::{Bpe, Merges, Reading};
use crate::charsmap::CharsMap;
use crate::detokenize::Spelling;
use crate::error::{Error, Result, Warning};
use crate::partition::Specials;
use crate::plamo2::Plamo2;
use crate::pre::{self, Pre};
use crate::rwkv::Rwkv;
use crate::special::{Special, mark_strips};
use crate::spm::Spm;
use crate::unigram::Unigram;
use crate::vocab::{MAX_ENTRIES, Vocab};
use crate::wordpiece::WordPiece;
use crate::{Flags, Inner, Model};

/// A vocabulary's kind, by `tokenizer.ggml.model`.
enum Family {
    None,
    Test,
    Bpe(Reading),
    Gemma4,
    SentencePiece,
    Unigram,
    WordPiece,
    Rwkv,
    Plamo2,
}

pub(crate) fn load(m: &Metadata) -> Result<Inner> {
    const MODEL: &str = "tokenizer.ggml.model";
    let name = m.str(MODEL)?.ok_or(Error::Missing { key: MODEL })?;
    let family = match name {
        "none" | "no_vocab" => Family::None,
        "test" => Family::Test,
        "gpt2" => Family::Bpe(Reading::Plain),
        "hybriddna" => Family::Bpe(Reading::HybridDna),
        "whitespace" => Family::Bpe(Reading::Whitespace { lowercase: true }),
        "gemma4" => Family::Gemma4,
        "llama" => Family::SentencePiece,
        "t5" => Family::Unigram,
        "bert" => Family::WordPiece,
        "rwkv" => Family::Rwkv,
        "plamo2" => Family::Plamo2,
        _ => return Err(Error::UnknownModel { name: name.to_owned() }),
    };
    if let Family::None = family {
        return nameless(m);
    }
    let mut warnings = Vec::new();
    let pre = pre_tokenizer(m, &family, &mut warnings)?;
    let mut vocab = Vocab::read(m, &mut warnings)?;
    // Before the roles are known: they change attributes, and algorithms go by those of the file.
    let model = model(m, &family, pre, &vocab)?;
    let special = defaults(&family, pre).find(m, &mut vocab, &mut warnings)?;
    let specials = Specials::new(&vocab);
    mark_strips(m, &mut vocab)?;
    Ok(Inner {
        flags: flags(m, &family, pre)?,
        spelling: spelling(&family, pre),
        vocab,
        specials,
        special,
        model,
        pieces: Default::default(),
        warnings,
    })
}

/// No vocabulary; how many ids there are, the model says.
fn nameless(m: &Metadata) -> Result<Inner> {
    let arch = m.str("general.architecture")?.unwrap_or_default();
    let n = m.u32(&format!("{arch}.vocab_size"))?.unwrap_or(0) as usize;
    if n > MAX_ENTRIES {
        return Err(Error::TooLong { key: "vocab_size", found: n, limit: MAX_ENTRIES });
    }
    let vocab = Vocab::nameless(n);
    Ok(Inner {
        specials: Specials::new(&vocab),
        vocab,
        special: Special::default(),
        model: Model::None,
        flags: Flags::default(),
        spelling: Spelling::Plain,
        pieces: Default::default(),
        warnings: Vec::new(),
    })
}

/// The pre-tokenizer; only byte-pair encoding has one.
fn pre_tokenizer(m: &Metadata, family: &Family, warnings: &mut Vec<Warning>) -> Result<Pre> {
    let name = match family {
        Family::Gemma4 => "gemma4",
        Family::Bpe(_) => m.str("tokenizer.ggml.pre")?.unwrap_or_default(),
        _ => return Ok(pre::DEFAULT),
    };
    Ok(pre::named(name).unwrap_or_else(|| {
        warnings.push(match name {
            "" => Warning::NoPre,
            name => Warning::UnknownPre { name: name.to_owned() },
        });
        pre::DEFAULT
    }))
}

fn model(m: &Metadata, family: &Family, pre: Pre, vocab: &Vocab) -> Result<Model> {
    let lowercase = m.bool("tokenizer.ggml.normalizer.lowercase")?;
    let bpe = |reading| -> Result<Model> {
        let merges = Merges::read(m, m.str("tokenizer.ggml.pre")? == Some("kimi-k2"))?;
        Ok(Model::Bpe(Box::new(Bpe::new(vocab, merges, pre, reading))))
    };
    Ok(match *family {
        Family::None => Model::None,
        Family::Test => Model::Test,
        Family::Bpe(Reading::Whitespace { .. }) => {
            bpe(Reading::Whitespace { lowercase: lowercase.unwrap_or(!pre.keep_case) })?
        }
        Family::Bpe(reading) => bpe(reading)?,
        Family::Gemma4 => bpe(Reading::Plain)?,
        Family::SentencePiece => Model::SentencePiece(Spm::new(vocab)),
        Family::Unigram => {
            let chars = CharsMap::read(&chars_map(m)?)?;
            let prefix = add_space_prefix(m, false)?;
            let merge = m.bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false);
            Model::Unigram(Box::new(Unigram::new(vocab, chars, prefix, merge)))
        }
        Family::WordPiece => {
            let lowercase = lowercase.unwrap_or(true);
            let strip = m.bool("tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
            Model::WordPiece(WordPiece::new(vocab, lowercase, strip))
        }
        Family::Rwkv => Model::Rwkv(Rwkv::new(vocab)),
        Family::Plamo2 => Model::Plamo2(Box::new(Plamo2::new(vocab)?)),
    })
}

fn chars_map(m: &Metadata) -> Result<Vec<u8>> {
    const KEY: &str = "tokenizer.ggml.precompiled_charsmap";
    match m.get(KEY) {
        None => Ok(Vec::new()),
        Some(Value::Array(Array::I8(bytes))) => Ok(bytes.iter().map(|&b| b as u8).collect()),
        Some(_) => Ok(m.u8s(KEY)?.unwrap_or_default().into_owned()),
    }
}

/// The roles before the file is asked.
fn defaults(family: &Family, pre: Pre) -> Special {
    let none = Special::default();
    match family {
        Family::Bpe(_) => {
            Special { bos: Some(11).filter(|_| !pre.no_default_bos), eos: Some(11), ..none }
        }
        Family::SentencePiece => Special { bos: Some(1), eos: Some(2), unknown: Some(0), ..none },
        Family::Unigram => Special { eos: Some(1), unknown: Some(2), pad: Some(0), ..none },
        Family::WordPiece => Special {
            bos: Some(101),
            unknown: Some(100),
            sep: Some(102),
            pad: Some(0),
            mask: Some(103),
            ..none
        },
        Family::Plamo2 => {
            Special { bos: Some(1), eos: Some(2), unknown: Some(0), pad: Some(3), ..none }
        }
        Family::None | Family::Test | Family::Gemma4 | Family::Rwkv => none,
    }
}

fn flags(m: &Metadata, family: &Family, pre: Pre) -> Result<Flags> {
    let default = match family {
        Family::Bpe(_) | Family::Gemma4 => Flags {
            add_bos: pre.add_bos,
            add_sep: pre.add_sep,
            clean_spaces: pre.clean_spaces,
            ..Flags::default()
        },
        Family::SentencePiece => {
            Flags { add_space_prefix: true, add_bos: true, ..Flags::default() }
        }
        Family::WordPiece => {
            Flags { add_bos: true, add_sep: true, clean_spaces: true, ..Flags::default() }
        }
        Family::Unigram => Flags { add_eos: true, ..Flags::default() },
        Family::None | Family::Test | Family::Rwkv | Family::Plamo2 => Flags::default(),
    };
    let add_bos = m.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(default.add_bos);
    Ok(Flags {
        add_space_prefix: add_space_prefix(m, default.add_space_prefix)?,
        add_bos: add_bos || pre.gemma4, // files of Gemma 4 that say otherwise are in error
        add_eos: m.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(default.add_eos),
        add_sep: m.bool("tokenizer.ggml.add_sep_token")?.unwrap_or(default.add_sep),
        clean_spaces: default.clean_spaces,
    })
}

fn add_space_prefix(m: &Metadata, default: bool) -> Result<bool> {
    Ok(m.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(default))
}

fn spelling(family: &Family, pre: Pre) -> Spelling {
    match family {
        Family::Bpe(_) | Family::Gemma4 if !pre.escape_spaces => Spelling::ByteLetters,
        Family::Rwkv => Spelling::Escapes,
        Family::Test => Spelling::Id,
        Family::Plamo2 | Family::None => Spelling::Plain,
        _ => Spelling::Spaces,
    }
}
