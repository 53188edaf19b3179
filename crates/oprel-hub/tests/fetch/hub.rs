//! The hub's protocol: commits, lists, links, tokens, gates.

use oprel_hub::fetch::Error;
use oprel_test_hub::{Content, Fault, Gate, Repo, Role, TOKEN};

use crate::{Place, quick};

const NAME: &str = "hf.co/demo/tiny-GGUF";
const LARGE: u64 = 600_000;

fn repo() -> Repo {
    Repo::default()
        .with("README.md", Content::kept("# tiny"))
        .with("LICENSE", Content::kept("Do as you like."))
        .with("template", Content::kept("{{ .Prompt }}"))
        .with("params", Content::kept("{\"temperature\":0.5}"))
        .with("tiny-Q4_K_M.gguf", Content::made(1, LARGE))
        .with("tiny-Q8_0.gguf", Content::made(2, LARGE + 1))
        .with("mmproj-tiny-F16.gguf", Content::made(3, 50_000))
        .with("big/tiny-F16-00001-of-00002.gguf", Content::made(4, 70_000))
        .with("big/tiny-F16-00002-of-00002.gguf", Content::made(5, 80_000))
}

fn place(token: Option<&str>) -> Place {
    let place = Place::new(|settings| {
        settings.part_bytes = Some(128 << 10);
        settings.streams = 2;
        settings.token = token.map(str::to_owned);
    });
    place.hub.add("demo/tiny-GGUF", repo());
    place
}

#[test]
fn a_repository_becomes_a_model_in_ollamas_layout() {
    let place = place(Some(TOKEN));
    let (found, told) = place.pull(NAME);
    found.expect("it comes");
    let store = place.store();
    let manifest = store.manifest(NAME);
    let kinds: Vec<_> = manifest["layers"].as_array().expect("layers").iter().collect();
    let names: Vec<_> = kinds.iter().map(|l| l["mediaType"].as_str().expect("a type")).collect();
    let of = |kind: &str| format!("application/vnd.ollama.image.{kind}");
    assert_eq!(names, ["model", "projector", "license", "params", "template"].map(of));
    assert_eq!(store.layer(kinds[0]), Content::made(1, LARGE).all());
    assert_eq!(store.layer(kinds[4]), b"{{ .Prompt }}");
    let config: serde_json::Value =
        serde_json::from_slice(&store.layer(&manifest["config"])).expect("JSON");
    assert_eq!(config["file_type"], "Q4_K_M");
    assert_eq!(config["model_family"], "llama");
    assert_eq!(config["model_type"], "1M");
    assert_eq!(config["source"]["commit"], Repo::default().commit);

    let words: Vec<_> = told.iter().map(|status| status.status.as_str()).collect();
    assert_eq!(words[0], "pulling manifest");
    let end = ["verifying sha256 digest", "writing manifest", "success"];
    assert_eq!(words[words.len() - 3..], end);
    let last = told.iter().rfind(|status| status.completed > 0).expect("bytes were told");
    assert_eq!(last.completed, last.total);
    let json = serde_json::to_string(&told[1]).expect("JSON");
    let digest = Content::made(1, LARGE);
    let digest = digest.digest();
    let begin =
        format!("{{\"status\":\"pulling {}\",\"digest\":\"sha256:{digest}\"", &digest[..12]);
    assert!(json.starts_with(&begin), "{json}");
    assert!(json.contains(&format!(",\"total\":{LARGE}")), "{json}");
    // What is not there is not said.
    let begun = oprel_hub::fetch::Status { completed: 0, ..told[1].clone() };
    let json = serde_json::to_string(&begun).expect("JSON");
    assert!(json.ends_with(&format!(",\"total\":{LARGE}}}")), "{json}");
}

#[test]
fn the_second_pull_fetches_no_file_and_makes_the_same_manifest() {
    let place = place(None);
    place.pull(NAME).0.expect("it comes");
    let before = place.store().manifest(NAME);
    place.hub.forget();
    place.pull(NAME).0.expect("it is there");
    assert_eq!(place.store().manifest(NAME), before);
    assert!(place.hub.seen().iter().all(|seen| seen.role == Role::Hub));
    assert!(place.hub.sent() < 1000, "only what is written beside the model is read again");
}

#[test]
fn split_files_come_in_order_with_their_names() {
    let place = place(None);
    place.pull("hf.co/demo/tiny-GGUF:f16").0.expect("it comes");
    let manifest = place.store().manifest("hf.co/demo/tiny-GGUF:f16");
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers[0]["name"], "tiny-F16-00001-of-00002.gguf");
    assert_eq!(layers[1]["name"], "tiny-F16-00002-of-00002.gguf");
    assert_eq!(place.store().layer(&layers[1]), Content::made(5, 80_000).all());
}

#[test]
fn a_wrong_tag_says_what_is_there() {
    let place = place(None);
    match place.pull("hf.co/demo/tiny-GGUF:Q4_K_S").0 {
        Err(error @ Error::NoVariant { .. }) => {
            assert_eq!(error.hint().as_deref(), Some("there are: Q4_K_M, Q8_0, F16"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lists_over_many_pages_are_read_to_the_end() {
    let place = place(None);
    place.hub.page(2);
    place.pull("hf.co/demo/tiny-GGUF:Q8_0").0.expect("it comes");
    let pages = place.hub.seen().iter().filter(|seen| seen.path.contains("/tree/")).count();
    assert_eq!(pages, 5);
}

#[test]
fn the_token_is_told_to_the_hub_and_to_nobody_else() {
    let place = place(Some(TOKEN));
    place.pull(NAME).0.expect("it comes");
    let told = |role| {
        let seen = place.hub.seen();
        let mut of = seen.into_iter().filter(move |seen| seen.role == role);
        of.all(|seen| seen.headers.contains_key("authorization"))
    };
    assert!(told(Role::Hub));
    assert_eq!(place.hub.leaks(), [""; 0]);
}

#[test]
fn links_that_expire_are_asked_for_again() {
    let place = place(None);
    place.hub.pace(400_000);
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| place.pull(NAME).0);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(60));
            place.hub.expire();
        }
        pull.join().expect("no panic").expect("it comes");
    });
    // Between two answers a link is told to be of no use.
    let place = self::place(None);
    place.hub.fault(Role::Cdn, "tiny-Q4_K_M", 1, 2, Fault::Status(403, None));
    place.pull(NAME).0.expect("it comes");
}

#[test]
fn links_that_never_work_are_not_asked_for_without_end() {
    let place = place(None);
    place.hub.fault(Role::Cdn, "tiny-Q4_K_M", 0, 10_000, Fault::Status(403, None));
    let found = place.pull(NAME).0;
    assert!(matches!(found, Err(Error::Protocol { .. })), "{found:?}");
    assert!(place.hub.seen().len() < 60);
}

#[test]
fn files_in_the_other_storage_come_over_its_bridge() {
    let place = place(Some(TOKEN));
    place.hub.change("demo/tiny-GGUF", |repo| repo.is_xet = true);
    place.pull(NAME).0.expect("it comes");
    assert!(place.hub.seen().iter().any(|seen| seen.role == Role::Bridge));
    assert!(!place.hub.seen().iter().any(|seen| seen.role == Role::Cdn));
}

#[test]
fn gates_are_told_apart_from_what_is_not_there() {
    let gated = |gate, token| {
        let place = place(token);
        place.hub.change("demo/tiny-GGUF", |repo| repo.gate = gate);
        place.pull(NAME).0
    };
    gated(Gate::Token, Some(TOKEN)).expect("the token opens it");
    for (gate, token) in [(Gate::Token, None), (Gate::Closed, None), (Gate::Closed, Some(TOKEN))] {
        match gated(gate, token) {
            Err(error @ Error::Gated { .. }) => {
                let hint = error.hint().expect("what to do");
                assert!(hint.contains("/demo/tiny-GGUF"), "{hint}");
                assert_eq!(hint.contains("set HF_TOKEN"), token.is_none(), "{hint}");
            }
            other => panic!("{gate:?} {token:?}: {other:?}"),
        }
    }
    gated(Gate::Private, Some(TOKEN)).expect("the token shows it");
    let found = gated(Gate::Private, None);
    assert!(matches!(found, Err(Error::NoRepository { token: false, .. })), "{found:?}");
    let place = place(Some(TOKEN));
    let found = place.pull("hf.co/demo/none").0;
    assert!(matches!(found, Err(Error::NoRepository { token: true, .. })), "{found:?}");
}

#[test]
fn the_commit_that_was_found_first_is_the_one_that_is_fetched() {
    let place = place(None);
    place.pull(NAME).0.expect("it comes");
    let commit = Repo::default().commit;
    let resolved = place.hub.seen();
    let resolved = resolved.iter().filter(|seen| seen.path.contains("/resolve/"));
    assert!(resolved.clone().count() > 0);
    assert!(resolved.into_iter().all(|seen| seen.path.contains(&commit)));
}

#[test]
fn a_hub_that_is_busy_is_asked_again() {
    let place = place(None);
    for path in ["/revision/", "/tree/", "/resolve/"] {
        place.hub.fault(Role::Hub, path, 0, 2, Fault::Status(503, None));
    }
    place.pull(NAME).0.expect("it comes");
}

#[test]
fn without_the_usual_quant_it_is_said_what_is_taken() {
    let place = place(None);
    place.hub.change("demo/tiny-GGUF", |repo| _ = repo.files.remove("tiny-Q4_K_M.gguf"));
    let (found, told) = place.pull(NAME);
    found.expect("it comes");
    assert!(told.iter().any(|status| status.status.starts_with("using Q8_0")), "{told:?}");
}

#[test]
fn hostile_names_in_a_list_are_refused() {
    for name in ["../escape-Q4_K_M.gguf", "a/../../b-Q4_K_M.gguf", "/etc/x-Q4_K_M.gguf"] {
        let place = place(None);
        let content = Content::made(9, 5000);
        place.hub.change("demo/tiny-GGUF", |repo| _ = repo.files.insert(name.into(), content));
        let found = place.pull(NAME).0;
        assert!(matches!(found, Err(Error::Protocol { .. })), "{found:?}");
    }
}

#[test]
fn searching_tells_quants_and_sizes() {
    let place = place(None);
    place.hub.add("other/thing", Repo::default());
    let found = place.runtime.block_on(place.fetcher.search("tiny", 5)).expect("it answers");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].repo.as_str(), found[0].parameters), ("demo/tiny-GGUF", Some(1_000_000)));
    let variants: Vec<_> = found[0].variants.iter().map(|v| (v.tag.as_str(), v.size)).collect();
    assert_eq!(variants, [("F16", 150_000), ("Q4_K_M", LARGE), ("Q8_0", LARGE + 1)]);
    let asked = place.hub.seen();
    let asked = asked.iter().find(|seen| seen.path.starts_with("/api/models?")).expect("asked");
    assert!(asked.path.contains("search=tiny&filter=gguf"), "{}", asked.path);
}

#[test]
fn an_interrupted_pull_goes_on_under_another_commit_with_the_same_file() {
    let place = place(None);
    place.hub.fault(Role::Cdn, "tiny-Q4_K_M", 4, 1000, Fault::Status(400, None));
    place.pull(NAME).0.expect_err("it breaks");
    let came = place.hub.sent();
    assert!(came > 128 << 10, "{came}");
    place.hub.heal();
    place.hub.forget();
    place.hub.change("demo/tiny-GGUF", |repo| repo.commit = "badcafe0".repeat(5));
    place.pull(NAME).0.expect("it comes");
    assert!(place.hub.sent() < LARGE + 60_000 - 100_000, "what had come is not fetched again");
}

#[test]
fn a_file_at_an_address_becomes_a_model() {
    let place = place(None);
    let content = Content::made(6, LARGE);
    let name = oprel_api::ollama::ModelName::parse("mine").expect("a name");
    let store = place.store();
    let pull = |link: String| {
        let url = link.parse().expect("an address");
        place.runtime.block_on(place.fetcher.pull_address(&url, &name, &store, &|_| {}))
    };
    let link = place.hub.link(&content, "thing-Q5_K_M.gguf");
    place.hub.fault(Role::Cdn, "thing", 4, 1000, Fault::Status(400, None));
    pull(link).expect_err("it breaks");
    place.hub.heal();
    place.hub.forget();
    // Another signature is another address of the same file.
    place.hub.expire();
    pull(place.hub.link(&content, "thing-Q5_K_M.gguf")).expect("it goes on");
    assert!(place.hub.sent() < LARGE);
    let manifest = store.manifest("mine");
    assert_eq!(store.layer(&manifest["layers"][0]), content.all());
    let config: serde_json::Value =
        serde_json::from_slice(&store.layer(&manifest["config"])).expect("JSON");
    assert_eq!(config["file_type"], "Q5_K_M");
    let signed = config.to_string().contains("Signature");
    assert!(!signed && std::fs::read_dir(store.0.join("parts")).expect("there").count() == 0);
}

#[test]
fn a_store_that_is_offline_asks_nobody() {
    let mut settings = quick();
    settings.is_offline = true;
    let place = Place::new(|own| *own = settings);
    assert!(matches!(place.pull(NAME).0, Err(Error::Offline { .. })));
}
