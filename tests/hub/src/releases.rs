//! Releases of programs: descriptions as GitHub writes them, and files that are delivered by the network.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::bytes::{plain, to};
use crate::hub::json;
use crate::{Content, Inner, Role, Seen, lock};

/// A release.
#[derive(Clone, Debug, Default)]
pub struct Release {
    /// What it is called: `b6123`.
    pub tag: String,
    pub(crate) assets: Vec<Asset>,
}

/// A file of a release.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    name: String,
    pub(crate) content: Content,
    /// What the description says.
    digest: Option<String>,
}

impl Release {
    /// Without files.
    pub fn new(tag: &str) -> Release {
        Release { tag: tag.into(), ..Release::default() }
    }

    /// With a file, and its digest.
    #[must_use]
    pub fn with(self, name: &str, content: Content) -> Release {
        let digest = Some(format!("sha256:{}", content.digest()));
        self.with_digest(name, content, digest)
    }

    /// With a file, and what the description says of its digest.
    #[must_use]
    pub fn with_digest(mut self, name: &str, content: Content, digest: Option<String>) -> Release {
        self.assets.push(Asset { name: name.into(), content, digest });
        self
    }

    fn describe(&self, at: &str) -> Value {
        let asset = |asset: &Asset| {
            let url =
                format!("{at}/ggml-org/llama.cpp/releases/download/{}/{}", self.tag, asset.name);
            json!({"name": asset.name, "size": asset.content.size(), "state": "uploaded",
                "browser_download_url": url, "digest": asset.digest})
        };
        let assets: Vec<Value> = self.assets.iter().map(asset).collect();
        json!({"tag_name": self.tag, "draft": false, "prerelease": false, "assets": assets})
    }
}

pub(crate) fn answer(inner: &Inner, seen: &Seen) -> Response<Body> {
    let releases = lock(&inner.releases);
    let named = |tag: &str| releases.iter().find(|release| release.tag == tag);
    let none = || plain(StatusCode::NOT_FOUND, "{\"message\":\"Not Found\",\"status\":\"404\"}");
    let parts: Vec<&str> = seen.path.split('/').skip(1).collect();
    let described = match parts.as_slice() {
        ["repos", _, _, "releases", "latest"] => releases.last(),
        ["repos", _, _, "releases", "tags", tag] => named(tag),
        [_, _, "releases", "download", tag, name] => {
            let assets = named(tag).map_or(&[][..], |release| &release.assets);
            let found = assets.iter().find(|asset| asset.name == *name);
            let link = |asset: &Asset| inner.link(Role::Cdn, asset.content.digest(), name);
            return found.map_or_else(none, |asset| to(StatusCode::FOUND, &link(asset)));
        }
        _ => None,
    };
    let at = inner.url(Role::Releases);
    described.map_or_else(none, |release| json(release.describe(&at)))
}
