//! What an answer must look like, as the engine sees it: which tokens may come next.

use std::fmt;

/// Tells which tokens may come next. Made and owned outside the engine, which knows no text.
pub trait Constraint: Send {
    /// Begins to work out what may follow; the answer is asked for after the next forward pass, so
    /// the work can be done beside it.
    fn prepare(&mut self);

    /// The tokens that may come next, a bit each over the vocabulary, lowest first; `None` allows all.
    ///
    /// # Errors
    /// If nothing can be told; the sequence fails with this text.
    fn allowed(&mut self) -> Result<Option<&[u32]>, String>;

    /// Takes a token.
    ///
    /// # Errors
    /// If it was not allowed.
    fn accept(&mut self, token: u32) -> Result<(), String>;

    /// Tokens that must come next whatever the model says. They need not be sampled.
    fn forced(&mut self) -> Vec<u32>;

    /// Nothing may follow.
    fn is_complete(&mut self) -> bool;

    /// The same, to go another way from here.
    fn fork(&self) -> Box<dyn Constraint>;
}

/// The constraint of one sequence.
pub struct Guide(pub Box<dyn Constraint>);

impl Clone for Guide {
    fn clone(&self) -> Guide {
        Guide(self.0.fork())
    }
}

impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guide")
    }
}
