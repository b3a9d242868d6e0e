//! A recovery for people: what would be done, and what is left and why.

use std::fmt;

use super::{Fate, Recovery, Row};

/// Rows that are named one by one.
const MAX_NAMED: usize = 20;

/// What is said of KMS plugins in kept files: which file, and which plugin.
pub(in crate::rotation) fn left_out(plugins: &[(String, String)]) -> Option<String> {
    let named: Vec<String> = plugins
        .iter()
        .map(|(file, name)| format!("{name:?} of {}", file.escape_debug()))
        .collect();
    (!named.is_empty()).then(|| {
        format!(
            "left out, since their keys are in no file: the KMS plugins {}. List one behind the provider that writes to read \
             what it has sealed",
            named.join(", ")
        )
    })
}

/// `3 values of secrets under aescbc key "k" (such as /registry/secrets/default/a)`.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.objects == 1 { "" } else { "s" };
        write!(
            f,
            "{} value{s} of {} under {} (such as {}",
            self.objects, self.resource, self.under, self.example
        )?;
        match &self.servers {
            Some(servers) => write!(f, ", in the etcd {servers})"),
            None => f.write_str(")"),
        }
    }
}

impl Row {
    /// The file that has the key.
    fn file(&self) -> String {
        self.from
            .as_deref()
            .unwrap_or("the configuration")
            .escape_debug()
            .to_string()
    }

    /// Why `recover` leaves them, and what to do; `None` where it does not.
    fn way_on(&self) -> Option<String> {
        let file = self.file();
        Some(match self.fate {
            Fate::Recoverable => return None,
            Fate::NoRule => format!(
                "no rule covers them, so they were left; {file} has the key. Put a rule for these resources back and run this \
                 again, or delete them"
            ),
            Fate::SharesName if self.under.provider == "aescbc" => format!(
                "{file} has the key, but the configuration has another one of that name, and aescbc would take values of the \
                 one for those of the other, so nothing was listed. Run `rotate-keys`, which gives what is under the present \
                 one a key of another name and ends with code 7, and `reencrypt --skip`; then take the present one out of the \
                 configuration by hand and run this again"
            ),
            Fate::SharesName => format!(
                "{file} has the key, but the configuration has another one of that name, so nothing was listed. List it by \
                 hand behind the provider that writes, in one of its own, and run `reencrypt --force --skip`; then take it \
                 out again"
            ),
            Fate::NotInRule => {
                "the configuration has the key, but not in the rule for them. List it there by hand behind what \
                                writes, and run `reencrypt --force --skip`"
                    .to_owned()
            }
            Fate::Clear => {
                "they are not encrypted, and the rule does not list identity. List it last by hand, and run \
                            `reencrypt --force --skip`"
                    .to_owned()
            }
            Fate::Kms => {
                "no plugin of the configuration opens them. List the one that sealed them behind the provider that \
                          writes, and run `reencrypt --force --skip`"
                    .to_owned()
            }
            Fate::NoKey => {
                "no file that was looked at has a key that opens them. Name others with --from, restore these values, \
                            or delete them"
                    .to_owned()
            }
        })
    }
}

impl Recovery {
    /// What is left after a recovery, each with the way on.
    pub fn left(&self) -> Vec<String> {
        let left = self
            .rows
            .iter()
            .filter_map(|row| Some(format!("{row}: {}", row.way_on()?)));
        let mut lines: Vec<String> = left.collect();
        let more = lines.len().saturating_sub(MAX_NAMED);
        lines.truncate(MAX_NAMED);
        if more > 0 {
            lines.push(format!("and {more} kinds more"));
        }
        lines
    }

    /// What a recovery would read with, each with the file that has the key.
    pub(in crate::rotation) fn found(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| row.fate == Fate::Recoverable);
        rows.map(|row| format!("{row}: {} has the key", row.file())).collect()
    }

    /// The lines of a plan that list keys in `source`.
    pub(in crate::rotation) fn plan(&self, source: &str) -> Vec<String> {
        let found = self.found().into_iter();
        let mut lines: Vec<String> = found
            .map(|found| format!("list its key in {source} behind the one that writes, to read {found}"))
            .collect();
        let more = lines.len().saturating_sub(MAX_NAMED);
        lines.truncate(MAX_NAMED);
        if more > 0 {
            lines.push(format!("and {more} kinds more"));
        }
        lines
    }

    /// What could not be looked at, if anything.
    pub(in crate::rotation) fn caveat(&self) -> Option<&'static str> {
        (!self.is_whole).then_some("keys outside of --etcd-prefix could not be read, so nothing is known of them")
    }
}
