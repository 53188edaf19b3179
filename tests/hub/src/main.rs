//! A hub to try things with: `cargo run -p oprel-test-hub -- 4096` has a file of so many MiB.

use oprel_test_hub::{Content, Hub, Model, Repo, Role};

fn main() {
    let size = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(64_u64) << 20;
    let hub = Hub::start_on([18_080, 18_081, 18_082, 18_083, 18_084]);
    let content = Content::made(1, size);
    let repo = Repo::default()
        .with("model-Q4_K_M.gguf", content.clone())
        .with("README.md", Content::kept("# A model"));
    hub.add("demo/model-GGUF", repo);
    let model = Model::new("{\"model_format\":\"gguf\"}").with("model", content.clone());
    hub.add_model("library/demo:latest", model);
    println!("HF_ENDPOINT={} has demo/model-GGUF", hub.url(Role::Hub));
    println!("{}/library/demo:latest is the registry's", hub.url(Role::Registry));
    println!("{} {}", content.digest(), hub.link(&content, "file"));
    loop {
        std::thread::park();
    }
}
