//! An error is printed with its causes behind it, so none of them says what its cause says: a `#[error]` text that has the field
//! which is the source would tell that twice.

use std::fs;

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Field, Fields, ItemEnum, ItemStruct, LitStr, Token, Variant};

use super::sources;

#[test]
fn no_error_says_what_its_source_says() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        let text = fs::read_to_string(&file).expect("a source file");
        let found = doubled(&text);
        wrong.extend(found.into_iter().map(|what| format!("{}: {what}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_a_cause_that_is_told_twice() {
    for text in [
        "enum E { #[error(\"etcd: {0}\")] Call(#[from] CallError) }",
        "enum E { #[error(\"etcd: {0:?}\")] Call(#[source] CallError) }",
        "enum E { #[error(\"{path}: {source}\")] Read { path: String, source: io::Error } }",
        "enum E { #[error(\"{path}: {why}\")] Read { path: String, #[source] why: io::Error } }",
        "enum E { #[error(\"in {}\", .source)] Read { source: io::Error } }",
        "#[error(\"etcd: {0}\")] struct E(#[source] CallError);",
    ] {
        assert_eq!(doubled(text).len(), 1, "{text}");
    }
    for text in [
        "enum E { #[error(\"etcd\")] Call(#[from] CallError) }",
        "enum E { #[error(transparent)] Call(#[from] CallError) }",
        "enum E { #[error(\"etcd: {0}\")] Call(CallError) }",
        "enum E { #[error(\"{path}\")] Read { path: String, source: io::Error } }",
        "enum E { #[error(\"{0} of {1}\")] Read(String, u8, #[source] io::Error) }",
    ] {
        assert_eq!(doubled(text), Vec::<String>::new(), "{text}");
    }
}

/// The variants and structs of `text` that do.
fn doubled(text: &str) -> Vec<String> {
    let mut found = Doubled(Vec::new());
    found.visit_file(&syn::parse_file(text).expect("Rust"));
    found.0
}

struct Doubled(Vec<String>);

impl Doubled {
    fn look(&mut self, name: &str, attributes: &[Attribute], fields: &Fields) {
        let Some(attribute) = attributes.iter().find(|attribute| attribute.path().is_ident("error")) else {
            return;
        };
        let Ok(parts) = attribute.parse_args_with(Punctuated::<TokenOrText, Token![,]>::parse_terminated) else {
            return;
        };
        let mut parts = parts.into_iter();
        let Some(TokenOrText::Text(format)) = parts.next() else {
            return;
        };
        let arguments: Vec<_> = parts.map(TokenOrText::text).collect();
        for (index, field) in fields.iter().enumerate() {
            if !is_source(field) {
                continue;
            }
            let called = field
                .ident
                .as_ref()
                .map_or_else(|| index.to_string(), ToString::to_string);
            let names_it = |after: char| format.contains(&format!("{{{called}{after}"));
            let is_argument = |argument: &String| argument.replace(' ', "").starts_with(&format!(".{called}"));
            if names_it('}') || names_it(':') || arguments.iter().any(is_argument) {
                self.0.push(format!("{name} tells its source {called} twice"));
            }
        }
    }
}

/// As thiserror decides it.
fn is_source(field: &Field) -> bool {
    let is_named = field.ident.as_ref().is_some_and(|name| name == "source");
    let mut attributes = field.attrs.iter();
    is_named || attributes.any(|attribute| attribute.path().is_ident("source") || attribute.path().is_ident("from"))
}

impl<'ast> Visit<'ast> for Doubled {
    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        for Variant {
            ident, attrs, fields, ..
        } in &item.variants
        {
            self.look(&format!("{}::{ident}", item.ident), attrs, fields);
        }
        visit::visit_item_enum(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.look(&item.ident.to_string(), &item.attrs, &item.fields);
        visit::visit_item_struct(self, item);
    }
}

/// The text of a format, or what fills it.
enum TokenOrText {
    Text(String),
    Tokens(String),
}

impl TokenOrText {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Tokens(text) => text,
        }
    }
}

impl syn::parse::Parse for TokenOrText {
    fn parse(input: syn::parse::ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            return Ok(Self::Text(input.parse::<LitStr>()?.value()));
        }
        let mut tokens = String::new();
        while !input.is_empty() && !input.peek(Token![,]) {
            tokens.push_str(&input.parse::<proc_macro2::TokenTree>()?.to_string());
        }
        Ok(Self::Tokens(tokens))
    }
}
