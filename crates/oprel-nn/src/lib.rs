//! The description of a model, and the two executors that run it.
