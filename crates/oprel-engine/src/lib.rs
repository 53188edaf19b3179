//! Sequences, state pages, scheduler, sampler.
