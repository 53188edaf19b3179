//! A release as GitHub describes it, and which of its archives is for a machine.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde::Deserialize;

use crate::Digest;

use super::error::{Error, Result};

/// Where the releases of llama.cpp are described.
pub const LLAMA_RELEASES: &str = "https://api.github.com/repos/ggml-org/llama.cpp/releases";

/// A version of llama.cpp: `b` and the number of its build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Version> {
        let number = text.strip_prefix('b').and_then(|digits| digits.parse().ok()).map(Version);
        // It names a folder: one text for each version, and nothing else.
        number.filter(|version| version.to_string() == text).ok_or_else(|| Error::Version {
            text: text.chars().filter(|c| !c.is_control()).take(80).collect(),
        })
    }
}

/// A machine, as archives are named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `ubuntu` for every Linux, `macos`, `win`.
    pub system: &'static str,
    /// `x64`, `arm64`, `s390x`.
    pub arch: &'static str,
}

impl Platform {
    /// This machine; `None` if no archives are made for it.
    pub fn here() -> Option<Platform> {
        Platform::of(std::env::consts::OS, std::env::consts::ARCH)
    }

    /// The one that Rust calls so.
    pub fn of(os: &str, arch: &str) -> Option<Platform> {
        let system = match os {
            "linux" => "ubuntu",
            "macos" => "macos",
            "windows" => "win",
            _ => return None,
        };
        let arch = match arch {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            "s390x" => "s390x",
            _ => return None,
        };
        Some(Platform { system, arch })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Platform { system, arch } = self;
        let system = if *system == "ubuntu" { "linux" } else { system };
        write!(f, "{system} {arch}")
    }
}

/// A release.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// Its archives.
    pub assets: Vec<Asset>,
}

/// An archive of a release.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Its file name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Where it is to be had.
    pub url: Url,
    /// The SHA-256 of its bytes, where the list says it.
    pub digest: Option<Digest>,
}

/// A release as it is written.
#[derive(Deserialize)]
struct Written {
    tag_name: String,
    assets: Vec<WrittenAsset>,
}

#[derive(Deserialize)]
struct WrittenAsset {
    name: String,
    size: u64,
    browser_download_url: String,
    #[serde(default)]
    digest: Option<String>,
}

impl Release {
    /// Reads GitHub's description of one, which was at `url`.
    ///
    /// # Errors
    /// If it is no description of a release of llama.cpp.
    pub fn parse(text: &[u8], url: &Url) -> Result<Release> {
        let wrong = |why: String| Error::Release { url: crate::http::shown(url), why };
        let written: Written =
            serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        let version = written.tag_name.parse().map_err(|error: Error| wrong(error.to_string()))?;
        // What is of no use here need not make sense.
        let assets = written.assets.into_iter().filter_map(|asset| {
            let digest = match asset.digest.as_deref() {
                Some(text) => Some(text.strip_prefix("sha256:")?.parse().ok()?),
                None => None,
            };
            let url = url.join(&asset.browser_download_url).ok()?;
            Some(Asset { name: asset.name, size: asset.size, url, digest })
        });
        Ok(Release { version, assets: assets.collect() })
    }

    /// The archive for a machine: the one for its CPU, or another variant, as `vulkan` or `cuda-12.4`. A variant
    /// may be called without its version if there is only one.
    ///
    /// # Errors
    /// If there is none, or more than one could be meant.
    pub fn choose(&self, platform: Platform, variant: Option<&str>) -> Result<&Asset> {
        let for_it = |asset| Some((variant_of(asset, self.version, platform)?, asset));
        let all: Vec<(&str, &Asset)> = self.assets.iter().filter_map(for_it).collect();
        let wanted = variant.unwrap_or("cpu");
        let exact = all.iter().find(|(variant, _)| *variant == wanted);
        let mut near = all.iter().filter(|(variant, _)| {
            variant.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
        });
        let found = exact.or_else(|| near.next().filter(|_| near.next().is_none()));
        found.map(|(_, asset)| *asset).ok_or_else(|| Error::NoAsset {
            version: self.version.to_string(),
            wanted: format!("build '{wanted}'"),
            platform: platform.to_string(),
            there: all.iter().map(|(variant, _)| (*variant).to_owned()).collect(),
        })
    }
}

/// The variant that an archive is, if it is for this machine: `llama-b6123-bin-ubuntu-vulkan-x64.tar.gz`.
fn variant_of(asset: &Asset, version: Version, platform: Platform) -> Option<&str> {
    let stem = [".tar.gz", ".zip"].iter().find_map(|end| asset.name.strip_suffix(end))?;
    // It names a file: of what is between the known parts only a word is taken.
    let rest = stem.strip_prefix(&format!("llama-{version}-bin-{}-", platform.system))?;
    let rest = rest.strip_suffix(platform.arch)?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match rest.strip_suffix('-') {
        Some(variant) => Some(variant).filter(|variant| variant.chars().all(is_word)),
        None => rest.is_empty().then_some("cpu"),
    }
}

#[cfg(test)]
mod tests;
