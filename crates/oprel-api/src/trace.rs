//! What a request is a step of, in the words of W3C's Trace Context.

/// The step of a trace that a request belongs to. It goes on to servers elsewhere, in headers of these names;
/// in what is written of a request it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`: version, trace, step and flags.
    pub parent: String,
    /// `tracestate`: what programs before added for themselves.
    pub state: Option<String>,
}

impl Trace {
    /// The header of [`Trace::parent`].
    pub const PARENT: &str = "traceparent";
    /// The header of [`Trace::state`]; without the other one it says nothing.
    pub const STATE: &str = "tracestate";
}
