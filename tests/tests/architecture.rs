//! The directions between packages, and where `unsafe` may stand, read off the workspace itself.

#![allow(clippy::unwrap_used, reason = "a test that can not read the workspace fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use carrack_tests::root;
use serde_json::Value;

/// Where a package lies and which packages of the workspace it is built with.
struct Package {
    folder: String,
    needs: Vec<String>,
    external: Vec<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = metadata["packages"].as_array().unwrap();
    all.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), read(package))).collect()
}

fn read(package: &Value) -> Package {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let folder = manifest.parent().unwrap().strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let normal = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
    let (own, external): (Vec<&Value>, Vec<&Value>) = normal.partition(|d| d["path"].is_string());
    let names = |list: Vec<&Value>| list.iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect();
    Package { folder, needs: names(own), external: names(external) }
}

#[test]
fn control_and_node_meet_in_api_objects_alone() {
    let all = packages();
    for (name, package) in &all {
        for needed in &package.needs {
            let other = &all[needed].folder;
            let side = |folder: &str| folder.split('/').next().unwrap_or_default().to_owned();
            let (from, to) = (side(&package.folder), side(other));
            let crossing = (from == "control" && to == "node") || (from == "node" && to == "control");
            assert!(!crossing, "{name} ({}) depends on {needed} ({other})", package.folder);
        }
    }
}

#[test]
fn nothing_depends_on_the_binary_and_the_tools_on_nothing() {
    for (name, package) in packages() {
        for binary in ["carrack", "xtask", "carrack-tests", "carrack-simulation"] {
            assert!(!package.needs.iter().any(|n| n == binary), "{name} depends on {binary}");
        }
        if name == "xtask" {
            assert_eq!(package.needs, Vec::<String>::new(), "set-up must build before anything else does");
        }
    }
}

#[test]
fn the_api_machinery_is_pure() {
    let all = packages();
    for impure in ["tokio", "hyper", "kube", "nix", "rustix", "tracing"] {
        let found = all["carrack-api"].external.iter().any(|n| n == impure);
        assert!(!found, "control/api depends on {impure}");
    }
}

#[test]
fn the_simulation_sees_the_store_alone() {
    assert_eq!(packages()["carrack-simulation"].needs, ["carrack-store"]);
}

#[test]
fn the_supervisor_is_small() {
    let supervisor = &packages()["carrack-supervisor"];
    assert_eq!(supervisor.needs, ["carrack-files", "carrack-runtime"]);
    let heavy = ["hyper", "kube", "k8s-openapi", "tracing", "cgroups-rs"];
    assert!(!supervisor.external.iter().any(|n| heavy.contains(&n.as_str())));
}

/// The places that the design allows; every other file is held by the lint `unsafe_code`, unless it lifts it.
#[test]
fn unsafe_stands_where_it_may() {
    let allowed =
        ["node/runtime/", "node/supervisor/", "node/network/src/sys", "node/cgroups/src/sys", "ebpf/"];
    let output = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().unwrap();
    for file in String::from_utf8_lossy(&output.stdout).lines() {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        let lifts = text.contains("allow(unsafe_code)");
        let here = file.ends_with("tests/architecture.rs") || allowed.iter().any(|a| file.starts_with(a));
        assert!(!lifts || here, "{file} allows unsafe code");
    }
}

#[test]
fn files_say_what_they_are_for() {
    let output = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().unwrap();
    for file in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else { continue };
        assert!(text.starts_with("//!"), "{file} does not begin with //! that says what it is for");
    }
}
