//! What a GGUF file says of itself, in the words of config blobs.

use oprel_gguf::{Gguf, Metadata};

use crate::{Config, LayerKind};

/// What a GGUF file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether it is a model, a projector or an adapter.
    pub kind: LayerKind,
    /// `general.architecture`.
    pub architecture: String,
    /// Number of weights.
    pub n_weights: u64,
    /// File type: `Q4_K_M`.
    pub file_type: &'static str,
    /// Context length.
    pub context_length: u64,
    /// Numbers of a vector.
    pub embedding_length: u64,
    /// `general.basename`.
    pub base_name: String,
}

impl Facts {
    /// Reads metadata and tensor infos, no weights.
    pub fn of(file: &Gguf) -> Facts {
        let metadata = file.metadata();
        let architecture = text(metadata, "general.architecture");
        let key = |name: &str| format!("{architecture}.{name}");
        let number = |name: &str| metadata.u64(&key(name)).ok().flatten().unwrap_or(0);
        let n_weights = file.tensors().iter().map(|t| t.shape.iter().product::<u64>());
        Facts {
            kind: kind(metadata, &architecture),
            n_weights: n_weights.fold(0, u64::saturating_add),
            file_type: file.file_type(),
            context_length: number("context_length"),
            embedding_length: number("embedding_length"),
            base_name: text(metadata, "general.basename"),
            architecture,
        }
    }

    /// Writes what `config` does not say yet.
    pub fn fill(&self, config: &mut Config) {
        let set = |slot: &mut String, value: &str| {
            if slot.is_empty() {
                *slot = value.to_owned();
            }
        };
        set(&mut config.model_format, "gguf");
        set(&mut config.model_family, &self.architecture);
        set(&mut config.model_type, &rounded(self.n_weights));
        set(&mut config.file_type, self.file_type);
        set(&mut config.base_name, &self.base_name);
        if config.context_length == 0 {
            config.context_length = self.context_length;
        }
        if config.embedding_length == 0 {
            config.embedding_length = self.embedding_length;
        }
        let families = config.model_families.get_or_insert_default();
        if !families.contains(&self.architecture) {
            families.push(self.architecture.clone());
        }
    }
}

fn text(metadata: &Metadata, key: &str) -> String {
    metadata.str(key).ok().flatten().unwrap_or_default().to_owned()
}

fn kind(metadata: &Metadata, architecture: &str) -> LayerKind {
    let number =
        |name: &str| metadata.u64(&format!("{architecture}.{name}")).ok().flatten().unwrap_or(0);
    match text(metadata, "general.type").as_str() {
        "adapter" => LayerKind::Adapter,
        "projector" | "mmproj" => LayerKind::Projector,
        // Older projectors do not say what they are.
        _ if architecture == "clip" && number("block_count") == 0 => LayerKind::Projector,
        _ if number("block_count") == 0 && number("vision.block_count") > 0 => LayerKind::Projector,
        _ => LayerKind::Model,
    }
}

/// `135.20M`, `1.2B`, `8B`: a number of weights as clients of the field show it.
pub fn rounded(n: u64) -> String {
    let whole = |unit: u64| n.is_multiple_of(unit);
    match n {
        1_000_000_000.. if whole(1_000_000_000) => format!("{}B", n / 1_000_000_000),
        1_000_000_000.. => format!("{:.1}B", n as f64 / 1e9),
        1_000_000.. if whole(1_000_000) => format!("{}M", n / 1_000_000),
        1_000_000.. => format!("{:.2}M", n as f64 / 1e6),
        1_000.. => format!("{:.0}K", n as f64 / 1e3),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_as_clients_expect() {
        for (n, text) in [
            (1_235_814_432, "1.2B"),
            (8_000_000_000, "8B"),
            (8_030_261_248, "8.0B"),
            (361_821_120, "361.82M"),
            (136_000_000, "136M"),
            (5_200, "5K"),
            (7, "7"),
        ] {
            assert_eq!(rounded(n), text);
        }
    }
}
