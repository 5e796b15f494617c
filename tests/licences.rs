//! Everything we link may be given away under MIT or Apache-2.0.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, LicenseReq};

/// The routers' targets, and the development machine's.
const TARGETS: &[&str] =
    &["aarch64-unknown-linux-musl", "mips-unknown-linux-musl", "x86_64-unknown-linux-gnu"];

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = allowed();
    let packages = packages();
    assert!(packages.len() > 50, "cargo metadata lists only {} packages", packages.len());
    let wrong: Vec<String> = packages
        .iter()
        .filter(|(_, licence)| !permits(licence.as_deref(), &allowed))
        .map(|(name, licence)| format!("{name}: {}", licence.as_deref().unwrap_or("no licence")))
        .collect();
    assert!(wrong.is_empty(), "not allowed by deny.toml:\n{}", wrong.join("\n"));
}

#[test]
fn copyleft_and_silence_are_refused() {
    let allowed = allowed();
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "Apache-2.0 WITH LLVM-exception"] {
        assert!(permits(Some(good), &allowed), "{good}");
    }
    for bad in [Some("GPL-3.0-only"), Some("MIT AND LGPL-2.1-only"), Some("mine"), Some(""), None] {
        assert!(!permits(bad, &allowed), "{bad:?}");
    }
}

/// The allow-list of deny.toml.
fn allowed() -> Vec<String> {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let list = deny["licenses"]["allow"].as_array().unwrap();
    list.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Whether an SPDX expression can be met from the allow-list alone. An exception only adds
/// rights, so it is not looked at.
fn permits(licence: Option<&str>, allowed: &[String]) -> bool {
    // Old manifests write "MIT/Apache-2.0" where SPDX has "OR".
    let Ok(expression) = Expression::parse(&licence.unwrap_or_default().replace('/', " OR "))
    else {
        return false;
    };
    expression.evaluate(|required: &LicenseReq| {
        required.license.id().is_some_and(|id| allowed.iter().any(|name| name == id.name))
    })
}

/// Every package that is built for one of [`TARGETS`], ourselves left out, with its licence.
fn packages() -> Vec<(String, Option<String>)> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--locked"]).current_dir(root());
    cargo.args(TARGETS.iter().flat_map(|target| ["--filter-platform", target]));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let built: Vec<&Value> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| !package["source"].is_null() && built.contains(&&package["id"]))
        .map(|package| {
            let name = format!("{} {}", package["name"], package["version"]).replace('"', "");
            (name, package["license"].as_str().map(str::to_owned))
        })
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
