//! Whether one name of a resource may stand for another: the same, or singular and plural. Pure.

/// In either order.
pub(super) fn is_alike(one: &str, other: &str) -> bool {
    let is_plural_of = |many: &str, one: &str| {
        let rest = many.strip_prefix(one);
        let is_irregular = || {
            one.strip_suffix('y')
                .is_some_and(|stem| many.strip_suffix("ies") == Some(stem))
        };
        !one.is_empty() && (matches!(rest, Some("s" | "es")) || is_irregular())
    };
    one == other || is_plural_of(one, other) || is_plural_of(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_and_plural_are_alike_and_nothing_else() {
        for (one, other) in [
            ("secrets", "secrets"),
            ("secrets", "secret"),
            ("ingress", "ingresses"),
            ("policies", "policy"),
        ] {
            assert!(is_alike(one, other) && is_alike(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("secrets", "secretses2"),
            ("", "s"),
            ("pods", "podtemplates"),
            ("a", "b"),
        ] {
            assert!(!is_alike(one, other) && !is_alike(other, one), "{one} {other}");
        }
    }
}
