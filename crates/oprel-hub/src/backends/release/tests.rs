use super::*;

/// What a release has.
const NAMES: &[&str] = &[
    "cudart-llama-bin-win-cuda-12.4-x64.zip",
    "llama-b9000-bin-macos-arm64.tar.gz",
    "llama-b9000-bin-macos-x64.tar.gz",
    "llama-b9000-bin-ubuntu-arm64.tar.gz",
    "llama-b9000-bin-ubuntu-openvino-2026.0-x64.tar.gz",
    "llama-b9000-bin-ubuntu-vulkan-x64.tar.gz",
    "llama-b9000-bin-ubuntu-x64.tar.gz",
    "llama-b9000-bin-win-cpu-arm64.zip",
    "llama-b9000-bin-win-cpu-x64.zip",
    "llama-b9000-bin-win-cuda-12.4-x64.zip",
    "llama-b9000-bin-win-cuda-13.1-x64.zip",
    "llama-b9000-bin-ubuntu-../../x-x64.zip",
    "llama-b9000-xcframework.zip",
];

fn at() -> Url {
    "https://example.org/releases/latest".parse().expect("an address")
}

fn release() -> Release {
    let assets = NAMES.iter().map(|name| {
        serde_json::json!({"name": name, "size": 1, "browser_download_url": "https://example.org/x",
            "digest": format!("sha256:{}", "0".repeat(64)), "state": "uploaded"})
    });
    let written = serde_json::json!({"tag_name": "b9000", "assets": assets.collect::<Vec<_>>()});
    Release::parse(written.to_string().as_bytes(), &at()).expect("a release")
}

#[test]
fn every_machine_gets_its_archive() {
    let release = release();
    let chosen = |os, arch, variant| {
        let platform = Platform::of(os, arch).expect("known");
        release.choose(platform, variant).map(|asset| asset.name.as_str())
    };
    let ok = |os, arch, variant| chosen(os, arch, variant).expect("there is one");
    assert_eq!(ok("linux", "x86_64", None), "llama-b9000-bin-ubuntu-x64.tar.gz");
    assert_eq!(ok("linux", "x86_64", Some("cpu")), "llama-b9000-bin-ubuntu-x64.tar.gz");
    assert_eq!(ok("linux", "aarch64", None), "llama-b9000-bin-ubuntu-arm64.tar.gz");
    assert_eq!(ok("linux", "x86_64", Some("vulkan")), "llama-b9000-bin-ubuntu-vulkan-x64.tar.gz");
    let openvino = "llama-b9000-bin-ubuntu-openvino-2026.0-x64.tar.gz";
    assert_eq!(ok("linux", "x86_64", Some("openvino")), openvino);
    assert_eq!(ok("macos", "aarch64", None), "llama-b9000-bin-macos-arm64.tar.gz");
    assert_eq!(ok("windows", "x86_64", None), "llama-b9000-bin-win-cpu-x64.zip");
    assert_eq!(ok("windows", "aarch64", None), "llama-b9000-bin-win-cpu-arm64.zip");
    let cuda = Some("cuda-13.1");
    assert_eq!(ok("windows", "x86_64", cuda), "llama-b9000-bin-win-cuda-13.1-x64.zip");
    let either = chosen("windows", "x86_64", Some("cuda")).expect_err("which one?");
    assert!(either.hint().expect("a hint").contains("cuda-12.4, cuda-13.1"), "{either}");
}

#[test]
fn a_machine_that_nothing_is_made_for_is_told_so() {
    assert_eq!(Platform::of("linux", "riscv64"), None);
    assert_eq!(Platform::of("freebsd", "x86_64"), None);
    let platform = Platform::of("linux", "s390x").expect("known");
    let error = release().choose(platform, None).expect_err("there is none");
    assert_eq!(error.to_string(), "b9000 has no build 'cpu' for linux s390x");
    assert!(error.hint().expect("a hint").contains("build llama.cpp here"));
}

#[test]
fn a_version_is_b_and_a_number() {
    assert_eq!("b6123".parse::<Version>().expect("a version"), Version(6123));
    for text in ["", "b", "6123", "b06123", "b+1", "b-1", "b1/../..", "B1", "b99999999999", "b1 "] {
        assert!(text.parse::<Version>().is_err(), "{text}");
    }
}

#[test]
fn what_is_no_release_is_refused() {
    for text in ["", "[]", "{}", "{\"tag_name\":\"v1\",\"assets\":[]}", "{\"tag_name\":\"b1\"}"] {
        let error = Release::parse(text.as_bytes(), &at()).expect_err("no release");
        assert!(error.to_string().contains("no release of llama.cpp"), "{error}");
    }
}
