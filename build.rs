//! Compiles `proto/` into messages and clients for the tests, and into a descriptor that the table of RPCs is checked
//! against. Needs no `protoc`: protox is a compiler in Rust.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const ROOTS: [&str; 11] = [
    "mvccpb.proto",
    "authpb.proto",
    "etcdserverpb/kv.proto",
    "etcdserverpb/watch.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/auth.proto",
    "v3lockpb.proto",
    "v3electionpb.proto",
    "health.proto",
];

/// The compiler's version, as in `1.90.0`.
fn rustc_version() -> Result<String, Box<dyn Error>> {
    let output = Command::new(env::var("RUSTC")?).arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    // For the build info metric.
    println!("cargo::rustc-env=BUILD_TARGET={}", env::var("TARGET")?);
    println!("cargo::rustc-env=BUILD_RUSTC={}", rustc_version()?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new([Path::new("proto")])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(ROOTS)?;
    fs::write(out.join("etcd.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_server(false)
        .include_file("etcd.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
