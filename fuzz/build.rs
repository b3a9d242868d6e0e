//! Compiles `proto/` into messages, without the clients that the proxy's own tests have.

use std::error::Error;
use std::path::Path;

const ROOTS: [&str; 5] = [
    "etcdserverpb/kv.proto",
    "etcdserverpb/watch.proto",
    "etcdserverpb/lease.proto",
    "v3lockpb.proto",
    "v3electionpb.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../proto");
    let mut compiler = protox::Compiler::new([Path::new("../proto")])?;
    compiler.include_imports(true);
    compiler.open_files(ROOTS)?;
    prost_build::Config::new()
        .include_file("etcd.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
