//! What was found, for people.

use std::fmt;

use super::{Cover, Row, Uncovered};
use crate::inventory::columns;
use crate::sweep::everything::NOT_WHOLE;

/// Rows that are named in one line.
const MAX_NAMED: usize = 5;

/// In one line: how many of what need which key, such as which, and since when that is so.
impl fmt::Display for Uncovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, row) in self.rows.iter().take(MAX_NAMED).enumerate() {
            let (comma, kind) = (if index > 0 { "; " } else { "" }, &row.kind);
            write!(f, "{comma}{} of {}", values(row.objects), kind.resource)?;
            write!(f, " under {}{}", kind.under, of(kind.cover))?;
            write!(f, " (such as {})", row.examples.join(", "))?;
            if let Some(elsewhere) = &row.elsewhere {
                write!(
                    f,
                    " in the etcd {} at revision {}",
                    elsewhere.servers, elsewhere.revision
                )?;
            }
        }
        if self.rows.len() > MAX_NAMED {
            write!(f, "; and {} kinds more", self.rows.len() - MAX_NAMED)?;
        }
        if self.rows.iter().any(|row| row.elsewhere.is_none()) {
            write!(f, ", at revision {}", self.revision)?;
        }
        Ok(())
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
            let mut head = head.map(str::to_owned).to_vec();
            let names_stores = self.rows.iter().any(|row| row.elsewhere.is_some());
            if names_stores {
                head.push("Store".to_owned());
            }
            let lines = self.rows.iter().map(|row| cells(row, names_stores));
            let rows: Vec<Vec<String>> = [head].into_iter().chain(lines).collect();
            columns(&rows, rows.len(), f)?;
        }
        if !self.is_whole {
            writeln!(f, "\n{NOT_WHOLE}.")?;
        }
        Ok(())
    }
}

fn cells(row: &Row, names_store: bool) -> Vec<String> {
    let kind = &row.kind;
    let opens = if kind.opens { "yes" } else { "no" };
    let example = row.examples.first().cloned().unwrap_or_default();
    let mut cells = vec![
        row.objects.to_string(),
        kind.under.provider.escape_debug().to_string(),
        kind.under.key.escape_debug().to_string(),
        opens.to_owned(),
        format!("{}{}", kind.resource, of(kind.cover)),
        example,
    ];
    if names_store {
        // The first one is the one that the revision above is of.
        let store = row.elsewhere.as_ref();
        cells.push(store.map_or_else(
            || "--etcd-servers".to_owned(),
            |elsewhere| format!("{} at revision {}", elsewhere.servers, elsewhere.revision),
        ));
    }
    cells
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
