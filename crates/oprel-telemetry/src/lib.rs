//! What this machine has: processors and their caches, memory and what control groups leave of it, accelerators.
//!
//! It reads what the system tells and starts nothing but the vendors' own tools. What cannot be read is
//! absent, never an error and never a guess.
