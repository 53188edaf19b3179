//! What a file says of one tensor: name, shape, quant type, and where its bytes are.

use oprel_quant::QuantType;

/// Name, shape and type of one tensor, and where in which file its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The name, as the field uses it: `blk.0.attn_q.weight`.
    pub name: String,
    /// Elements per dimension in GGUF order, the fastest first: a matrix is `[cols, rows]`. 1 to 4
    /// dimensions; one of 0 makes a tensor without elements, which takes no bytes.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub ty: QuantType,
    pub(crate) index: usize,
    pub(crate) part: usize,
    pub(crate) start: usize,
    pub(crate) n_bytes: usize,
}

impl TensorInfo {
    /// Elements of a row, the first dimension.
    pub fn cols(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions but the first.
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).fold(1, |n, d| n.saturating_mul(*d))
    }

    /// Elements in all.
    pub fn n_elements(&self) -> u64 {
        self.shape.iter().fold(1, |n, d| n.saturating_mul(*d))
    }

    /// Bytes in the file.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes as u64
    }

    /// Where the bytes begin, from the start of the file (of the part that has them).
    pub fn file_offset(&self) -> u64 {
        self.start as u64
    }

    /// Which file of a split model has the bytes, counted from 0.
    pub fn part(&self) -> usize {
        self.part
    }
}

/// Elements and bytes of a shape, `None` if `i64` cannot count one of them or rows do not divide into blocks.
pub(crate) fn sizes(shape: &[u64], ty: QuantType) -> Option<(u64, u64)> {
    // An empty dimension makes everything empty, but the others must be countable all the same.
    let counted = shape.iter().try_fold(1u64, |n, d| n.checked_mul((*d).max(1)));
    let n = match counted {
        Some(n) if shape.contains(&0) && n <= i64::MAX as u64 => 0,
        Some(n) => n,
        None => return None,
    };
    let block = ty.block_len() as u64;
    let cols = shape.first().copied().unwrap_or(1);
    if n > i64::MAX as u64 || !cols.is_multiple_of(block) {
        return None;
    }
    let n_bytes = n.checked_div(block)?.checked_mul(ty.block_bytes() as u64)?;
    (n_bytes <= i64::MAX as u64).then_some((n, n_bytes))
}
