//! `oprel key`: keys of a server's clients.

use std::time::Duration;

use anyhow::Context;
use oprel::OprelError;
use oprel_server::{Keys, Scope};
use serde_json::json;

use crate::args::Key;
use crate::commands::print;
use crate::outcome::tell;

pub(crate) fn run(command: &Key) -> anyhow::Result<()> {
    let path = crate::serve::keys_file().context("set HOME or OPREL_HOME: keys have no place")?;
    let keys = Keys::at(&path);
    let place = || format!("cannot use '{}'", path.display());
    match command {
        Key::Create { name, scope, days, json } => {
            let scopes = scope.iter().map(|s| s.parse()).collect::<Result<Vec<Scope>, String>>();
            let scopes = scopes.map_err(OprelError::validation)?;
            let lasts = days.map(|d| Duration::from_secs(u64::from(d) * 86_400));
            let fresh = keys.create(name, scopes, lasts).with_context(place)?;
            if *json {
                return print(&json!({"id": fresh.key.id, "key": fresh.text}).to_string());
            }
            tell("Keep this key: it is not shown again.");
            print(&fresh.text)
        }
        Key::List { json } => {
            let all = keys.list().with_context(place)?;
            if *json {
                let shown = all.iter().map(|k| {
                    json!({"id": k.id, "name": k.name, "scopes": k.scopes, "created": k.created,
                        "expires": k.expires})
                });
                return print(&json!(shown.collect::<Vec<_>>()).to_string());
            }
            print(&format!("{:<12}{:<24}SCOPES", "ID", "NAME"))?;
            for key in all {
                let scopes: Vec<_> = key.scopes.iter().map(|s| s.as_str()).collect();
                let line = format!("{:<12}{:<24}{}", key.id, key.name, scopes.join(","));
                print(&crate::outcome::harmless(&line))?;
            }
            Ok(())
        }
        Key::Remove { key, json } => match keys.remove(key).with_context(place)? {
            true if *json => print(&json!({"removed": key}).to_string()),
            true => print(&format!("removed '{key}'")),
            false => Err(OprelError::validation(format!("there is no key '{key}'")).into()),
        },
    }
}
