//! The reader against files of every kind: good, hostile, cut, split, shrinking.

mod attacks;
mod bytes;
mod fixpoint;
mod fixtures;
mod limits;
mod metadata;
mod mutations;
mod raw;
mod roundtrip;
mod shrinking;
mod split;
mod truncation;
mod versions;
