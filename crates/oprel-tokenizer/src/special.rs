//! Which tokens mean something: the named ones (BOS, EOS, ...), those that end a generation, and
//! how their attributes follow from it.
//!
//! Files say part of this in metadata; the rest is known by the text of the tokens, with the same
//! texts and in the same order as in llama.cpp, since models are published for it.

use oprel_gguf::Metadata;

use crate::error::{Result, Warning};
use crate::vocab::{Vocab, attr};

/// Ids of the tokens with a role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Special {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) eot: Option<u32>,
    pub(crate) eom: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) sep: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) mask: Option<u32>,
    pub(crate) fim: Fim,
    /// Ids that end a generation, ascending.
    pub(crate) ends: Vec<u32>,
    /// Ids that are never to be generated.
    pub(crate) suppressed: Vec<u32>,
}

/// Tokens of fill-in-the-middle prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fim {
    /// Before the text that precedes the gap.
    pub prefix: Option<u32>,
    /// Before the text that follows the gap.
    pub suffix: Option<u32>,
    /// Where the filling is to begin.
    pub middle: Option<u32>,
    /// Fills up a prompt; a model that writes it has finished.
    pub pad: Option<u32>,
    /// Before the name of a repository.
    pub repo: Option<u32>,
    /// Between files.
    pub file_sep: Option<u32>,
}

type Role = fn(&mut Special) -> &mut Option<u32>;

/// The metadata keys of the roles; the last three are old names, which win over the new ones.
const ROLES: [(&str, Role); 17] = [
    ("tokenizer.ggml.bos_token_id", |s| &mut s.bos),
    ("tokenizer.ggml.eos_token_id", |s| &mut s.eos),
    ("tokenizer.ggml.eot_token_id", |s| &mut s.eot),
    ("tokenizer.ggml.eom_token_id", |s| &mut s.eom),
    ("tokenizer.ggml.unknown_token_id", |s| &mut s.unknown),
    ("tokenizer.ggml.seperator_token_id", |s| &mut s.sep),
    ("tokenizer.ggml.padding_token_id", |s| &mut s.pad),
    ("tokenizer.ggml.mask_token_id", |s| &mut s.mask),
    ("tokenizer.ggml.fim_pre_token_id", |s| &mut s.fim.prefix),
    ("tokenizer.ggml.fim_suf_token_id", |s| &mut s.fim.suffix),
    ("tokenizer.ggml.fim_mid_token_id", |s| &mut s.fim.middle),
    ("tokenizer.ggml.fim_pad_token_id", |s| &mut s.fim.pad),
    ("tokenizer.ggml.fim_rep_token_id", |s| &mut s.fim.repo),
    ("tokenizer.ggml.fim_sep_token_id", |s| &mut s.fim.file_sep),
    ("tokenizer.ggml.prefix_token_id", |s| &mut s.fim.prefix),
    ("tokenizer.ggml.suffix_token_id", |s| &mut s.fim.suffix),
    ("tokenizer.ggml.middle_token_id", |s| &mut s.fim.middle),
];

const EOT: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const EOM: &[&str] = &["<|eom_id|>"];
const FIM_PREFIX: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
const FIM_SUFFIX: &[&str] = &[
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
const FIM_MIDDLE: &[&str] = &[
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];
const FIM_PAD: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REPO: &[&str] = &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];
const FIM_FILE: &[&str] = &["<|file_sep|>"];

/// Texts of tokens that end a generation.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Control-like tokens of gpt-oss that are part of the text.
const SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

impl Special {
    /// Completes the defaults in `self` from metadata and from the texts of the tokens.
    pub(crate) fn find(
        mut self,
        m: &Metadata,
        vocab: &mut Vocab,
        warnings: &mut Vec<Warning>,
    ) -> Result<Special> {
        self.read(m, vocab, warnings)?;
        self.find_by_text(vocab);
        mark_unused(vocab);
        self.find_ends(vocab);
        Ok(self)
    }

    fn read(&mut self, m: &Metadata, vocab: &Vocab, warnings: &mut Vec<Warning>) -> Result<()> {
        for (key, role) in ROLES {
            let role = role(self);
            *role = role.filter(|&id| (id as usize) < vocab.len());
            match m.u32(key)? {
                Some(id) if (id as usize) < vocab.len() => *role = Some(id),
                Some(id) => warnings.push(Warning::BadSpecial { key, id }),
                None => {}
            }
        }
        let suppressed = m.i32s("tokenizer.ggml.suppress_tokens")?.unwrap_or_default();
        let known = suppressed.iter().filter_map(|&id| u32::try_from(id).ok());
        self.suppressed = known.filter(|&id| (id as usize) < vocab.len()).collect();
        Ok(())
    }

    fn find_by_text(&mut self, vocab: &mut Vocab) {
        let fim = &mut self.fim;
        for (role, texts) in [
            (&mut self.eot, EOT),
            (&mut self.eom, EOM),
            (&mut fim.prefix, FIM_PREFIX),
            (&mut fim.suffix, FIM_SUFFIX),
            (&mut fim.middle, FIM_MIDDLE),
            (&mut fim.pad, FIM_PAD),
            (&mut fim.repo, FIM_REPO),
            (&mut fim.file_sep, FIM_FILE),
        ] {
            if role.is_none()
                && let Some(id) = texts.iter().find_map(|text| vocab.id(text))
            {
                *role = Some(id);
                vocab.attrs[id as usize] |= attr::CONTROL;
            }
        }
    }

    fn find_ends(&mut self, vocab: &mut Vocab) {
        let mut ends = Vec::from_iter([self.fim.pad, self.fim.repo, self.fim.file_sep]);
        ends.extend(ENDS.iter().map(|text| vocab.id(text)));
        mark(vocab, ENDS, |attrs| attrs | attr::CONTROL);
        mark(vocab, SHOWN, |_| attr::USER_DEFINED);
        ends.extend([self.eos, self.eot, self.eom]);
        self.ends = ends.into_iter().flatten().collect();
        self.ends.sort_unstable();
        self.ends.dedup();
        self.except_harmony_end(vocab);
        self.except_plain_s(vocab);
    }

    /// Where `<|return|>` and `<|call|>` end a generation, `<|end|>` only ends a message.
    fn except_harmony_end(&mut self, vocab: &mut Vocab) {
        let ends_with = |text: &str| self.ending(vocab, text);
        let call = ends_with("<|call|>").or(ends_with("<|calls|>"));
        let other = ends_with("<|return|>").or(ends_with("<|flush|>"));
        if let (Some(_), Some(_), Some(end)) = (call, other, ends_with("<|end|>")) {
            self.drop_ending(vocab, end, attr::USER_DEFINED);
        }
    }

    /// Gemma 4 and PLaMo have an ordinary token spelled `</s>`.
    fn except_plain_s(&mut self, vocab: &mut Vocab) {
        let ends_with = |text: &str| self.ending(vocab, text);
        let other = ends_with("<|tool_response>").or(ends_with("<|plamo:eos|>"));
        if let (Some(_), Some(s)) = (other, ends_with("</s>")) {
            self.drop_ending(vocab, s, attr::NORMAL);
        }
    }

    fn ending(&self, vocab: &Vocab, text: &str) -> Option<u32> {
        vocab.id(text).filter(|id| self.ends.binary_search(id).is_ok())
    }

    fn drop_ending(&mut self, vocab: &mut Vocab, id: u32, attrs: u8) {
        self.ends.retain(|&end| end != id);
        vocab.attrs[id as usize] = attrs;
    }
}

fn mark_unused(vocab: &mut Vocab) {
    for id in 0..vocab.len() as u32 {
        if vocab.is(id, attr::CONTROL) && vocab.text(id).contains("unused") {
            vocab.attrs[id as usize] |= attr::UNUSED;
        }
    }
}

/// Sets which tokens take the white space beside them, known by the names of models.
pub(crate) fn mark_strips(m: &Metadata, vocab: &mut Vocab) -> Result<()> {
    let name = m.str("general.name")?.unwrap_or_default().to_ascii_lowercase();
    let pre = m.str("tokenizer.ggml.pre")?.unwrap_or_default();
    let arch = m.str("general.architecture")?.unwrap_or_default();
    let any = |text: &str, of: &[&str]| of.iter().any(|part| text.contains(part));
    if any(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
        || any(arch, &["nomic-bert-moe", "jina-bert-v3"])
    {
        mark(vocab, &["<mask>"], |attrs| attrs | attr::LSTRIP);
    } else if any(&name, &["phi-3", "phi3"]) {
        let special = attr::CONTROL | attr::USER_DEFINED | attr::UNKNOWN;
        for attrs in vocab.attrs.iter_mut().filter(|attrs| **attrs & special != 0) {
            *attrs |= attr::RSTRIP;
        }
        mark(vocab, &["</s>"], |attrs| attrs | attr::RSTRIP);
        mark(vocab, &["<unk>", "<s>", "<|endoftext|>"], |attrs| attrs & !attr::RSTRIP);
    } else if name.contains("modern-bert") {
        mark(vocab, &["[MASK]"], |attrs| attrs | attr::LSTRIP);
    }
    Ok(())
}

fn mark(vocab: &mut Vocab, texts: &[&str], how: impl Fn(u8) -> u8) {
    for text in texts {
        if let Some(id) = vocab.id(text) {
            vocab.attrs[id as usize] = how(vocab.attrs[id as usize]);
        }
    }
}
