//! The document's fields as they were written, each with its place, before any rule is applied. A string that is absent
//! or null is empty, as in Go.

use super::{error::Location, go::GoDuration};

/// A value and where it stands, or where it is missing from.
#[derive(Clone, Copy)]
pub(super) struct Located<T> {
    pub(super) at: Location,
    pub(super) value: T,
}

/// A string of the document, not copied out of it.
pub(super) type Text<'t> = Located<&'t str>;

/// A list of the document.
pub(super) type List<T> = Located<Vec<T>>;

/// The document: its `resources`.
pub(super) type Document<'t> = List<Rule<'t>>;

/// An element of the document's `resources`.
pub(super) struct Rule<'t> {
    pub(super) resources: List<Text<'t>>,
    pub(super) providers: List<ProviderFields<'t>>,
}

/// An element of `providers`, whose fields should be all absent but one.
pub(super) struct ProviderFields<'t> {
    pub(super) at: Location,
    pub(super) aesgcm: Option<List<KeyFields<'t>>>,
    pub(super) aescbc: Option<List<KeyFields<'t>>>,
    pub(super) secretbox: Option<List<KeyFields<'t>>>,
    pub(super) identity: bool,
    pub(super) kms: Option<KmsFields<'t>>,
}

/// An element of `keys`.
pub(super) struct KeyFields<'t> {
    pub(super) name: Text<'t>,
    pub(super) secret: Text<'t>,
}

/// The fields of `kms`.
pub(super) struct KmsFields<'t> {
    pub(super) api_version: Text<'t>,
    pub(super) name: Text<'t>,
    pub(super) cache_size: Option<Located<i32>>,
    pub(super) endpoint: Text<'t>,
    pub(super) timeout: Option<Located<GoDuration>>,
}
