//! Where the page of a benchmark goes: to `docs/benchmarks` with `-- --accept`, else to `target`, where nobody keeps it.

use std::path::PathBuf;
use std::{env, fs};

/// Prints the page and writes it as `name`: to `target/<bench>` unless it is to be kept.
pub fn write(bench: &str, name: &str, page: &str) {
    println!("{page}");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = if env::args().any(|argument| argument == "--accept") {
        root.join("docs/benchmarks")
    } else {
        root.join("target").join(bench)
    };
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(name), page).expect("a page");
    eprintln!("written to {}", folder.join(name).display());
}
