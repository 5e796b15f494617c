//! Replays what the fuzzers start from, without a fuzzer: `fuzz/corpus`, a folder a target. What a
//! fuzzer finds goes there too, and stays.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// What a fuzzer calls with its bytes.
type Target = fn(&[u8]);

/// Every fuzz target: the folder's name and what `fuzz/fuzz_targets/<name>.rs` does with the bytes.
const TARGETS: &[(&str, Target)] = &[("frame", |bytes| {
    let _ = maitred::wire::evidence::parse(bytes);
})];

#[test]
fn every_seed_is_answered() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, target) in TARGETS {
        let seeds = replay(&fuzz.join("corpus").join(name), *target);
        assert!(seeds > 0, "fuzz/corpus/{name} is empty");
    }
}

#[test]
fn every_fuzz_target_is_replayed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut targets: Vec<String> = fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut replayed: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    replayed.sort();
    assert_eq!(targets, replayed);
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in targets {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
    }
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
