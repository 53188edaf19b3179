//! Rules of the tree: floors, where unsafe may be, no C and no C++ in what is built.

use std::fs;
use std::path::{Path, PathBuf};

use oprel_tests::root;

/// Every package and its floor. A package depends on lower floors only.
const FLOORS: &[(&str, &str, u32)] = &[
    ("crates/oprel-quant", "oprel-quant", 0),
    ("crates/oprel-api", "oprel-api", 0),
    ("crates/oprel-gguf", "oprel-gguf", 1),
    ("kernels/oprel-cpu", "oprel-cpu", 1),
    ("kernels/oprel-windows", "oprel-windows", 0),
    ("crates/oprel-nn", "oprel-nn", 2),
    ("crates/oprel-tokenizer", "oprel-tokenizer", 2),
    ("crates/oprel-chat", "oprel-chat", 2),
    ("crates/oprel-config", "oprel-config", 0),
    ("crates/oprel-hub", "oprel-hub", 3),
    ("crates/oprel-telemetry", "oprel-telemetry", 2),
    ("crates/oprel-tools", "oprel-tools", 5),
    ("crates/oprel-constraint", "oprel-constraint", 3),
    ("models", "oprel-models", 3),
    ("crates/oprel-engine", "oprel-engine", 4),
    ("crates/oprel-backend", "oprel-backend", 5),
    ("crates/oprel-tls", "oprel-tls", 0),
    ("crates/oprel-client", "oprel-client", 6),
    ("crates/oprel-remote", "oprel-remote", 7),
    ("crates/oprel", "oprel", 7),
    ("crates/oprel-server", "oprel-server", 8),
    ("crates/oprel-cli", "oprel-cli", 9),
];

/// Packages whose job is to compile C or C++ for others.
const COMPILERS: &[&str] =
    &["cc", "cmake", "bindgen", "nasm-rs", "autotools", "cxx", "cxx-build", "link-cplusplus"];

/// Packages that may compile C, each with its reason. None may compile C++.
const MAY_COMPILE_C: &[&str] = &[
    // Never built: a feature of rustls-webpki that nobody turns on names it, and so does the lock file.
    "ring",
];

#[test]
fn packages_depend_on_lower_floors_only() {
    for (path, name, floor) in FLOORS {
        let manifest = read(&root().join(path).join("Cargo.toml"));
        let (normal, _) = manifest.split_once("[dev-dependencies]").unwrap_or((&manifest, ""));
        for (_, other, other_floor) in FLOORS {
            let uses = normal.lines().any(|l| {
                l.starts_with(&format!("{other}.")) || l.starts_with(&format!("{other} "))
            });
            assert!(
                !uses || other_floor < floor,
                "{name} (floor {floor}) uses {other} ({other_floor})"
            );
        }
    }
}

#[test]
fn every_package_has_a_floor() {
    let mut found = vec!["models".to_string()];
    for folder in ["crates", "kernels"] {
        for entry in fs::read_dir(root().join(folder)).expect("part of the tree") {
            let path = entry.expect("readable").path();
            if path.join("Cargo.toml").exists() {
                let name = path.file_name().and_then(|n| n.to_str()).expect("UTF-8");
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found.sort();
    let mut known: Vec<_> = FLOORS.iter().map(|(path, _, _)| path.to_string()).collect();
    known.sort();
    assert_eq!(found, known);
}

#[test]
fn unsafe_code_is_in_kernels_and_the_map_alone() {
    let opens =
        |text: &str| ["expect", "allow"].iter().any(|a| text.contains(&format!("{a}(unsafe_code")));
    let files = rust_files(root()).into_iter().filter(|f| opens(&read(f)));
    let names =
        files.map(|f| f.strip_prefix(root()).expect("below").to_string_lossy().replace('\\', "/"));
    let may =
        |f: &str| f.starts_with("kernels/") || f == "crates/oprel-gguf/src/map.rs" || is_test(f);
    let others: Vec<_> = names.filter(|f| !may(f)).collect();
    assert!(others.is_empty(), "unsafe code is allowed in {others:?}");
}

/// Test binaries may need a counting allocator or a signal.
fn is_test(file: &str) -> bool {
    file.contains("/tests/")
}

#[test]
fn nothing_that_is_built_compiles_c() {
    let lock = read(&root().join("Cargo.lock"));
    let packages: Vec<&str> = lock.split("[[package]]").skip(1).collect();
    assert!(packages.len() > 50, "the lock file was read");
    for package in packages {
        let name = package.lines().find_map(|l| l.strip_prefix("name = ")).expect("has a name");
        let name = name.trim_matches('"');
        let uses = package.lines().map(|l| l.trim().trim_matches(&['"', ','][..]));
        let compiler = uses.filter_map(|l| l.split(' ').next()).find(|u| COMPILERS.contains(u));
        let allowed = MAY_COMPILE_C.contains(&name);
        assert!(compiler.is_none() || allowed, "{name} compiles C or C++ with {compiler:?}");
    }
}

#[test]
fn what_the_lock_file_names_for_nothing_is_in_no_build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for name in MAY_COMPILE_C {
        let tree = std::process::Command::new(&cargo)
            .current_dir(root())
            .args(["tree", "--workspace", "--locked", "--edges", "normal,build"])
            .args(["--all-features", "--invert", name])
            .output()
            .expect("cargo runs");
        let users = String::from_utf8_lossy(&tree.stdout).into_owned();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        assert_eq!(users, "", "{name} is built");
    }
}

#[test]
fn files_have_one_idea() {
    for file in rust_files(root()) {
        let lines = read(&file).lines().count();
        assert!(lines <= 900, "{} has {lines} lines", file.display());
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Rust sources of the tree, build output left out.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("part of the tree") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files
}
