//! Documents by how well they answer a query: pairs of both, scored by models with a ranking head.

use std::sync::mpsc::channel;
use std::time::Instant;

use oprel_api::{Ranked, Ranking, RerankRequest, Usage};
use oprel_engine::Becomes;
use oprel_tokenizer::TokenizeOptions;

use crate::hearing::Hearing;
use crate::{Error, Facts, Native, Result};

impl Native {
    /// Scores documents by a query, the best first. A score is what the model's ranking head says:
    /// any number, or a probability, as its makers trained it.
    ///
    /// # Errors
    /// If the request is wrong, the model has no ranking head, a pair is too long and its document may
    /// not be cut, or the engine fails.
    pub fn rerank(&self, request: &RerankRequest) -> Result<Ranking> {
        let (tell, told) = channel();
        self.rerank_to(request, Hearing::new(move |made| drop(tell.send(made)), || true));
        told.recv().map_err(|_| crate::native::stopped())?
    }

    /// The same, told when it has come: nobody waits.
    pub(crate) fn rerank_to(&self, request: &RerankRequest, hearing: Hearing<Ranking>) {
        let start = Instant::now();
        let refused = match request.validate() {
            Err(error) => Some(error.into()),
            Ok(()) => (!self.facts().ranks).then_some(Error::NeverRanks),
        };
        if let Some(error) = refused {
            return hearing.tell(Err(error));
        }
        let cut = request.truncate.then(|| self.longest_read_at_once());
        let pair = |document: &String| pair(self.facts(), &request.query, document, cut);
        let inputs: Vec<Vec<u32>> = request.documents.iter().map(pair).collect();
        let prompt_tokens = inputs.iter().map(|t| t.len() as u32).sum();
        let most = request.top_n.map_or(usize::MAX, |n| n as usize);
        let hearing = hearing.of(move |labels: Vec<Vec<f32>>| {
            let total_ns = start.elapsed().as_nanos() as u64;
            let usage = Usage { prompt_tokens, total_ns, ..Usage::default() };
            Ranking { results: ranked(&labels, most), usage }
        });
        self.vectors(inputs, Becomes::Classes, start, hearing);
    }
}

/// The best documents, by what the ranking head says of each. Its first label is "relevant".
fn ranked(labels: &[Vec<f32>], most: usize) -> Vec<Ranked> {
    let scores = labels.iter().map(|l| l.first().copied().unwrap_or_default()).enumerate();
    let mut results: Vec<Ranked> =
        scores.map(|(index, score)| Ranked { index: index as u32, score }).collect();
    results.sort_by(|a, b| b.score.total_cmp(&a.score));
    results.truncate(most);
    results
}

/// Query and document as the model reads them. Where they are more than `most` tokens, as much of the
/// document as fits.
fn pair(facts: &Facts, query: &str, document: &str, most: Option<usize>) -> Vec<u32> {
    let whole = tokens(facts, query, document);
    let Some(most) = most.filter(|&most| whole.len() > most) else { return whole };
    let places: Vec<usize> = document.char_indices().map(|(at, _)| at).collect();
    let cut = |n: usize| tokens(facts, query, &document[..places.get(n).copied().unwrap_or(0)]);
    // The longest beginning that fits, by halving: tokens grow with it, but for a few at the cut.
    let (mut low, mut high) = (0, places.len());
    while low + 1 < high {
        let middle = low.midpoint(high);
        match cut(middle).len() <= most {
            true => low = middle,
            false => high = middle,
        }
    }
    cut(low)
}

/// By the template of the file, or as llama.cpp joins them: `[BOS] query [EOS] [SEP] document [EOS]`, each
/// of these tokens where the vocabulary adds it to texts.
fn tokens(facts: &Facts, query: &str, document: &str) -> Vec<u32> {
    let tokenizer = &facts.tokenizer;
    if let Some(template) = &facts.pair {
        let text = filled(template, query, document);
        let options = TokenizeOptions { add_special: false, parse_special: true };
        return tokenizer.tokenize(&text, options);
    }
    let plain = TokenizeOptions { add_special: false, parse_special: false };
    let ends = tokenizer.eos().or(tokenizer.sep()).filter(|_| tokenizer.add_eos());
    let mut all = Vec::new();
    all.extend(tokenizer.bos().filter(|_| tokenizer.add_bos()));
    all.extend(tokenizer.tokenize(query, plain));
    all.extend(ends);
    all.extend(tokenizer.sep().filter(|_| tokenizer.add_sep()));
    all.extend(tokenizer.tokenize(document, plain));
    all.extend(ends);
    all
}

/// A template with its two places filled. What is filled in is no template.
fn filled(template: &str, query: &str, document: &str) -> String {
    let places = [("{query}", query), ("{document}", document)];
    let mut out = String::with_capacity(template.len() + query.len() + document.len());
    let mut rest = template;
    loop {
        let found =
            places.iter().filter_map(|(place, text)| Some((rest.find(place)?, place, text)));
        let Some((at, place, text)) = found.min_by_key(|(at, ..)| *at) else { break };
        out.push_str(&rest[..at]);
        out.push_str(text);
        rest = &rest[at + place.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_no_template() {
        let filled = |query, document| filled("<{query}|{document}|{query}>", query, document);
        assert_eq!(filled("a", "b"), "<a|b|a>");
        assert_eq!(filled("{document}", "{query}"), "<{document}|{query}|{document}>");
    }
}
