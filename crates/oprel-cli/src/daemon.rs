//! Commands that speak to a daemon: `ps`, `stop`.

use oprel::{Client, OprelError};
use oprel_client::Error;
use serde_json::{Value, json};

use crate::args::{At, Ps, Stop};
use crate::columns::{bytes, table};
use crate::commands::print;
use crate::store::short_id;

/// The daemon that is meant, whether it answers or not.
fn client(at: &At) -> Result<Client, OprelError> {
    Ok(Client::new(at.daemon()?.client())?)
}

pub(crate) fn ps(args: &Ps) -> anyhow::Result<()> {
    let models = client(&args.at)?.running().map_err(OprelError::from)?;
    if args.json {
        return print(&json!({"models": models}).to_string());
    }
    let rows = models.iter().map(|model| {
        let text = |key: &str| model[key].as_str().unwrap_or_default().to_string();
        let id = short_id(model);
        let size = bytes(model["size"].as_u64().unwrap_or(0));
        let context = model["context_length"].as_u64().unwrap_or(0).to_string();
        let until = until(&text("expires_at"));
        let backend = text("backend");
        let processor = if backend.starts_with("remote") { backend } else { "100% CPU".into() };
        [text("name"), id, size, processor, context, until]
    });
    let heads = ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"].map(String::from);
    table(std::iter::once(heads).chain(rows).collect())
}

/// How long from now, in words.
fn until(time: &str) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else { return String::new() };
    let seconds = then.as_second() - jiff::Timestamp::now().as_second();
    let words = |n: i64, unit: &str| match n {
        1 => format!("About a {unit} from now"),
        n => format!("{n} {unit}s from now"),
    };
    match seconds {
        s if s <= 0 => "Stopping...".into(),
        s if s < 60 => words(s, "second"),
        s if s < 3600 => words(s / 60, "minute"),
        s if s < 86_400 => words(s / 3600, "hour"),
        s if s < 86_400 * 365 * 10 => words(s / 86_400, "day"),
        _ => "Forever".into(),
    }
}

pub(crate) fn stop(args: &Stop) -> anyhow::Result<()> {
    let client = client(&args.at)?;
    let absent = || {
        let message = format!("couldn't find model \"{}\" to stop", args.model);
        anyhow::Error::msg(message)
    };
    let shown = client.post("/api/show", &json!({"model": args.model}));
    match shown {
        Err(Error::Refused { status: 404, .. }) => return Err(absent()),
        Err(error) => return Err(OprelError::from(error).into()),
        Ok(Value::Object(_)) => {}
        Ok(_) => return Err(absent()),
    }
    let unloaded = client.unload(&args.model).map_err(OprelError::from)?;
    match args.json {
        true => print(&json!({"model": args.model, "unloaded": unloaded}).to_string()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(until("1970-01-01T00:00:00Z"), "Stopping...");
        assert_eq!(until("2318-01-01T00:00:00Z"), "Forever");
    }
}
