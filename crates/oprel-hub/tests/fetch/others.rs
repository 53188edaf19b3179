//! Programs of others download from the stand-in, so it speaks the protocol and not a dialect of ours.

use std::path::Path;
use std::process::Command;

use oprel_hub::Digest;
use oprel_test_hub::{Content, Gate, Hub, Repo, Role, TOKEN};

const LARGE: &str = "tiny-Q4_K_M.gguf";
const SMALL: &str = "README.md";

fn hub() -> Hub {
    let hub = Hub::start();
    let repo = Repo::default()
        .with(SMALL, Content::kept("# tiny"))
        .with("folder/inner.txt", Content::kept("inner"))
        .with(LARGE, Content::made(1, 3_000_000));
    hub.add("demo/tiny-GGUF", Repo { gate: Gate::Token, ..repo.clone() });
    hub.add("demo/open", repo);
    hub
}

fn digest(path: &Path) -> String {
    Digest::of(&std::fs::read(path).expect("it is there")).hex()
}

#[test]
fn the_crate_hf_hub_downloads_from_the_stand_in() {
    // It asks for TLS without saying whose; it needs none here.
    let _ = rustls_graviola::default_provider().install_default();
    let (hub, folder) = (hub(), tempfile::tempdir().expect("a folder"));
    crate::runtime().block_on(async {
        // It is told no token: it would tell it to the delivery network.
        let api = hf_hub::api::tokio::ApiBuilder::new()
            .with_endpoint(hub.url(Role::Hub))
            .with_cache_dir(folder.path().into())
            .with_token(None)
            .with_progress(false)
            .build()
            .expect("well configured");
        let model = api.model("demo/open".into());
        assert_eq!(model.info().await.expect("it answers").sha, Repo::default().commit);
        let large = model.get(LARGE).await.expect("it comes");
        assert_eq!(digest(&large), Content::made(1, 3_000_000).digest());
        let small = model.get(SMALL).await.expect("it comes");
        assert_eq!(std::fs::read(small).expect("it is there"), b"# tiny");
    });
}

/// Needs `OPREL_HF_PYTHON`, a Python that has the package `huggingface_hub`.
#[test]
fn the_official_client_downloads_from_the_stand_in() {
    let Some(python) = std::env::var_os("OPREL_HF_PYTHON") else {
        println!("skipped: OPREL_HF_PYTHON names no Python with huggingface_hub");
        return;
    };
    let (hub, folder) = (hub(), tempfile::tempdir().expect("a folder"));
    hub.page(1);
    let ran = Command::new(python)
        .args(["-c", SCRIPT])
        .env("HF_ENDPOINT", hub.url(Role::Hub))
        .env("HF_HOME", folder.path())
        .env("HF_TOKEN", TOKEN)
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .output()
        .expect("Python runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    let lines: Vec<_> = told.lines().collect();
    let expected = Content::made(1, 3_000_000);
    for line in &lines[..3] {
        assert_eq!(digest(Path::new(line)), expected.digest(), "{told}");
    }
    assert_eq!(lines[3], format!("{SMALL} folder/inner.txt {LARGE}"), "{told}");
    assert_eq!(lines[4], format!("3000000 {}", expected.digest()), "{told}");
    assert_eq!(lines[5..], ["demo/tiny-GGUF", "RevisionNotFoundError", "RepositoryNotFoundError"]);
}

const SCRIPT: &str = r#"
import os
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
large = "tiny-Q4_K_M.gguf"
print(hf_hub_download("demo/open", large))
print(hf_hub_download("demo/tiny-GGUF", large))
print(os.path.join(snapshot_download("demo/tiny-GGUF"), large))
api = HfApi()
tree = sorted(api.list_repo_tree("demo/tiny-GGUF", recursive=True), key=lambda f: (f.size > 100, f.path))
print(*[f.path for f in tree])
print(tree[-1].size, tree[-1].lfs.sha256)
print(*[m.id for m in api.list_models(search="tiny", limit=5)])
for repo, revision in [("demo/open", "none"), ("demo/none", "main")]:
    try:
        hf_hub_download(repo, large, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        print(type(error).__name__)
"#;
