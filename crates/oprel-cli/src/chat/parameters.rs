//! Parameters by name: how tokens are chosen, and how far an answer goes.

use oprel::{OprelError, Sampling, SamplingPatch};
use serde_json::{Map, Value, json};

use crate::settings::Settings;

/// Parameters that are not of the sampling.
const OTHERS: [&str; 4] = ["num_predict", "num_ctx", "max_thinking", "stop"];

/// What can be set.
pub(super) fn names() -> impl Iterator<Item = String> {
    let sampling = fields(&SamplingPatch::default()).into_iter().map(|(name, _)| name);
    sampling.filter(|name| name != "logit_bias").chain(OTHERS.map(String::from))
}

/// Sets one; `default` is as if it never was.
pub(super) fn set(
    settings: &mut Settings,
    name: &str,
    values: &[String],
) -> Result<(), OprelError> {
    let usual = values == ["default"];
    let number = || match (usual, values) {
        (true, _) => Ok(None),
        (false, [value]) => match value.parse::<u32>() {
            Ok(n) if n > 0 => Ok(Some(n)),
            _ => Err(wrong(name, "a whole number above 0", value)),
        },
        _ => Err(wrong(name, "one value", &values.join(" "))),
    };
    match name {
        "stop" if usual => settings.stop.clear(),
        "stop" => settings.stop = values.to_vec(),
        // As clients of the field say "without end".
        "num_predict" if values == ["-1"] => settings.num_predict = None,
        "num_predict" => settings.num_predict = number()?,
        "num_ctx" => settings.num_ctx = number()?,
        "max_thinking" if values == ["0"] => settings.max_thinking = Some(0),
        "max_thinking" => settings.max_thinking = number()?,
        _ => settings.sampling = sampling(&settings.sampling, name, values, usual)?,
    }
    Ok(())
}

/// A sampling with one number changed.
fn sampling(
    patch: &SamplingPatch,
    name: &str,
    values: &[String],
    usual: bool,
) -> Result<SamplingPatch, OprelError> {
    let mut all = fields(patch);
    if name == "logit_bias" || !all.contains_key(name) {
        let names: Vec<String> = names().collect();
        return Err(OprelError::Validation {
            message: format!("there is no parameter '{name}'"),
            hint: Some(format!("there are {}", names.join(", "))),
            source: None,
        });
    }
    let value = match (usual, name, values) {
        (true, ..) => Value::Null,
        (_, "dry_sequence_breakers", texts) => json!(texts),
        (_, _, [value]) => match serde_json::from_str(value) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => return Err(wrong(name, "a number", value)),
        },
        _ => return Err(wrong(name, "one value", &values.join(" "))),
    };
    all.insert(name.into(), value);
    let patch: SamplingPatch = serde_json::from_value(Value::Object(all))
        .map_err(|_| wrong(name, "a number of its kind", &values.join(" ")))?;
    let checked = patch.over(Sampling::default()).validate();
    checked.map_err(|e| OprelError::validation(e.to_string()))?;
    Ok(patch)
}

fn wrong(name: &str, expected: &str, value: &str) -> OprelError {
    OprelError::validation(format!("{name} must be {expected}, not '{value}'"))
}

fn fields(patch: &SamplingPatch) -> Map<String, Value> {
    match serde_json::to_value(patch) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// What was set, a name and a value each.
pub(super) fn lines(settings: &Settings) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = fields_that_are_set(&settings.sampling);
    let numbers = [
        ("num_predict", settings.num_predict),
        ("num_ctx", settings.num_ctx),
        ("max_thinking", settings.max_thinking),
    ];
    all.extend(
        numbers.iter().filter_map(|(name, n)| Some((name.to_string(), n.as_ref()?.to_string()))),
    );
    all.extend(settings.stop.iter().map(|text| ("stop".into(), json!(text).to_string())));
    all
}

/// What a patch says.
pub(super) fn fields_that_are_set(patch: &SamplingPatch) -> Vec<(String, String)> {
    let said = |value: &Value| !value.is_null() && value != &json!([]);
    let all = fields(patch).into_iter().filter(|(_, value)| said(value));
    all.map(|(name, value)| (name, short(&value))).collect()
}

/// Numbers are in single precision: they have as few digits as tell them apart there.
fn short(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(x) => (x as f32).to_string(),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(settings: &mut Settings, line: &str) -> Result<(), String> {
        let mut words = line.split(' ').map(String::from);
        let name = words.next().unwrap_or_default();
        set(settings, &name, &words.collect::<Vec<_>>()).map_err(|e| e.to_string())
    }

    #[test]
    fn parameters_are_set_by_the_names_of_the_field_and_taken_back() {
        let mut settings = Settings::default();
        for line in ["temperature 0.1", "top_k 7", "stop a b", "num_predict 5", "seed 3"] {
            after(&mut settings, line).unwrap();
        }
        assert_eq!(settings.sampling.temperature, Some(0.1));
        assert_eq!((settings.sampling.top_k, settings.sampling.seed), (Some(7), Some(3)));
        assert_eq!((settings.num_predict, settings.stop.len()), (Some(5), 2));
        let shown: Vec<String> = lines(&settings).iter().map(|(n, v)| format!("{n} {v}")).collect();
        let wanted =
            ["temperature 0.1", "top_k 7", "seed 3", "num_predict 5", "stop \"a\"", "stop \"b\""];
        assert_eq!(shown, wanted);
        for name in names() {
            after(&mut settings, &format!("{name} default")).unwrap();
        }
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_and_changes_nothing() {
        let mut settings = Settings::default();
        for line in [
            "temperature hot",
            "temperature -1",
            "temperature NaN",
            "top_k 1.5",
            "top_p 7",
            "num_ctx 0",
            "num_predict x",
            "seed 1 2",
        ] {
            let said = after(&mut settings, line).unwrap_err();
            assert!(said.contains(line.split(' ').next().unwrap()), "{line}: {said}");
        }
        assert!(after(&mut settings, "nonsense 1").unwrap_err().contains("no parameter"));
        assert_eq!(settings, Settings::default());
    }
}
