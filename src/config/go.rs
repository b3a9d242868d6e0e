//! What Go's standard library makes of a string, where kube-apiserver leaves that to it. Knows nothing of the document.

mod base64;
mod duration;
mod quote;
mod url;

pub(super) use base64::decode_base64;
pub(super) use duration::GoDuration;
pub(super) use quote::quote;
pub(super) use url::scheme;
