//! The grammar, and models that are made of Modelfiles.

mod created;
mod grammar;
mod sources;
