//! Holds the house in order: which room may import which, and what every source file looks like.
//!
//! Rooms form a table, lowest first, and imports go down it only. A crate whose modules import each other in a loop can
//! be neither read nor tested in parts, and only a check keeps one from getting there.

// Helpers of tests may fail the test; clippy's exceptions for tests do not reach functions beside them.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

#[path = "tidy/causes.rs"]
mod causes;

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Lit, Macro, Meta, UseTree};

/// The rooms, lowest first. A room may import its own modules and those of rooms before it.
const ROOMS: [&str; 30] = [
    "types",
    "wire",
    "bbolt",
    "pb",
    "value",
    "config",
    "keyspace",
    "telemetry",
    "systemd",
    "audit",
    "traces",
    "files",
    "tls",
    "transport",
    "kms",
    "etcd",
    "election",
    "managed",
    "keyring",
    "inventory",
    "snapshot",
    "review",
    "rewrite",
    "proxy",
    "members",
    "sweep",
    "rotation",
    "admin",
    "app",
    "cli",
];

/// Past this many lines nobody reads a file as a whole.
const MAX_LINES: usize = 500;

#[test]
fn imports_go_down_the_table() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        let text = fs::read_to_string(&file).expect("a source file");
        let path: Vec<_> = module_of(&file);
        if path.is_empty() {
            continue;
        }
        wrong.extend(
            violations(&text, &path)
                .into_iter()
                .map(|why| format!("{}: {why}", file.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_say_what_they_are_for_and_stay_small() {
    let mut wrong = Vec::new();
    let files = [
        "src",
        "tests",
        "benches",
        "fuzz/src",
        "fuzz/fuzz_targets",
        "spec/src",
        "spec/tests",
    ]
    .into_iter()
    .flat_map(sources)
    .chain(["build.rs", "fuzz/build.rs"].map(|file| root().join(file)));
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines, {MAX_LINES} at most", file.display()));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{}: does not open with `//!`", file.display()));
        }
        let tokens: TokenStream = text.parse().expect("Rust's tokens");
        if has_ident(tokens, "unsafe") {
            wrong.push(format!("{}: has `unsafe` code", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files in a folder of the crate; none where there is no such folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder's entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The module that a file under `src` holds; empty for the crate's roots, which know every room.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file
        .strip_prefix(root().join("src"))
        .expect("a file under src")
        .with_extension("");
    let parts: Vec<_> = relative
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts == ["lib"] || parts == ["main"] {
        Vec::new()
    } else {
        parts
    }
}

/// What is wrong with the imports of a module's text.
fn violations(text: &str, module: &[String]) -> Vec<String> {
    let file = syn::parse_file(text).expect("Rust");
    let mut imports = Imports {
        module: module.to_vec(),
        rooms: Vec::new(),
        wrong: Vec::new(),
    };
    imports.visit_file(&file);
    let Imports {
        mut rooms, mut wrong, ..
    } = imports;
    rooms.sort();
    rooms.dedup();
    let Some(level) = ROOMS.iter().position(|&room| room == module[0]) else {
        wrong.push(format!("the room `{}` is not in the table", module[0]));
        return wrong;
    };
    for room in rooms {
        match ROOMS.iter().position(|&other| other == room) {
            Some(other) if other <= level => {}
            Some(_) => wrong.push(format!("`{}` imports `{room}`, which is above it", module[0])),
            None => wrong.push(format!("imports `crate::{room}`, which is no room of the table")),
        }
    }
    wrong
}

/// Collects the rooms that a file's paths lead to.
struct Imports {
    /// Where the walk is, inline modules included.
    module: Vec<String>,
    rooms: Vec<String>,
    wrong: Vec<String>,
}

impl Imports {
    /// Notes the room that a path leads to, if it passes through the crate's root.
    fn path(&mut self, segments: &[String]) {
        let mut up = match segments.first().map(String::as_str) {
            Some("crate") => self.module.len(),
            Some("super" | "self") => 0,
            _ => return,
        };
        let mut rest = segments;
        while let Some((first, tail)) = rest.split_first() {
            match first.as_str() {
                "super" => up += 1,
                "crate" | "self" => {}
                _ => break,
            }
            rest = tail;
        }
        if up < self.module.len() {
            return;
        }
        match rest.first() {
            Some(room) if room != "*" => self.rooms.push(room.clone()),
            _ => self
                .wrong
                .push(format!("`{}` imports the whole crate", segments.join("::"))),
        }
    }

    /// Every leaf of a `use` tree is a path.
    fn tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
            UseTree::Name(name) => self.leaf(before, name.ident.to_string()),
            UseTree::Rename(rename) => self.leaf(before, rename.ident.to_string()),
            UseTree::Glob(_) => self.leaf(before, "*".to_owned()),
        }
    }

    fn leaf(&mut self, before: &[String], last: String) {
        let mut path = before.to_vec();
        path.push(last);
        self.path(&path);
    }

    /// Finds paths among tokens that are not parsed: what macros are given.
    fn tokens(&mut self, tokens: TokenStream) {
        let trees: Vec<_> = tokens.into_iter().collect();
        for (index, tree) in trees.iter().enumerate() {
            match tree {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) if ident == "crate" || ident == "super" => {
                    // In the middle of a path that was noted from its beginning.
                    if index >= 1 && is_colon(trees.get(index - 1)) {
                        continue;
                    }
                    let mut path = vec![ident.to_string()];
                    let mut at = index + 1;
                    while is_colon(trees.get(at)) && is_colon(trees.get(at + 1)) {
                        let Some(TokenTree::Ident(next)) = trees.get(at + 2) else {
                            break;
                        };
                        path.push(next.to_string());
                        at += 3;
                    }
                    if path.len() > 1 {
                        self.path(&path);
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.path(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.visit_path(&item.path);
        self.tokens(item.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            // Links in documentation may point anywhere.
            Meta::NameValue(pair) if pair.path.is_ident("doc") => {}
            Meta::List(list) => {
                self.tokens(list.tokens.clone());
                for tree in list.tokens.clone() {
                    // `#[serde(with = "crate::room::module")]`
                    if let TokenTree::Literal(literal) = tree
                        && let Lit::Str(text) = Lit::new(literal)
                        && let Ok(path) = text.parse::<syn::Path>()
                    {
                        self.visit_path(&path);
                    }
                }
            }
            _ => visit::visit_attribute(self, attribute),
        }
    }
}

fn is_colon(tree: Option<&TokenTree>) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

fn has_ident(tokens: TokenStream, wanted: &str) -> bool {
    tokens.into_iter().any(|tree| match tree {
        TokenTree::Group(group) => has_ident(group.stream(), wanted),
        TokenTree::Ident(ident) => ident == wanted,
        _ => false,
    })
}

#[test]
fn the_check_sees_every_way_to_import() {
    let module = ["wire".to_owned(), "varint".to_owned()];
    let above = [
        "use crate::proxy::Server;",
        "use crate::{types::Key, proxy::{Server, Route}};",
        "use crate::proxy as p;",
        "use super::super::proxy::Server;",
        "fn f() -> crate::proxy::Server { todo() }",
        "fn f() { let x = crate::proxy::run(); }",
        "fn f() { println!(\"{}\", crate::proxy::NAME); }",
        "fn f() { assert!(matches!(x, Some(super::super::proxy::Kind::A))); }",
        "#[serde(with = \"crate::proxy::text\")] struct S;",
        "#[derive(crate::proxy::Derive)] struct S;",
        "mod tests { use super::super::super::proxy::Server; }",
        "impl crate::proxy::Serve for S {}",
        "use crate::elsewhere::X;",
        "use crate::*;",
    ];
    for text in above {
        assert_eq!(violations(text, &module).len(), 1, "{text}");
    }
    let fine = [
        "use crate::types::Key;",
        "use crate::wire::field::Field;",
        "use super::field::Field;",
        "use super::super::types::Key;",
        "mod tests { use super::*; use super::super::field; }",
        "pub(in crate::wire) fn f() {}",
        "/// See [`crate::proxy`].\nfn f() {}",
        "use std::fmt; use bytes::Bytes; use self::inner::X;",
    ];
    for text in fine {
        assert_eq!(violations(text, &module), Vec::<String>::new(), "{text}");
    }
    assert_eq!(
        violations("", &["attic".to_owned()]).len(),
        1,
        "a room that is not in the table"
    );
}
