//! Replays what the fuzzers start from, without a fuzzer: `fuzz/corpus`, a folder a target. What a
//! fuzzer finds goes there too, and stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use targets::{ALL, Target};

#[test]
fn every_seed_is_answered() {
    for (name, target) in ALL {
        let seeds = replay(&fuzz().join("corpus").join(name), target);
        assert!(seeds > 0, "fuzz/corpus/{name} is empty");
    }
}

#[test]
fn every_target_can_be_fuzzed() {
    let names = |folder| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        entries.map(|entry| stem(entry.unwrap().path())).collect()
    };
    let targets = ALL.map(|(name, _)| name.to_owned()).into();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("\"fuzz_targets/{name}.rs\"")), "{name}");
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("maitred_fuzz::{name}(bytes)")), "{name}");
    }
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn replay(folder: &Path, target: Target) -> usize {
    let mut replayed = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        // Shown by the test runner if the next line panics.
        println!("{}", path.display());
        target(&fs::read(&path).unwrap());
        replayed += 1;
    }
    replayed
}
