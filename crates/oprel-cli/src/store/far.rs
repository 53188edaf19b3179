//! The same commands over the store of a daemon elsewhere, through what every client of it is offered.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use oprel::{Client, Daemon, OprelError};
use oprel_hub::Digest;
use oprel_hub::fetch::Status;
use oprel_hub::modelfile::{self, Piece, PieceAt, Recipe};
use serde_json::{Map, Value, json};

use super::ID;
use crate::args::At;
use crate::transfer::Told;

impl At {
    /// The daemon that is named, else the one of this user.
    pub(crate) fn daemon(&self) -> Result<Daemon, OprelError> {
        crate::engine::named(self.server.as_deref())
    }

    /// A client of the daemon whose store is meant: the one that is named, else the one of this user if that is on
    /// another machine. `None` where this user's own store is meant.
    pub(crate) fn elsewhere(&self) -> Result<Option<Client>, OprelError> {
        let daemon = self.daemon()?;
        if self.server.is_none() && daemon.endpoint().is_here() {
            return Ok(None);
        }
        Ok(Some(Client::new(daemon.client())?))
    }
}

/// Makes a model there. Files of this machine are sent first.
pub(super) fn create(
    client: &Client,
    name: &str,
    recipe: &Recipe,
    told: &Arc<Told>,
) -> anyhow::Result<()> {
    let body = json!({
        "model": name,
        "from": recipe.model,
        "files": send(client, &recipe.files, told)?,
        "adapters": send(client, &recipe.adapters, told)?,
        "draft_files": send(client, &recipe.drafts, told)?,
        "template": recipe.template,
        "system": recipe.system,
        "license": recipe.licenses,
        "parameters": recipe.params,
        "messages": recipe.messages,
        "renderer": recipe.renderer,
        "parser": recipe.parser,
        "requires": recipe.requires,
        "quantize": recipe.quantize.map(|ty| ty.name()),
    });
    follow(client, "/api/create", body, told)
}

/// Names of files and digests under which they are there.
fn send(client: &Client, pieces: &[Piece], told: &Arc<Told>) -> anyhow::Result<Map<String, Value>> {
    let mut files = Map::new();
    for piece in pieces {
        let PieceAt::Path(path) = &piece.at else { continue };
        // A part of a split model stands for all of them.
        let (_, parts) = modelfile::parts(path).map_err(OprelError::from)?;
        for (path, name) in parts {
            if !files.contains_key(&name) {
                let digest = send_file(client, &path, told)?;
                files.insert(name, digest.to_string().into());
            }
        }
    }
    Ok(files)
}

fn send_file(client: &Client, path: &Path, told: &Arc<Told>) -> anyhow::Result<Digest> {
    let open = || File::open(path).with_context(|| format!("cannot read '{}'", path.display()));
    let (digest, total) =
        Digest::of_reader(open()?).with_context(|| format!("cannot read '{}'", path.display()))?;
    let id: String = digest.hex().chars().take(ID).collect();
    let told = told.clone();
    let status = format!("sending {id}");
    let sent = move |completed| {
        told.tell(&Status { status: status.clone(), digest: Some(digest), total, completed });
    };
    client.put_blob(&digest.to_string(), open()?, sent).map_err(OprelError::from)?;
    Ok(digest)
}

/// Has the daemon do something that takes its time, and tells how far it is.
pub(crate) fn follow(
    client: &Client,
    path: &str,
    mut body: Value,
    told: &Told,
) -> anyhow::Result<()> {
    if let Some(fields) = body.as_object_mut() {
        // What is not said must not look as if it were said to be nothing.
        fields.retain(|_, value| !value.is_null());
        fields.insert("stream".into(), true.into());
    }
    let each = |line: &Value| told.tell(&status(line));
    Ok(client.follow(path, &body, each).map_err(OprelError::from)?)
}

fn status(line: &Value) -> Status {
    let number = |key: &str| line[key].as_u64().unwrap_or(0);
    Status {
        status: line["status"].as_str().unwrap_or_default().to_owned(),
        digest: line["digest"].as_str().and_then(|text| text.parse().ok()),
        total: number("total"),
        completed: number("completed"),
    }
}
