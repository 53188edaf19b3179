//! Installing a version: find it, fetch it, unpack it, have it asked what it is, put it in its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use crate::Digest;
use crate::fetch::{self, Fetcher, Progress};
use crate::http;

use super::error::{Error, Result};
use super::folder::{Folder, Installed, Record, clear, program_in, write_record};
use super::release::{Asset, Platform, Release, Version};
use super::unpack::{Limits, unpack};

/// More than a description of a release has.
const MOST_RELEASE: usize = 8 << 20;
/// How often it is told how far a download is.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where releases are described: `/latest` and `/tags/b6123` are put behind it.
    pub source: String,
    /// Which one; the newest where nothing is said.
    pub version: Option<Version>,
    /// Which build of it; the one for the CPU where nothing is said.
    pub variant: Option<String>,
    /// The archive's digest, where the user knows it.
    pub digest: Option<Digest>,
    /// For which machine; `None` if nothing is made for it.
    pub platform: Option<Platform>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is there now.
    pub installed: Installed,
    /// What it says of itself.
    pub says: String,
    /// Whether it was there before.
    pub was_there: bool,
}

/// Who is asked what a program is; why it is of no use, if it is not.
pub type Check<'a> = &'a (dyn Fn(&Path) -> std::result::Result<String, String> + Send + Sync);
/// Who is told how far the archive of a name and a digest is.
pub type Tell<'a> = &'a (dyn Fn(&str, Digest, Progress) + Send + Sync);

/// Installs a version, in the place of the same one if that came from another archive or does not run.
///
/// # Errors
/// If it cannot be had, is not what its digest says, is an archive that reaches out of its folder, or does not run
/// here. What was installed before stays as it is.
pub async fn install(
    fetcher: &Fetcher,
    folder: &Folder,
    wanted: &Wanted,
    check: Check<'_>,
    tell: Tell<'_>,
) -> Result<Outcome> {
    let platform = wanted.platform.ok_or_else(|| Error::NoAsset {
        version: wanted.version.map_or("llama.cpp".into(), |version| version.to_string()),
        wanted: "build".into(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        there: Vec::new(),
    })?;
    let release = release(fetcher, wanted).await?;
    let asset = release.choose(platform, wanted.variant.as_deref())?;
    let digest = digest_of(asset, wanted.digest)?;
    let version = release.version;
    let _lock = folder.lock()?;
    if let Some(installed) = folder.get(version)
        && installed.record.as_ref().is_some_and(|record| record.digest == digest.to_string())
        && let Ok(says) = check(&installed.program)
    {
        return Ok(Outcome { installed, says, was_there: true });
    }
    let archive = archive_of(fetcher, folder, asset, digest, tell).await?;
    let temporary = folder.beside(version, "tmp");
    let found = place(folder, version, asset, digest, &archive, &temporary, check);
    // Whatever came of it, neither is of use any more.
    let cleared = clear(&temporary).and(clear(&archive));
    let says = found?;
    cleared?;
    let installed = folder.get(version).ok_or_else(|| Error::Useless {
        version: version.to_string(),
        why: "it went away while it was installed".into(),
    })?;
    Ok(Outcome { installed, says, was_there: false })
}

/// What the source says about the release that is wanted.
async fn release(fetcher: &Fetcher, wanted: &Wanted) -> Result<Release> {
    let base = wanted.source.trim_end_matches('/');
    let text = match wanted.version {
        Some(version) => format!("{base}/tags/{version}"),
        None => format!("{base}/latest"),
    };
    let url: Url =
        text.parse().map_err(|_| fetch::Error::Malformed(format!("'{base}' is no address")))?;
    if !is_safe(&url) {
        return Err(Error::Insecure { url: http::shown(&url) });
    }
    let text = fetcher.document(&url, MOST_RELEASE).await?;
    let release = Release::parse(&text, &url)?;
    match wanted.version {
        Some(version) if version != release.version => Err(Error::Release {
            url: http::shown(&url),
            why: format!("it describes {} and not {version}", release.version),
        }),
        _ => Ok(release),
    }
}

/// Whether what comes from there was sent by whom it seems to come from: the description has the digests, so it
/// is what has to be right.
fn is_safe(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost"
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

fn digest_of(asset: &Asset, wanted: Option<Digest>) -> Result<Digest> {
    match (wanted, asset.digest) {
        (Some(wanted), Some(listed)) if wanted != listed => {
            Err(Error::OtherDigest { name: asset.name.clone(), wanted, listed })
        }
        (wanted, listed) => {
            wanted.or(listed).ok_or_else(|| Error::NoDigest { name: asset.name.clone() })
        }
    }
}

/// The archive, whole and right.
async fn archive_of(
    fetcher: &Fetcher,
    folder: &Folder,
    asset: &Asset,
    digest: Digest,
    tell: Tell<'_>,
) -> Result<PathBuf> {
    let to = folder.path().join(format!(".{}", asset.name));
    // A file that a killed process left was right then, but nobody has looked since.
    clear(&to)?;
    let download = fetcher.file(&asset.url, Some(asset.size), Some(digest), &to)?;
    let told = |progress| tell(&asset.name, digest, progress);
    let found = download.watch(TOLD_EVERY, &told).await;
    if let Err(fetch::Error::Digest { .. }) = found {
        // Nothing can go on from there.
        clear(&folder.path().join(format!(".{}.part", asset.name)))?;
    }
    Ok(found?.path)
}

/// Unpacks an archive, has the program asked, and puts all in its place. What the program says.
fn place(
    folder: &Folder,
    version: Version,
    asset: &Asset,
    digest: Digest,
    archive: &Path,
    temporary: &Path,
    check: Check<'_>,
) -> Result<String> {
    clear(temporary)?;
    unpack(archive, &asset.name, temporary, Limits::default())?;
    let useless = |why| Error::Useless { version: version.to_string(), why };
    let root = without_wrapping(temporary);
    let program = program_in(&root)
        .ok_or_else(|| useless(format!("{} has no {} in it", asset.name, Folder::PROGRAM)))?;
    let says = check(&program).map_err(useless)?;
    let url = http::shown(&asset.url);
    write_record(&root, &Record { asset: asset.name.clone(), digest: digest.to_string(), url })?;
    folder.put(version, &root)?;
    Ok(says)
}

/// Archives have everything in `llama-b6123`, or in `build/bin`: the folder that is more than a wrapping.
fn without_wrapping(folder: &Path) -> PathBuf {
    let mut root = folder.to_owned();
    loop {
        let Ok(entries) = std::fs::read_dir(&root) else { return root };
        let entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        match entries.as_slice() {
            [only] if only.is_dir() && !only.is_symlink() => root.clone_from(only),
            _ => return root,
        }
    }
}
