//! What `openssl speed` says of the same machine in the same minute, where there is an openssl.

use std::process::Command;

/// Nanoseconds for `size` bytes of `cipher`. OpenSSL keeps its key and its buffer over all of them.
pub fn speed(cipher: &str, opens: bool, size: usize) -> Option<f64> {
    let mut command = Command::new("openssl");
    command.args([
        "speed",
        "-mr",
        "-seconds",
        "1",
        "-evp",
        cipher,
        "-bytes",
        &size.to_string(),
    ]);
    if opens {
        command.arg("-decrypt");
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    // `+F:25:AES-256-CBC:1082004945.45`, in bytes a second.
    let text = String::from_utf8(output.stdout).ok()?;
    let rate: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("+F:"))?
        .rsplit(':')
        .next()?
        .parse()
        .ok()?;
    Some(size as f64 / rate * 1e9)
}

pub fn version() -> String {
    let output = Command::new("openssl").arg("version").output();
    output.map_or_else(
        |_| "no openssl".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
