//! The scheme of a URL, and whether Go's `net/url` takes the URL at all. Nothing is connected or resolved.

use super::quote::quote;

/// The scheme of `raw` in lower case, empty where it has none. The error is that of Go's `url.Parse`.
pub(in crate::config) fn scheme(raw: &str) -> Result<String, String> {
    let (before_fragment, fragment) = raw.split_once('#').unwrap_or((raw, ""));
    let parsed = parse(before_fragment).map_err(|reason| format!("parse {}: {reason}", quote(before_fragment)))?;
    check_escapes(fragment).map_err(|reason| format!("parse {}: {reason}", quote(raw)))?;
    Ok(parsed)
}

fn parse(url: &str) -> Result<String, String> {
    if url.contains(|character: char| character.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".into());
    }
    let (scheme, rest) = split_scheme(url)?;
    let rest = rest.split_once('?').map_or(rest, |(path, _query)| path);
    if !rest.starts_with('/') {
        // What follows a scheme without a slash is opaque, and not looked into.
        if scheme.is_empty() && rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".into());
        }
        if scheme.is_empty() {
            check_escapes(rest)?;
        }
        return Ok(scheme.to_ascii_lowercase());
    }
    let authority_follows = !scheme.is_empty() || !rest.starts_with("///");
    let path = match rest.strip_prefix("//") {
        Some(after) if authority_follows => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            check_authority(authority)?;
            path
        }
        _ => rest,
    };
    check_escapes(path)?;
    Ok(scheme.to_ascii_lowercase())
}

/// The scheme and what follows its colon; no scheme where a character that it can't have comes before any colon.
fn split_scheme(url: &str) -> Result<(&str, &str), String> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Ok(("", url));
    };
    if scheme.is_empty() {
        return Err("missing protocol scheme".into());
    }
    let well_formed = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.'));
    Ok(if well_formed { (scheme, rest) } else { ("", url) })
}

/// Userinfo, host and port of `//userinfo@host:port`.
fn check_authority(authority: &str) -> Result<(), String> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    check_host(host)?;
    let Some(user) = user else { return Ok(()) };
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(character);
    if !user.chars().all(allowed) {
        return Err("net/url: invalid userinfo".into());
    }
    check_escapes(user)
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let Some((_, port)) = host.rsplit_once(']') else {
            return Err("missing ']' in host".into());
        };
        port
    } else {
        host.rfind(':').and_then(|colon| host.get(colon..)).unwrap_or("")
    };
    let digits = port.strip_prefix(':');
    if !port.is_empty() && !digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit())) {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    // A zone, `%25` within brackets, may be escaped freely; elsewhere only bytes past ASCII and the percent sign may.
    let (host, zone) = match host.find("%25") {
        Some(start) if host.starts_with('[') => host.split_at(start),
        _ => (host, ""),
    };
    check_escapes(zone)?;
    for escape in escapes(host) {
        let past_ascii = escape
            .as_bytes()
            .get(1)
            .is_some_and(|digit| !(b'0'..b'8').contains(digit));
        if !is_escape(escape) || !(past_ascii || escape == "%25") {
            return Err(format!("invalid URL escape {}", quote(escape)));
        }
    }
    let allowed = |character: char| {
        !character.is_ascii() || character.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(character)
    };
    match host.chars().chain(zone.chars()).find(|&character| !allowed(character)) {
        Some(bad) => Err(format!(
            "invalid character {} in host name",
            quote(bad.encode_utf8(&mut [0; 4]))
        )),
        None => Ok(()),
    }
}

fn check_escapes(text: &str) -> Result<(), String> {
    match escapes(text).find(|escape| !is_escape(escape)) {
        Some(bad) => Err(format!("invalid URL escape {}", quote(bad))),
        None => Ok(()),
    }
}

/// Each `%` with the two characters that follow it, as far as there are two.
fn escapes(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('%').map(|(start, _)| {
        let from = text.get(start..).unwrap_or_default();
        let end = from.char_indices().nth(3).map_or(from.len(), |(end, _)| end);
        from.get(..end).unwrap_or(from)
    })
}

fn is_escape(escape: &str) -> bool {
    escape.len() == 3 && escape.bytes().skip(1).all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What go1.19 answers.
    #[test]
    fn urls_are_judged_as_go_judges_them() {
        for (url, answer) in [
            ("", Ok("")),
            ("unix:///a", Ok("unix")),
            ("UNIX:///a", Ok("unix")),
            ("unix:a", Ok("unix")),
            ("unix:", Ok("unix")),
            ("unix://", Ok("unix")),
            ("unix:///@abs", Ok("unix")),
            ("unix://@abs", Ok("unix")),
            ("unix:///a b", Ok("unix")),
            ("unix:?%zz", Ok("unix")),
            ("unix:%zz", Ok("unix")),
            ("unix://h:1/", Ok("unix")),
            ("unix://h:/", Ok("unix")),
            ("unix://u:p@h/", Ok("unix")),
            ("unix://a@b@c/", Ok("unix")),
            ("unix://%25/", Ok("unix")),
            ("unix://%80/", Ok("unix")),
            ("unix://é/", Ok("unix")),
            ("unix://[fe80::1%25eth0]/", Ok("unix")),
            ("unix://[::1%2541]/", Ok("unix")),
            ("unix://h]/", Ok("unix")),
            ("unix://a[b/", Ok("unix")),
            ("unix://<\">!/", Ok("unix")),
            ("https://www.foo.com", Ok("https")),
            ("a:b:c", Ok("a")),
            ("a/b", Ok("")),
            ("/a:b", Ok("")),
            ("?a:b", Ok("")),
            ("*", Ok("")),
            ("///a b", Ok("")),
            (
                "1a:b",
                Err(r#"parse "1a:b": first path segment in URL cannot contain colon"#),
            ),
            (
                "a b:c",
                Err(r#"parse "a b:c": first path segment in URL cannot contain colon"#),
            ),
            (
                "é:a",
                Err(r#"parse "é:a": first path segment in URL cannot contain colon"#),
            ),
            (":a", Err(r#"parse ":a": missing protocol scheme"#)),
            ("unix:///%zz", Err(r#"parse "unix:///%zz": invalid URL escape "%zz""#)),
            ("unix:///%4", Err(r#"parse "unix:///%4": invalid URL escape "%4""#)),
            (
                "unix:///a#%zz",
                Err(r#"parse "unix:///a#%zz": invalid URL escape "%zz""#),
            ),
            ("unix://%41/", Err(r#"parse "unix://%41/": invalid URL escape "%41""#)),
            ("unix://h%zz/", Err(r#"parse "unix://h%zz/": invalid URL escape "%zz""#)),
            (
                "unix://[fe80::1%eth0]/",
                Err(r#"parse "unix://[fe80::1%eth0]/": invalid URL escape "%et""#),
            ),
            (
                "unix://h o/",
                Err(r#"parse "unix://h o/": invalid character " " in host name"#),
            ),
            (
                "unix://a\\b/",
                Err(r#"parse "unix://a\\b/": invalid character "\\" in host name"#),
            ),
            (
                "unix://[::1%25a b]/",
                Err(r#"parse "unix://[::1%25a b]/": invalid character " " in host name"#),
            ),
            ("//a b", Err(r#"parse "//a b": invalid character " " in host name"#)),
            (
                "unix://h:1a/",
                Err(r#"parse "unix://h:1a/": invalid port ":1a" after host"#),
            ),
            (
                "unix://[::1]x/",
                Err(r#"parse "unix://[::1]x/": invalid port "x" after host"#),
            ),
            (
                "unix://[::1]:x/",
                Err(r#"parse "unix://[::1]:x/": invalid port ":x" after host"#),
            ),
            ("unix://[::1/", Err(r#"parse "unix://[::1/": missing ']' in host"#)),
            (
                "unix://u p@h/",
                Err(r#"parse "unix://u p@h/": net/url: invalid userinfo"#),
            ),
            (
                "unix:///a\n",
                Err(r#"parse "unix:///a\n": net/url: invalid control character in URL"#),
            ),
        ] {
            assert_eq!(scheme(url).as_deref(), answer.map_err(String::from).as_deref(), "{url}");
        }
    }
}
