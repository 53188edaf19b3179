//! The weights of a model: a table of matrices, each where the file has it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use oprel_gguf::{Bytes, Gguf};
use oprel_quant::QuantType;

use crate::{Error, Result};

/// A matrix in the table of [`Weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub u32);

/// A matrix, or one matrix for each expert, in the block layout of its quant type.
///
/// A vector is a matrix of one row.
#[derive(Clone, Debug)]
pub struct QMatrix {
    /// GGUF name of the tensor.
    pub name: String,
    /// How elements are stored.
    pub ty: QuantType,
    /// Matrices one after another; 1 for a plain one.
    pub experts: u32,
    /// Rows of one of them: what comes out.
    pub rows: u32,
    /// Elements of a row: what goes in.
    pub cols: u32,
    store: Store,
}

/// Where the bytes are.
#[derive(Clone, Debug)]
enum Store {
    /// In the mapped file, as they are.
    Mapped(Bytes),
    /// In memory, because the file had to be converted.
    Host(Arc<[u8]>),
    /// Nowhere: only counted.
    Outline,
}

impl QMatrix {
    /// A matrix in memory.
    ///
    /// # Errors
    /// [`Error::Description`] if the bytes are not those of this type and shape.
    pub fn in_memory(
        name: &str,
        ty: QuantType,
        (experts, rows, cols): (u32, u32, u32),
        bytes: Arc<[u8]>,
    ) -> Result<QMatrix> {
        let m = QMatrix { name: name.into(), ty, experts, rows, cols, store: Store::Host(bytes) };
        m.checked()
    }

    /// A matrix without bytes, where only sizes are asked for.
    pub(crate) fn outline(name: &str, ty: QuantType, shape: (u32, u32, u32)) -> QMatrix {
        let (experts, rows, cols) = shape;
        QMatrix { name: name.into(), ty, experts, rows, cols, store: Store::Outline }
    }

    fn checked(self) -> Result<QMatrix> {
        let rows = self.experts as usize * self.rows as usize;
        let want = self.ty.row_bytes(self.cols as usize).and_then(|b| b.checked_mul(rows));
        match want {
            Some(want) if want == self.bytes().len() => Ok(self),
            _ => Err(Error::Description(format!(
                "'{}' of {}x{}x{} {} has {} bytes",
                self.name,
                self.experts,
                self.rows,
                self.cols,
                self.ty,
                self.bytes().len()
            ))),
        }
    }

    /// All bytes: experts, then rows, one after another.
    pub fn bytes(&self) -> &[u8] {
        match &self.store {
            Store::Mapped(bytes) => bytes,
            Store::Host(bytes) => bytes,
            Store::Outline => &[],
        }
    }

    /// Read in place from a mapped file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.store, Store::Mapped(_))
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.cols as usize / self.ty.block_len() * self.ty.block_bytes()
    }

    /// Bytes of the matrix of one expert.
    pub fn expert_bytes(&self, expert: u32) -> &[u8] {
        let len = self.row_bytes() * self.rows as usize;
        &self.bytes()[expert as usize * len..][..len]
    }

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.experts as usize * self.rows as usize * self.cols as usize
    }

    /// All elements as f32: (experts, rows, cols).
    ///
    /// # Errors
    /// If the type cannot be dequantized.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.n_elements()];
        oprel_quant::dequantize(self.ty, self.bytes(), &mut out)?;
        Ok(out)
    }
}

/// The table of a model's matrices. Cheap to clone: the bytes are shared.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    matrices: Vec<QMatrix>,
    by_name: HashMap<String, WeightId>,
    file: Option<Gguf>,
}

impl Weights {
    /// An empty table over a file.
    pub fn of(file: &Gguf) -> Weights {
        Weights { file: Some(file.clone()), ..Weights::default() }
    }

    /// The matrix with this id.
    pub fn matrix(&self, id: WeightId) -> &QMatrix {
        &self.matrices[id.0 as usize]
    }

    /// All matrices, in the order they were taken.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &QMatrix)> {
        self.matrices.iter().enumerate().map(|(i, m)| (WeightId(i as u32), m))
    }

    /// All elements of a vector as f32.
    ///
    /// # Errors
    /// If the type cannot be dequantized.
    pub fn vector(&self, id: WeightId) -> Result<Cow<'_, [f32]>> {
        Ok(Cow::Owned(self.matrix(id).to_f32()?))
    }

    /// Adds a matrix that is not a tensor of the file.
    pub fn add(&mut self, matrix: QMatrix) -> WeightId {
        let id = WeightId(self.matrices.len() as u32);
        self.by_name.insert(matrix.name.clone(), id);
        self.matrices.push(matrix);
        id
    }

    /// Takes a tensor of the file into the table, once however often it is asked for.
    ///
    /// `shape` is GGUF's, fastest dimension first; trailing dimensions of 1 may be left out.
    /// `None` if the file has no such tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] if it has another shape.
    pub fn take(&mut self, name: &str, shape: &[u64]) -> Result<Option<WeightId>> {
        let Some(file) = &self.file else { return Ok(None) };
        let Some(info) = file.tensor(name) else { return Ok(None) };
        if !same_shape(&info.shape, shape) {
            return Err(Error::Shape {
                name: name.into(),
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        if let Some(id) = self.by_name.get(name) {
            return Ok(Some(*id));
        }
        let dim = |i: usize| -> Result<u32> {
            let d = shape.get(i).copied().unwrap_or(1);
            u32::try_from(d)
                .map_err(|_| Error::Description(format!("'{name}' has {d} elements a side")))
        };
        let matrix = QMatrix {
            name: name.into(),
            ty: info.ty,
            experts: dim(2)?,
            rows: dim(1)?,
            cols: dim(0)?,
            store: Store::Mapped(file.bytes(info)),
        };
        Ok(Some(self.add(matrix.checked()?)))
    }

    /// Whether the mapped file is still what it was.
    ///
    /// # Errors
    /// If it shrank or could not be read.
    pub fn check(&self) -> Result<()> {
        match &self.file {
            Some(file) => Ok(file.check()?),
            None => Ok(()),
        }
    }
}

fn same_shape(found: &[u64], expected: &[u64]) -> bool {
    let dims = found.len().max(expected.len());
    (0..dims).all(|i| found.get(i).unwrap_or(&1) == expected.get(i).unwrap_or(&1))
}
