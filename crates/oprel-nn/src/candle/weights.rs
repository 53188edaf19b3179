//! The weights of each device, as f32 tensors.

use std::collections::{BTreeSet, HashMap};

use candle_core::{Device, Tensor};

use crate::exec::Dev;
use crate::weights::{WeightId, Weights};
use crate::{Error, Result};

/// One table a device; a tensor that two devices need stands in both.
pub(super) struct Tables {
    of_dev: Vec<HashMap<WeightId, Tensor>>,
    /// Rows of one expert of each matrix.
    rows: Vec<usize>,
}

impl Tables {
    /// Dequantizes what each device needs and copies it there; gives the bytes that took.
    pub(super) fn load(
        weights: &Weights,
        used: &BTreeSet<(Dev, WeightId)>,
        devices: &[Device],
    ) -> Result<(Tables, u64)> {
        let mut tables = vec![HashMap::new(); devices.len()];
        let mut bytes = 0;
        for &(Dev(d), id) in used {
            let m = weights.matrix(id);
            let rows = m.experts as usize * m.rows as usize;
            let tensor =
                Tensor::from_vec(m.to_f32()?, (rows, m.cols as usize), &devices[d as usize])?;
            bytes += 4 * m.n_elements() as u64;
            tables[d as usize].insert(id, tensor);
        }
        let rows = weights.iter().map(|(_, m)| m.rows as usize).collect();
        Ok((Tables { of_dev: tables, rows }, bytes))
    }

    /// A matrix (experts * rows, cols) on a device.
    ///
    /// # Errors
    /// If it was not placed there: an operation may use tensors of its own device only.
    pub(super) fn matrix(&self, id: WeightId, dev: Dev) -> Result<&Tensor> {
        self.of_dev[dev.0 as usize].get(&id).ok_or_else(|| {
            Error::Description(format!("matrix {} was not placed on device {}", id.0, dev.0))
        })
    }

    /// Rows of one expert of a matrix.
    pub(super) fn rows(&self, id: WeightId) -> usize {
        self.rows[id.0 as usize]
    }

    /// All elements of a matrix in a row.
    pub(super) fn vector(&self, id: WeightId, dev: Dev) -> Result<Tensor> {
        Ok(self.matrix(id, dev)?.flatten_all()?)
    }
}
