//! From a tree of nodes to the fields of the schema, as strict as kube-apiserver since 1.31. All problems are collected;
//! none quotes a value other than `kind`, `apiVersion` and a timeout.

mod object;

use super::{
    error::{Error, Location, Problems},
    go::{GoDuration, quote},
    path::Path,
    scalar::{Meaning, resolve, resolve_json},
    schema::{Document, KeyFields, KmsFields, List, Located, ProviderFields, Rule, Text},
    tree::{Content, Node},
};

/// How a document is written, which decides what an unquoted scalar means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// JSON, and nothing that only YAML has.
    Json,
    /// YAML.
    Yaml,
}

impl Syntax {
    /// That of a valid document. As in kube-apiserver one whose first character past white space is `{` is JSON.
    pub fn of(document: &[u8]) -> Self {
        match document.trim_ascii_start().first() {
            Some(b'{') => Self::Json,
            _ => Self::Yaml,
        }
    }
}

/// The most that a document may come to with its aliases followed: each node counts its text's length and four more.
///
/// Without aliases a document of the largest size comes to three quarters of it, as a node takes two bytes at least.
const MAX_EXPANSION: usize = 4 * super::MAX_DOCUMENT_BYTES;

/// The two names that the document's type goes by: its own, and one that early documentation had by mistake.
const KINDS: [(&str, &str); 2] = [
    ("apiserver.config.k8s.io/v1", "EncryptionConfiguration"),
    ("v1", "EncryptionConfig"),
];

/// The fields of the document under `root`; no root is as good as null.
pub(super) fn decode<'t>(root: Option<&'t Node<'t>>, syntax: Syntax) -> Result<Document<'t>, Error> {
    let mut decoder = Decoder::new(syntax);
    let start = Location { line: 1, column: 1 };
    let at = root.map_or(start, |root| root.at);
    if let Some(root) = root
        && !matches!(root.content, Content::Mapping(_))
        && !decoder.is_null(root)
    {
        decoder.mismatch(root, Path::Root, "an object");
        return decoder.problems.or(Located { at, value: Vec::new() });
    }
    let fields = ["apiVersion", "kind", "resources"];
    let [api_version, kind, resources] = root.map_or([None; 3], |root| decoder.object(root, Path::Root, fields));
    // Nothing else is worth saying about a document of another type.
    check_kind(kind, api_version, at, syntax)?;
    let document = decoder.list(resources, at, Path::Root.field("resources"), Decoder::rule);
    decoder.problems.or(document)
}

fn check_kind(
    kind: Option<&Node<'_>>,
    api_version: Option<&Node<'_>>,
    root: Location,
    syntax: Syntax,
) -> Result<(), Error> {
    let mut decoder = Decoder::new(syntax);
    let kind = decoder.text(kind, root, Path::Root.field("kind"));
    let api_version = decoder.text(api_version, root, Path::Root.field("apiVersion"));
    if decoder.problems.len() == 0 {
        if kind.value.is_empty() {
            decoder.problems.push(kind.at, || "Object 'Kind' is missing".into());
        }
        if api_version.value.is_empty() {
            decoder
                .problems
                .push(api_version.at, || "Object 'apiVersion' is missing".into());
        }
    }
    decoder.problems.or(())?;
    if KINDS.contains(&(api_version.value, kind.value)) {
        return Ok(());
    }
    let message = format!(
        "no kind {} is registered for version {}, expected kind \"EncryptionConfiguration\" of version \
         \"apiserver.config.k8s.io/v1\"",
        quote(kind.value),
        quote(api_version.value)
    );
    Err(Error::single(kind.at, message))
}

struct Decoder {
    syntax: Syntax,
    problems: Problems,
    /// What is left of `MAX_EXPANSION`.
    left: usize,
    exhausted: bool,
}

impl Decoder {
    fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            problems: Problems::default(),
            left: MAX_EXPANSION,
            exhausted: false,
        }
    }

    fn rule<'t>(&mut self, node: &'t Node<'t>, path: Path<'_>) -> Rule<'t> {
        let [resources, providers] = self.object(node, path, ["resources", "providers"]);
        Rule {
            resources: self.list(
                resources,
                node.at,
                path.field("resources"),
                |decoder, resource, path| decoder.text(Some(resource), resource.at, path),
            ),
            providers: self.list(providers, node.at, path.field("providers"), Self::provider),
        }
    }

    fn provider<'t>(&mut self, node: &'t Node<'t>, path: Path<'_>) -> ProviderFields<'t> {
        let fields = ["aesgcm", "aescbc", "secretbox", "identity", "kms"];
        // Null says that there is no such provider, where `{}` says that there is one without fields.
        let [aesgcm, aescbc, secretbox, identity, kms] = self
            .object(node, path, fields)
            .map(|field| field.filter(|field| !self.is_null(field)));
        if let Some(identity) = identity {
            let [] = self.object(identity, path.field("identity"), []);
        }
        ProviderFields {
            at: node.at,
            aesgcm: aesgcm.map(|node| self.keys(node, path.field("aesgcm"))),
            aescbc: aescbc.map(|node| self.keys(node, path.field("aescbc"))),
            secretbox: secretbox.map(|node| self.keys(node, path.field("secretbox"))),
            identity: identity.is_some(),
            kms: kms.map(|node| self.kms(node, path.field("kms"))),
        }
    }

    fn keys<'t>(&mut self, node: &'t Node<'t>, path: Path<'_>) -> List<KeyFields<'t>> {
        let [keys] = self.object(node, path, ["keys"]);
        self.list(keys, node.at, path.field("keys"), Self::key)
    }

    fn key<'t>(&mut self, node: &'t Node<'t>, path: Path<'_>) -> KeyFields<'t> {
        let [name, secret] = self.object(node, path, ["name", "secret"]);
        KeyFields {
            name: self.text(name, node.at, path.field("name")),
            secret: self.text(secret, node.at, path.field("secret")),
        }
    }

    fn kms<'t>(&mut self, node: &'t Node<'t>, path: Path<'_>) -> KmsFields<'t> {
        let fields = ["apiVersion", "name", "cachesize", "endpoint", "timeout"];
        let [api_version, name, cache_size, endpoint, timeout] = self.object(node, path, fields);
        KmsFields {
            api_version: self.text(api_version, node.at, path.field("apiVersion")),
            name: self.text(name, node.at, path.field("name")),
            cache_size: self.integer(cache_size, path.field("cachesize")),
            endpoint: self.text(endpoint, node.at, path.field("endpoint")),
            timeout: self.duration(timeout, path.field("timeout")),
        }
    }

    /// Every element of the list, as `element` decodes it. Null and nothing are the empty list.
    fn list<'t, T>(
        &mut self,
        node: Option<&'t Node<'t>>,
        parent: Location,
        path: Path<'_>,
        element: impl Fn(&mut Self, &'t Node<'t>, Path<'_>) -> T,
    ) -> List<T> {
        let mut list = Located {
            at: parent,
            value: Vec::new(),
        };
        let Some(node) = self.enter(node) else { return list };
        list.at = node.at;
        match &node.content {
            Content::List(elements) => {
                for (index, node) in elements.iter().enumerate() {
                    if self.exhausted {
                        break;
                    }
                    list.value.push(element(self, node, path.element(index)));
                }
            }
            _ if self.is_null(node) => {}
            _ => self.mismatch(node, path, "a list"),
        }
        list
    }

    fn text<'t>(&mut self, node: Option<&'t Node<'t>>, parent: Location, path: Path<'_>) -> Text<'t> {
        let mut located = Located { at: parent, value: "" };
        let Some(node) = self.enter(node) else { return located };
        located.at = node.at;
        match &node.content {
            Content::Quoted(text) => located.value = text,
            Content::Plain(text) if self.resolve(text) == Meaning::Text => located.value = text,
            _ if self.is_null(node) => {}
            _ => self.mismatch(node, path, "a string"),
        }
        located
    }

    fn integer<'t>(&mut self, node: Option<&'t Node<'t>>, path: Path<'_>) -> Option<Located<i32>> {
        let node = self.enter(node).filter(|node| !self.is_null(node))?;
        if let Content::Plain(text) = &node.content
            && let Meaning::Integer(integer) = self.resolve(text)
            && let Ok(value) = i32::try_from(integer)
        {
            return Some(Located { at: node.at, value });
        }
        self.mismatch(node, path, "an integer of 32 bits");
        None
    }

    fn duration<'t>(&mut self, node: Option<&'t Node<'t>>, path: Path<'_>) -> Option<Located<GoDuration>> {
        let node = node.filter(|node| !self.is_null(node))?;
        let before = self.problems.len();
        let text = self.text(Some(node), node.at, path);
        if self.problems.len() > before {
            return None;
        }
        match GoDuration::parse(text.value) {
            Ok(value) => Some(Located { at: text.at, value }),
            Err(reason) => {
                self.problems.push(text.at, || path.says(reason));
                None
            }
        }
    }

    /// `node`, if the document has not come to too much.
    fn enter<'t>(&mut self, node: Option<&'t Node<'t>>) -> Option<&'t Node<'t>> {
        let node = node?;
        let cost = 4 + node.text().map_or(0, str::len);
        if self.exhausted || cost > self.left {
            if !self.exhausted {
                self.exhausted = true;
                self.problems
                    .push(node.at, || "the document's aliases expand to too much".into());
            }
            return None;
        }
        self.left -= cost;
        Some(node)
    }

    fn resolve(&self, plain: &str) -> Meaning {
        match self.syntax {
            Syntax::Json => resolve_json(plain),
            Syntax::Yaml => resolve(plain),
        }
    }

    fn is_null(&self, node: &Node<'_>) -> bool {
        matches!(&node.content, Content::Plain(text) if self.resolve(text) == Meaning::Null)
    }

    /// The type of a node, without its value.
    fn describe(&self, node: &Node<'_>) -> &'static str {
        match &node.content {
            Content::Quoted(_) => "a string",
            Content::List(_) => "a list",
            Content::Mapping(_) => "an object",
            Content::Plain(text) => match self.resolve(text) {
                Meaning::Null => "null",
                Meaning::Boolean => "a boolean",
                Meaning::Integer(_) | Meaning::Float => "a number",
                Meaning::Text => "a string",
            },
        }
    }

    fn mismatch(&mut self, node: &Node<'_>, path: Path<'_>, expected: &str) {
        let found = self.describe(node);
        self.problems
            .push(node.at, || path.says(format_args!("expected {expected}, got {found}")));
    }
}
