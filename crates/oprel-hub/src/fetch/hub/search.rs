//! Looking for models by words.

use serde_json::Value;

use crate::fetch::error::{Error, Result};

use super::{Hub, variants};

/// The most that is asked for at once.
const MOST: usize = 50;

/// A repository that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Owner and name.
    pub repo: String,
    /// How often it was fetched lately.
    pub downloads: u64,
    /// How many like it.
    pub likes: u64,
    /// Whether its owner decides who may fetch it.
    pub is_gated: bool,
    /// Its architecture, if the hub knows it.
    pub architecture: Option<String>,
    /// Its parameters, if the hub knows them.
    pub parameters: Option<u64>,
    /// Tokens that its context holds, if the hub knows that.
    pub context_length: Option<u64>,
    /// What is there to be fetched; empty where it is not told.
    pub variants: Vec<Variant>,
}

/// One of the files, or sets of files, that a repository offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The tag that it is asked for by.
    pub tag: String,
    /// Its bytes.
    pub size: u64,
}

impl Hub {
    /// Repositories with GGUF files that words are found in, those that are fetched most first.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub(crate) async fn search(&self, words: &str, limit: usize) -> Result<Vec<Found>> {
        let mut url = self.url(&["api"], "models", &[]);
        url.query_pairs_mut()
            .append_pair("search", words)
            .append_pair("filter", "gguf")
            .append_pair("sort", "downloads")
            .append_pair("direction", "-1")
            .append_pair("limit", &limit.clamp(1, MOST).to_string())
            .extend_pairs(["gguf", "downloads", "likes", "gated", "sha"].map(|f| ("expand[]", f)));
        let (value, _) = self.json(&url, words, "").await?;
        let hits = value.as_array().ok_or_else(|| self.nonsense("lists no models"))?;
        let mut listed = tokio::task::JoinSet::new();
        for (at, hit) in hits.iter().take(MOST).enumerate() {
            let Some(found) = found(hit) else { continue };
            let (hub, commit) = (self.clone(), hit["sha"].as_str().unwrap_or("main").to_owned());
            listed.spawn(async move { (at, hub.with_variants(found, &commit).await) });
        }
        let mut all = Vec::new();
        while let Some(one) = listed.join_next().await {
            all.push(one.map_err(|_| Error::Stopped)?);
        }
        all.sort_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, found)| found).collect())
    }

    /// One repository that does not tell its files does not spoil the list.
    async fn with_variants(&self, mut found: Found, commit: &str) -> Found {
        if let Ok(files) = self.files(&found.repo, commit).await {
            let all = variants(&files);
            found.variants = all.into_iter().map(|(tag, size)| Variant { tag, size }).collect();
            found.variants.sort_by_key(|variant| variant.size);
        }
        found
    }
}

fn found(hit: &Value) -> Option<Found> {
    let repo = hit["id"].as_str().filter(|id| super::is_below(id))?;
    let gguf = &hit["gguf"];
    Some(Found {
        repo: repo.into(),
        downloads: hit["downloads"].as_u64().unwrap_or(0),
        likes: hit["likes"].as_u64().unwrap_or(0),
        is_gated: !matches!(hit["gated"], Value::Bool(false) | Value::Null),
        architecture: gguf["architecture"].as_str().map(str::to_owned),
        parameters: gguf["total"].as_u64(),
        context_length: gguf["context_length"].as_u64(),
        variants: Vec::new(),
    })
}
