//! Documents by how well they answer a query.

use crate::{Error, Result, Trace, Usage};
use serde::{Deserialize, Serialize};

/// Documents to be ranked by a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerankRequest {
    /// What is looked for.
    pub query: String,
    /// What may answer it.
    pub documents: Vec<String>,
    /// Give only so many, the best.
    #[serde(default)]
    pub top_n: Option<u32>,
    /// Cut a document that is too long with its query, instead of refusing it.
    pub truncate: bool,
    /// What it is a step of.
    #[serde(skip)]
    pub trace: Option<Trace>,
}

/// A document's place in a ranking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Which document of the request.
    pub index: u32,
    /// How well it answers, as the model says it: higher is better.
    pub score: f32,
}

/// Documents, the best first; of equal ones the earlier first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Their places.
    pub results: Vec<Ranked>,
    /// What it took; nothing is generated.
    pub usage: Usage,
}

impl RerankRequest {
    /// All documents; those that are too long are cut.
    pub fn new(
        query: impl Into<String>,
        documents: impl IntoIterator<Item = impl Into<String>>,
    ) -> RerankRequest {
        let documents = documents.into_iter().map(Into::into).collect();
        RerankRequest { query: query.into(), documents, top_n: None, truncate: true, trace: None }
    }

    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// [`Error::Empty`] without documents, [`Error::OutOfRange`] if none is wanted.
    pub fn validate(&self) -> Result<()> {
        if self.documents.is_empty() {
            return Err(Error::Empty { field: "documents" });
        }
        if self.top_n == Some(0) {
            let (field, expected) = ("top_n", "1 or more");
            return Err(Error::OutOfRange { field, expected, value: "0".into() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_documents_and_no_results_are_refused() {
        let none: [&str; 0] = [];
        assert_eq!(RerankRequest::new("x", none).validate().unwrap_err().field(), "documents");
        let mut request = RerankRequest::new("x", ["a"]);
        assert_eq!(request.validate(), Ok(()));
        request.top_n = Some(0);
        assert_eq!(request.validate().unwrap_err().field(), "top_n");
    }
}
