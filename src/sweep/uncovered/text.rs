//! What was found, for people.

use std::fmt;

use super::{Cover, Row, Uncovered};
use crate::inventory::columns;

/// Rows that are named in one line.
const MAX_NAMED: usize = 5;

/// Said where not everything could be looked at.
pub(super) const NOT_WHOLE: &str = "etcd does not let this user read keys outside of --etcd-prefix, so whether values there \
                                    need a key is not known";

/// In one line: how many of what need which key, such as which, and since when that is so.
impl fmt::Display for Uncovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, row) in self.rows.iter().take(MAX_NAMED).enumerate() {
            let (comma, kind) = (if index > 0 { "; " } else { "" }, &row.kind);
            write!(f, "{comma}{} of {}", values(row.objects), kind.resource)?;
            write!(f, " under {}{}", kind.under, of(kind.cover))?;
            write!(f, " (such as {})", row.examples.join(", "))?;
        }
        if self.rows.len() > MAX_NAMED {
            write!(f, "; and {} kinds more", self.rows.len() - MAX_NAMED)?;
        }
        write!(f, ", at revision {}", self.revision)
    }
}

impl Uncovered {
    /// What to do about them, so that a key can go.
    pub fn way_on(&self) -> String {
        let has = |cover| self.rows.iter().any(|row| row.kind.cover == cover);
        let mut ways = Vec::new();
        if has(Cover::None) {
            ways.push(
                "Put a rule for these resources back, which reads with this key (behind identity, and they are decrypted), \
                 or delete them",
            );
        }
        if has(Cover::Outside) {
            ways.push(
                "What lies outside of --etcd-prefix no rule can cover: add its prefix to --etcd-prefix, in every proxy and \
                 here, or delete it",
            );
        }
        if has(Cover::Rule) {
            ways.push(
                "What a rule covers has been written since everything was re-encrypted: find out who bypasses the proxies",
            );
        }
        ways.join(". ")
    }

    /// A table of it, after a line that says what it is of. Nothing, where nothing was found.
    pub fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rows.is_empty() {
            writeln!(
                f,
                "\nEncrypted values that no rule covers, at revision {}:",
                self.revision
            )?;
            let head = ["Objects", "Provider", "Key", "Opens", "Resource", "Such As"];
            let lines = self.rows.iter().map(cells);
            let rows: Vec<Vec<String>> = [head.map(str::to_owned).to_vec()].into_iter().chain(lines).collect();
            columns(&rows, rows.len(), f)?;
        }
        if !self.is_whole {
            writeln!(f, "\n{NOT_WHOLE}.")?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> Vec<String> {
    let kind = &row.kind;
    let opens = if kind.opens { "yes" } else { "no" };
    let example = row.examples.first().cloned().unwrap_or_default();
    vec![
        row.objects.to_string(),
        kind.under.provider.escape_debug().to_string(),
        kind.under.key.escape_debug().to_string(),
        opens.to_owned(),
        format!("{}{}", kind.resource, of(kind.cover)),
        example,
    ]
}

fn values(count: u64) -> String {
    match count {
        1 => "1 value".to_owned(),
        count => format!("{count} values"),
    }
}

fn of(cover: Cover) -> &'static str {
    match cover {
        Cover::None => "",
        Cover::Outside => ", outside of --etcd-prefix",
        Cover::Rule => ", which a rule covers",
    }
}
