//! What sequences keep between steps.

/// A slot of the decoder's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(pub u16);

/// What one slot keeps for a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateSpec {
    /// Keys and values of each position, in pages: (heads, positions, k), (heads, positions, v).
    Kv {
        /// Key and value heads.
        heads: u32,
        /// Elements of a key.
        k: u32,
        /// Elements of a value.
        v: VDim,
        /// How far back the layers look.
        reach: Reach,
    },
    /// Keys of a sparse-attention indexer, in pages.
    Index {
        /// Elements of a key.
        dim: u32,
    },
    /// One vector for each run of positions (compressed attention), in pages.
    Blocks {
        /// Positions of a run.
        ratio: u32,
        /// Elements of a vector.
        dim: u32,
    },
    /// A state of fixed size, f32.
    Recurrent {
        /// Elements of the recurrent part.
        state: usize,
        /// Elements of the convolution's past inputs.
        conv: usize,
    },
    /// An encoder's output, kept once a sequence.
    Cross {
        /// Elements of a row.
        dim: u32,
    },
}

impl StateSpec {
    /// How far back the layers look, for slots that lie in pages.
    pub fn reach(&self) -> Option<Reach> {
        match self {
            StateSpec::Kv { reach, .. } => Some(*reach),
            StateSpec::Index { .. } | StateSpec::Blocks { .. } => Some(Reach::Full),
            StateSpec::Recurrent { .. } | StateSpec::Cross { .. } => None,
        }
    }
}

/// Elements of a value head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VDim {
    /// Kept beside the key.
    Own(u32),
    /// The first elements of the key are the value (MLA).
    AliasK(u32),
}

/// How far back layers look: what an old page is still needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// To the start.
    Full,
    /// So many positions.
    Window(u32),
}
