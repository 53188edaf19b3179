//! Shared set-up of the integration tests: where things are, zoo models, running an executor.

pub mod run;
pub mod zoo;

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// A file of the folder `shared` beside the repository (or `OPREL_SHARED`), which CI has and a
/// user's clone has not.
///
/// `None` where it is absent, after saying that the test was skipped.
///
/// # Panics
/// In CI, where it must be there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("OPREL_SHARED").map(PathBuf::from);
    let file = folder.unwrap_or_else(|| root().join("../shared")).join(path);
    if file.exists() {
        return Some(file);
    }
    assert!(std::env::var_os("CI").is_none(), "CI needs ../shared/{path}");
    eprintln!("skipped: needs ../shared/{path}");
    None
}
