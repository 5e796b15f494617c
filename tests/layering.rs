//! The house's shape: dependencies run one way, the domain is pure, files stay small.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Each layer and what it may name of ours; `domain` stands at the bottom.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("wire", &["domain"]),
    ("clock", &["domain"]),
    ("config", &["domain", "clock"]),
    ("adapters", &["domain", "wire", "clock", "config"]),
    ("gateway", &["domain", "wire", "clock", "config", "adapters"]),
    ("hq", &["domain", "clock", "config", "adapters"]),
    ("cli", &["domain", "wire", "clock", "config", "adapters", "gateway", "hq"]),
    ("main", &["domain", "wire", "clock", "config", "adapters", "gateway", "hq", "cli"]),
];

/// What the pure domain may not name: the roads to sockets, files, threads, clocks.
const IMPURE: &[&str] = &[
    "ring::rand",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Crates that only compute, and are therefore open to the domain.
const PURE_CRATES: &[&str] = &[
    "argon2",
    "crypto_box",
    "curve25519_dalek",
    "data_encoding",
    "hmac",
    "jiff",
    "rand",
    "ring",
    "serde",
    "sha2",
    "subtle",
    "thiserror",
];

/// Lines of a file before its tests, at most.
const LONGEST_FILE: usize = 400;
/// Functions have fewer lines than this, from `fn` to the closing brace.
const LONGEST_FUNCTION: usize = 60;

#[test]
fn dependencies_run_one_way() {
    let crates = dependencies();
    let wrong: Vec<String> = sources()
        .iter()
        .flat_map(|(path, text)| wrong_arrows(path, text, &crates).unwrap())
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn files_and_functions_stay_small() {
    for (path, text) in sources() {
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        let path = path.display();
        assert!(lines <= LONGEST_FILE, "src/{path}: {lines} lines, more than {LONGEST_FILE}");
        // clippy.toml bounds what is in them, comments and signature apart; nobody may opt out.
        assert!(!text.contains("too_many_lines"), "src/{path} allows functions of any length");
        let mut functions = Functions::default();
        functions.visit_file(&syn::parse_file(&text).unwrap());
        let long: Vec<_> =
            functions.0.iter().filter(|(_, lines)| *lines >= LONGEST_FUNCTION).collect();
        assert!(long.is_empty(), "src/{path}: {LONGEST_FUNCTION} lines or more: {long:?}");
    }
}

/// The name of each function, and its lines from `fn` to the closing brace.
#[derive(Default)]
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let last = body.brace_token.span.close().end().line;
        self.0.push((signature.ident.to_string(), last - first + 1));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn only_the_modem_starts_programs() {
    for (path, text) in sources() {
        let starts = text.contains("process::Command") || text.contains("Command::new");
        let test =
            path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        let modem = path == Path::new("adapters/sms/modem.rs");
        assert!(!starts || modem || test, "src/{} starts a program", path.display());
    }
}

/// Every file under `src/` with its text, paths relative to it.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 10, "too few sources under {}", root.display());
    files
}

/// The crates of Cargo.toml, as Rust names them.
fn dependencies() -> BTreeSet<String> {
    let manifest: toml::Table =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .unwrap()
            .parse()
            .unwrap();
    let names = manifest["dependencies"].as_table().unwrap().keys();
    names.map(|name| name.replace('-', "_")).collect()
}

/// The paths in one file that its layer may not name, each as a sentence.
fn wrong_arrows(
    path: &Path,
    text: &str,
    crates: &BTreeSet<String>,
) -> Result<Vec<String>, syn::Error> {
    let module = module_of(path);
    let layer = module.first().map_or("main", String::as_str);
    if layer == "lib" {
        return Ok(Vec::new());
    }
    let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return Ok(vec![format!("src/{}: no layer `{layer}` in this test", path.display())]);
    };
    let mut scan = Scan { module: module.clone(), named: BTreeSet::new() };
    scan.visit_file(&syn::parse_file(text)?);
    let wrong = scan.named.into_iter().filter(|name| match name.split("::").next() {
        Some("crate" | "maitred") => name
            .split("::")
            .nth(1)
            .is_some_and(|to| to != layer && to != "*" && !below.contains(&to)),
        Some(first) if layer == "domain" => {
            (crates.contains(first) && !PURE_CRATES.contains(&first))
                || IMPURE.iter().any(|bad| name == bad || name.starts_with(&format!("{bad}::")))
        }
        _ => false,
    });
    Ok(wrong.map(|name| format!("src/{}: {layer} may not name {name}", path.display())).collect())
}

/// `adapters/sms/spool.rs` → `[adapters, sms, spool]`.
fn module_of(path: &Path) -> Vec<String> {
    let names = path.with_extension("");
    let names = names.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name != "mod").collect()
}

/// Collects the paths that a file's own code names, absolute as far as that can be told.
struct Scan {
    module: Vec<String>,
    named: BTreeSet<String>,
}

impl Scan {
    fn add(&mut self, segments: &[String]) {
        let ups = segments.iter().take_while(|segment| *segment == "super").count();
        let rest = &segments[ups..];
        let path = match segments.first().map(String::as_str) {
            // One `super` of `a::b` is `crate::a`; inside an inline module it may be closer.
            Some("super") => {
                let kept = self.module.len().saturating_sub(ups);
                [&["crate".to_owned()], &self.module[..kept], rest].concat()
            }
            Some("self") => return,
            _ => segments.to_vec(),
        };
        self.named.insert(path.join("::"));
    }

    fn add_tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &dyn ToString| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(&with(&"*")),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(prefix, tree);
                }
            }
        }
    }

    /// Paths inside a macro's arguments, which are not parsed.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(&mut segments);
                    }
                    colons = 0;
                    segments.push(ident.to_string());
                }
                other => {
                    self.flush(&mut segments);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.flush(&mut segments);
    }

    fn flush(&mut self, segments: &mut Vec<String>) {
        if segments.len() > 1 {
            self.add(segments);
        }
        segments.clear();
    }
}

impl<'ast> Visit<'ast> for Scan {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        });
        if !test {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.add(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.add_tokens(call.tokens.clone());
    }
}

#[test]
fn the_scanner_sees_every_road_back() {
    let roads = [
        ("domain/a.rs", "use crate::adapters::http;"),
        ("domain/a.rs", "use crate::{domain::names, gateway};"),
        ("domain/auth/code.rs", "use super::super::super::clock::boot;"),
        ("domain/a.rs", "mod inner { fn f() -> crate::config::Config { todo!() } }"),
        ("domain/a.rs", "fn f() { g(format!(\"{}\", crate::wire::dhcp::name())); }"),
        ("domain/a.rs", "use tokio::sync::mpsc;"),
        ("domain/a.rs", "fn f() { let _ = std::fs::read(\"x\"); }"),
        ("domain/a.rs", "use std::{net::UdpSocket, time::Duration};"),
        ("domain/a.rs", "use std::time::Instant;"),
        ("wire/dns.rs", "use crate::clock;"),
        ("clock.rs", "use crate::config::Config;"),
        ("config/mod.rs", "use crate::adapters::*;"),
        ("adapters/http.rs", "impl crate::gateway::Port for X {}"),
        ("gateway.rs", "use maitred::cli::run;"),
        ("helpers.rs", ""),
    ];
    for (path, text) in roads {
        let found = wrong_arrows(Path::new(path), text, &dependencies()).unwrap();
        assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
    }
}

#[test]
fn the_scanner_lets_the_right_roads_pass() {
    let roads = [
        ("domain/a.rs", "use super::names::Mac; use std::net::IpAddr; use std::time::Duration;"),
        ("domain/auth/code.rs", "use crate::domain::names; use hmac::Mac; use super::throttle;"),
        ("domain/a.rs", "#[cfg(test)] mod tests { use tokio::sync; use super::*; }"),
        ("wire/dns.rs", "use crate::domain::names::Mac;"),
        ("adapters/http/mod.rs", "use crate::{clock, config::Config, domain, wire}; use tokio;"),
        ("main.rs", "use maitred::cli; fn main() { maitred::gateway::run() }"),
        ("lib.rs", "pub mod cli; pub use crate::cli::run;"),
    ];
    for (path, text) in roads {
        let found = wrong_arrows(Path::new(path), text, &dependencies()).unwrap();
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }
}
