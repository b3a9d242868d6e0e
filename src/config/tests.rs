//! The room through its only door, `parse`: documents in, configurations or messages out.

mod bounds;
mod decoding;
mod documents;
mod edits;
mod leaks;
mod migrate;
mod resources;
mod rules;

use super::{EncryptionConfiguration, Options, parse};

/// A secret of 32 bytes, and one of 16.
const SECRET_32: &str = "A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q=";
const SECRET_16: &str = "c2VjcmV0IGlzIHNlY3VyZQ==";

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";

/// The messages that a document is refused with, one a line.
#[track_caller]
fn refusal(document: &str) -> String {
    refusal_with(document, Options::default())
}

#[track_caller]
fn refusal_with(document: &str, options: Options) -> String {
    match parse(document.as_bytes(), options) {
        Ok(accepted) => panic!("accepted {accepted:?}\n{document}"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn accepted(document: &str) -> EncryptionConfiguration {
    match parse(document.as_bytes(), Options::default()) {
        Ok(accepted) => accepted,
        Err(error) => panic!("{error}\n{document}"),
    }
}

/// A document whose only entry has these providers, in flow style.
fn providers(list: &str) -> String {
    format!("{HEAD}resources: [{{resources: [secrets], providers: {list}}}]\n")
}
