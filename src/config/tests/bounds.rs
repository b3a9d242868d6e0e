//! Documents made to exhaust memory, time or the stack, and the largest that are honest.

use super::{super::*, HEAD, SECRET_16, SECRET_32, accepted, providers, refusal};

/// `first`, then `count` elements of which each is `element` with `N` for its own number and `P` for the one before.
fn chain(first: &str, element: &str, count: usize) -> String {
    let rest = (1..count).map(|level| {
        let level_text = level.to_string();
        element.replace('N', &level_text).replace('P', &(level - 1).to_string())
    });
    std::iter::once(first.to_owned()).chain(rest).collect()
}

#[test]
fn aliases_that_multiply_are_refused() {
    let aliases = |name: &str| vec![format!("*{name}"); 1_000].join(", ");
    let keys = format!("&k {{name: a, secret: {SECRET_16}}}, {}", aliases("k"));
    accepted(&providers(&format!("[aescbc: {{keys: [{keys}]}}]")));
    let elements = format!("&p {{aescbc: {{keys: [{keys}]}}}}, {}", aliases("p"));
    let entries = format!("&e {{resources: [secrets], providers: [{elements}]}}, {}", aliases("e"));
    let message = refusal(&format!("{HEAD}resources: [{entries}]\n"));
    assert!(
        message.ends_with(": the document's aliases expand to too much"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1);
}

#[test]
fn long_text_under_many_aliases_is_refused() {
    let text = "x".repeat(500_000);
    let list = vec!["*x"; 10_000].join(", ");
    let message = refusal(&format!("{HEAD}resources: [{{resources: [&x {text}, {list}]}}]\n"));
    assert!(
        message.ends_with(": the document's aliases expand to too much"),
        "{message}"
    );
}

#[test]
fn merge_keys_that_lead_to_one_another_spare_the_stack() {
    let chain = chain("- &x0 {}\n", "- &xN {<<: *xP}\n", 30_000);
    let message = refusal(&format!("{HEAD}x:\n{chain}<<: *x29999\n"));
    assert!(message.contains("too many merge keys lead to one another"), "{message}");
}

/// Such a tree must not be taken down from node to node.
#[test]
fn aliases_within_one_another_spare_the_stack() {
    let chain = chain("- &x0 []\n", "- &xN [*xP]\n", 50_000);
    assert_eq!(refusal(&chain), "1:1: expected an object, got a list");
    assert!(refusal(&format!("{chain}- [")).contains("not valid YAML"));
}

#[test]
fn collections_nested_without_end_are_refused() {
    for open in ["[", "{a: ", "- ", "? ", "[{a: "] {
        let message = refusal(&open.repeat(MAX_DOCUMENT_BYTES / open.len()));
        assert!(message.contains(": not valid "), "{message}");
    }
    let message = refusal(&format!("{{\"a\": {}", "[".repeat(500_000)));
    assert!(message.contains(": not valid JSON: "), "{message}");
}

#[test]
fn a_document_as_large_as_allowed_is_read() {
    let keys: Vec<String> = (0..10_000)
        .map(|index| format!("      - name: key{index}\n        secret: {SECRET_32}\n"))
        .collect();
    let keys = keys.concat();
    let mut document =
        format!("{HEAD}resources:\n- resources: [secrets]\n  providers:\n  - secretbox:\n      keys:\n{keys}#");
    document += &"x".repeat(MAX_DOCUMENT_BYTES - document.len());
    let configuration = accepted(&document);
    assert!(matches!(
        configuration.rules().as_slice(),
        [(_, providers)] if matches!(providers.as_slice(), [Provider::Secretbox { keys }] if keys.len() == 10_000)
    ));
    document.push('x');
    assert!(refusal(&document).contains("more than the 1048576 allowed"));
}

/// The most nodes that a document can have: none of them an alias, so that none may be too much.
#[test]
fn only_aliases_expand() {
    let list = "a,".repeat((MAX_DOCUMENT_BYTES - 200) / 2);
    let message = refusal(&format!(
        "{HEAD}resources: [{{resources: [{list}], providers: [{{}}]}}]\n"
    ));
    assert!(!message.contains("aliases"), "{}", message.len());
    let messages: Vec<&str> = message.lines().collect();
    assert_eq!(messages.len(), 2);
}
