//! `config.json` and its companions: read once, asked by any of the names that a value goes by.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The largest JSON file that is read.
const MAX_JSON: u64 = 1 << 28;

/// The hyper-parameters of a model. Those of a text model inside a multimodal one lie over the outer ones.
#[derive(Debug, Default)]
pub(super) struct Config {
    all: Map<String, Value>,
}

/// A JSON file; `None` if there is none.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|source| Error::Json { path: path.to_owned(), source })
}

/// A text file of a sane size; `None` if there is none.
pub(super) fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path)(e)),
        Ok(found) if found.len() > MAX_JSON => {
            return Err(Error::io("read", path)(std::io::Error::other(
                "it is larger than 256 MiB",
            )));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(Error::io("read", path))
}

impl Config {
    /// Reads `config.json`.
    pub(super) fn open(folder: &Path) -> Result<Config> {
        if !folder.is_dir() {
            return Err(Error::NoFolder { path: folder.to_owned() });
        }
        let Some(json) = read_json(&folder.join("config.json"))? else {
            return Err(Error::MissingFile {
                folder: folder.to_owned(),
                file: "config.json",
                hint: "name the folder of a Hugging Face model, with its safetensors files",
            });
        };
        Config::of(json)
    }

    pub(super) fn of(json: Value) -> Result<Config> {
        let Value::Object(mut all) = json else {
            return Err(Error::config("", "the file holds no object"));
        };
        for inner in ["text_config", "llm_config", "language_config"] {
            if let Some(Value::Object(text)) = all.remove(inner) {
                let outer = all.get("architectures").cloned();
                all.extend(text);
                if let Some(outer) = outer {
                    all.insert("architectures".into(), outer);
                }
            }
        }
        Ok(Config { all })
    }

    /// The name of the model's class.
    pub(super) fn architecture(&self) -> Result<&str> {
        let first = self.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
        first.ok_or_else(|| Error::config("architectures", "names no model class"))
    }

    /// A value that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.all.get(key).filter(|v| !v.is_null())
    }

    /// The value under the first of `keys` that is there.
    fn first<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &Value)> {
        keys.iter().find_map(|key| Some((*key, self.get(key)?)))
    }

    /// A count; `None` if absent.
    pub(super) fn maybe_u32(&self, keys: &[&str]) -> Result<Option<u32>> {
        let Some((key, value)) = self.first(keys) else { return Ok(None) };
        match count(value) {
            Some(n) => Ok(Some(n)),
            None => Err(Error::config(key, format!("is {value}, not a count"))),
        }
    }

    /// A count that must be there.
    pub(super) fn u32(&self, keys: &[&str]) -> Result<u32> {
        self.maybe_u32(keys)?.ok_or_else(|| missing(keys))
    }

    /// A number; `None` if absent.
    pub(super) fn maybe_f64(&self, keys: &[&str]) -> Result<Option<f64>> {
        let Some((key, value)) = self.first(keys) else { return Ok(None) };
        match value.as_f64() {
            Some(x) => Ok(Some(x)),
            None => Err(Error::config(key, format!("is {value}, not a number"))),
        }
    }

    /// A number that must be there.
    pub(super) fn f64(&self, keys: &[&str]) -> Result<f64> {
        self.maybe_f64(keys)?.ok_or_else(|| missing(keys))
    }

    /// A switch; `None` if absent.
    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }

    /// A text; `None` if absent.
    pub(super) fn str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// A list of numbers that must be there, at least `n` of them.
    pub(super) fn numbers(&self, key: &str, n: usize) -> Result<Vec<f32>> {
        let list = self.get(key).and_then(Value::as_array).ok_or_else(|| missing(&[key]))?;
        let numbers: Option<Vec<f32>> = list.iter().map(|v| v.as_f64().map(|x| x as f32)).collect();
        match numbers {
            Some(numbers) if numbers.len() >= n => Ok(numbers),
            _ => Err(Error::config(key, format!("must hold {n} numbers"))),
        }
    }

    /// What kind each layer is, in words.
    pub(super) fn layer_types(&self, key: &str) -> Option<Vec<&str>> {
        self.get(key)?.as_array()?.iter().map(Value::as_str).collect()
    }

    /// The parameters of rope: `rope_parameters` or `rope_scaling`, those of full attention where there are
    /// several.
    pub(super) fn rope(&self) -> Config {
        let of = |v: &Value| v.as_object().cloned().unwrap_or_default();
        let all = self.first(&["rope_parameters", "rope_scaling"]).map(|(_, v)| of(v));
        let all = all.unwrap_or_default();
        match all.get("full_attention") {
            Some(full) => Config { all: of(full) },
            None => Config { all },
        }
    }

    /// Base of the rope in windows, where it is another one.
    pub(super) fn window_theta(&self) -> Result<Option<f64>> {
        let all = self.get("rope_parameters").and_then(|r| r.get("sliding_attention"));
        if let Some(theta) = all.and_then(|w| w.get("rope_theta")).and_then(Value::as_f64) {
            return Ok(Some(theta));
        }
        self.maybe_f64(&["rope_local_base_freq", "local_rope_theta", "swa_rope_theta"])
    }

    pub(super) fn n_layers(&self) -> Result<u32> {
        match self.u32(&["num_hidden_layers", "n_layers", "n_layer", "num_layers"])? {
            n @ 1..=1024 => Ok(n),
            n => Err(Error::config("num_hidden_layers", format!("is {n}, not from 1 to 1024"))),
        }
    }

    pub(super) fn n_heads(&self) -> Result<u32> {
        positive(self.u32(&["num_attention_heads", "n_head", "n_heads"])?, "num_attention_heads")
    }

    pub(super) fn n_kv_heads(&self) -> Result<u32> {
        let own = self.maybe_u32(&["num_key_value_heads", "n_kv_heads"])?;
        positive(own.map_or_else(|| self.n_heads(), Ok)?, "num_key_value_heads")
    }

    pub(super) fn width(&self) -> Result<u32> {
        positive(self.u32(&["hidden_size", "n_embd", "d_model", "dim"])?, "hidden_size")
    }

    pub(super) fn head_dim(&self) -> Result<u32> {
        match self.maybe_u32(&["head_dim"])? {
            Some(dim) => positive(dim, "head_dim"),
            None => {
                positive(self.width()?.checked_div(self.n_heads()?).unwrap_or(0), "hidden_size")
            }
        }
    }

    pub(super) fn n_experts(&self) -> Result<Option<u32>> {
        self.maybe_u32(&["num_local_experts", "num_experts", "n_routed_experts"])
    }
}

/// A count, also where it is written as a float; below 2^31, so that twice a product of two fits 64 bits.
fn count(value: &Value) -> Option<u32> {
    let whole = value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..2_147_483_648.0).contains(x));
    whole.map(|x| x as u32)
}

fn positive(n: u32, key: &str) -> Result<u32> {
    if n == 0 { Err(Error::config(key, "must be positive")) } else { Ok(n) }
}

fn missing(keys: &[&str]) -> Error {
    Error::config(keys.first().unwrap_or(&""), "is missing, and this architecture needs it")
}
