//! Compiles `proto/` for the tests' clients.

fn main() {}
