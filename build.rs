//! Compiles `proto/`: etcd's messages into clients for the tests, and into a descriptor that the table of RPCs is checked
//! against; the KMS plugins' into the clients that the program has, and into servers for the tests. Needs no `protoc`:
//! protox is a compiler in Rust.

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

const KMS_ROOTS: [&str; 2] = ["kms/v1beta1.proto", "kms/v2.proto"];

/// Messages in which a key travels as it is.
const KMS_SECRETS: [&str; 4] = [
    "v1beta1.EncryptRequest",
    "v1beta1.DecryptResponse",
    "v2.EncryptRequest",
    "v2.DecryptResponse",
];

/// The compiler's version, as in `1.90.0`.
fn rustc_version() -> Result<String, Box<dyn Error>> {
    let output = Command::new(env::var("RUSTC")?).arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
}

/// The crate's features that are on, or `none`.
fn features() -> String {
    let prefix = "CARGO_FEATURE_";
    let mut on: Vec<_> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix(prefix)?.to_lowercase().replace('_', "-")))
        .collect();
    on.sort();
    if on.is_empty() { "none".to_owned() } else { on.join(",") }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    // For the build info metric.
    println!("cargo::rustc-env=BUILD_TARGET={}", env::var("TARGET")?);
    println!("cargo::rustc-env=BUILD_RUSTC={}", rustc_version()?);
    // Told by `make dist`. Asked of git, every commit would have the whole crate compiled anew.
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    let commit = env::var("BUILD_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=BUILD_FEATURES={}", features());
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new([Path::new("proto")])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(ROOTS)?;
    fs::write(out.join("etcd.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_server(false)
        .include_file("etcd.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    kms(&out)
}

/// Clients without servers and servers without clients, each in a folder of their own.
fn kms(out: &Path) -> Result<(), Box<dyn Error>> {
    for (folder, is_server) in [("kms_client", false), ("kms_server", true)] {
        let out = out.join(folder);
        fs::create_dir_all(&out)?;
        tonic_prost_build::configure()
            .build_client(!is_server)
            .build_server(is_server)
            // They hold keys.
            .skip_debug(KMS_SECRETS)
            .out_dir(out)
            .compile_fds(protox::compile(KMS_ROOTS, ["proto"])?)?;
    }
    Ok(())
}
