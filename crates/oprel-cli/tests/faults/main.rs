//! What a daemon must survive, against the program itself: processes that are killed, clients that stall, leave
//! or send nonsense, files that shrink, signals. `make faults` runs it with all numbers of the table.
#![cfg(unix)]

mod bodies;
mod crash;
mod crowd;
mod daemon;
mod end;
mod file;
mod http;
mod nonsense;
mod overhead;
#[path = "../daemon/mod.rs"]
mod program;
mod seen;
