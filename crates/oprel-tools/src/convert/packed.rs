//! Weights that were quantized for other programs: refused by the name of the method.

use std::path::Path;

use super::config::{Config, read_json};
use crate::error::{Error, Result};

/// Methods whose weights are read, and taken apart.
const READ: &[&str] = &["fp8", "mxfp4"];
/// Files that older tools wrote beside what they quantized.
const FILES: &[(&str, &str)] = &[("quantize_config.json", "gptq"), ("quant_config.json", "awq")];
/// Ends of names that only packed weights have.
const ENDS: &[(&str, &str)] = &[
    (".qweight", "gptq or awq"),
    (".qzeros", "gptq or awq"),
    (".weight_packed", "compressed-tensors"),
    (".weight.absmax", "bitsandbytes"),
    (".q_weight", "exl2"),
];

/// Refuses folders whose files say that weights are packed in a way that is not read.
pub(super) fn check(folder: &Path, config: &Config) -> Result<()> {
    if let Some(settings) = config.get("quantization_config") {
        let method = settings.get("quant_method").and_then(serde_json::Value::as_str);
        return match method {
            None => Ok(()),
            Some(method) if READ.contains(&method) => Ok(()),
            Some(method) => Err(packed(method)),
        };
    }
    // MLX says it in a key of its own.
    if config.get("quantization").is_some_and(|of| of.get("bits").is_some()) {
        return Err(packed("mlx"));
    }
    for (file, method) in FILES {
        if let Some(settings) = read_json(&folder.join(file))? {
            let said = settings.get("quant_method").and_then(serde_json::Value::as_str);
            return Err(packed(said.unwrap_or(method)));
        }
    }
    Ok(())
}

/// Refuses tensors that only such folders have, where no file says it.
pub(super) fn check_names<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<()> {
    let of =
        |name: &str| ENDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, method)| method);
    match names.find_map(of) {
        Some(method) => Err(packed(method)),
        None => Ok(()),
    }
}

fn packed(method: &str) -> Error {
    Error::Packed { method: method.to_owned() }
}
