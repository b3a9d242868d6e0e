//! The report for people: what the file is, a table, which keys are missing, and what that means for a restore.

use std::fmt;

use super::file::Checksum;
use super::report::{Finding, Line, Need, Report};
use super::tally::{Objects, State};
use crate::inventory::columns;

/// Values that are named one by one; the JSON has more.
const MAX_LISTED: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        if !self.inventory.is_empty() {
            writeln!(f)?;
            self.table(f)?;
        }
        self.beside(f)?;
        self.idle(f)?;
        self.needs(f)?;
        self.left(f)?;
        writeln!(f, "\n{}", self.verdict())
    }
}

impl Report {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, store, counts) = (&self.file, &self.store, &self.counts);
        let checksum = match file.checksum {
            Checksum::Valid => "its SHA-256 is right",
            Checksum::Absent => {
                "it has no SHA-256, like a copy out of a data folder; etcd restores such a file only with --skip-hash-check"
            }
            Checksum::Skipped => "its SHA-256 was not looked at",
        };
        writeln!(f, "{:?}: {checksum}", file.path)?;
        write!(f, "revision {}, ", store.revision)?;
        match (store.compacted, store.compacting) {
            (0, None) => write!(f, "never compacted")?,
            (compacted, None) => write!(f, "compacted to {compacted}")?,
            (compacted, Some(to)) => write!(f, "compacted to {compacted}, and to {to} once it is started")?,
        }
        let all = Objects {
            objects: counts.keys,
            history: counts.revisions.saturating_sub(counts.keys + counts.tombstones),
        };
        writeln!(f, "; {all}")
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "RESOURCE",
            "STATE",
            "PROVIDER",
            "KEY",
            "KEY ID",
            "CONFIGURATION",
            "OBJECTS",
            "HISTORY",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for line in &self.inventory {
            // Names of keys are whatever stands in a stored value: shown without what could act on a terminal.
            let shown = |text: &str| text.escape_debug().to_string();
            let key = match line.under.key.as_str() {
                "" => "-".to_owned(),
                name => shown(name),
            };
            rows.push(vec![
                shown(&line.resource),
                line.state.to_string(),
                shown(&line.under.provider),
                key,
                line.key_id.as_deref().map(shown).unwrap_or_default(),
                line.configuration.as_deref().map_or_else(|| "-".to_owned(), shown),
                line.count.objects.to_string(),
                line.count.history.to_string(),
            ]);
        }
        columns(&rows, 6, f)
    }

    /// What is not in the table.
    fn beside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let beside = [
            (counts.no_rule, "In the clear, and covered by no rule"),
            (counts.outside, "In the clear, outside of --etcd-prefix"),
            (counts.own, "The proxy's own, under --state-prefix"),
        ];
        let mut is_first = true;
        for (count, what) in beside.into_iter().filter(|(count, _)| *count != Objects::default()) {
            if std::mem::take(&mut is_first) {
                writeln!(f)?;
            }
            writeln!(f, "{what}: {count}")?;
        }
        Ok(())
    }

    /// Keys without which this snapshot would open as well.
    fn idle(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keys.iter().any(|key| key.is_idle) {
            writeln!(f, "\nOpen nothing here:")?;
        }
        for key in self.keys.iter().filter(|key| key.is_idle) {
            writeln!(f, "  {} of {}", key.under, key.configuration.escape_debug())?;
        }
        Ok(())
    }

    fn needs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.needs.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nNeeded:")?;
        for need in self.needs.iter().take(MAX_LISTED) {
            writeln!(f, "  {need}")?;
        }
        more(self.needs.len(), f)
    }

    fn left(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nThat do not open:")?;
        for left in self.left.iter().take(MAX_LISTED) {
            writeln!(f, "  {left}")?;
        }
        more(self.left.len(), f)
    }

    fn objects(&self, wanted: &[State]) -> u64 {
        let wanted = self.inventory.iter().filter(|line| wanted.contains(&line.state));
        wanted.map(|line| line.count.objects).sum()
    }

    /// What the first configuration would need of the others.
    fn by_others(&self) -> String {
        let first = self.configurations.first().map(|first| first.name.as_str());
        let is_others = |line: &&Line| line.state == State::Opens && line.configuration.as_deref() != first;
        let count = self
            .inventory
            .iter()
            .filter(is_others)
            .map(|line| line.count.objects)
            .sum();
        match (count, first) {
            (0, _) | (_, None) => String::new(),
            (count, Some(first)) => format!(
                " {} of them only with a configuration behind the first: what {} lacks must be added to it before a restore.",
                count,
                first.escape_debug()
            ),
        }
    }

    fn verdict(&self) -> String {
        match self.finding {
            Finding::Opens if self.inventory.is_empty() => {
                "No value lies under a rule, and none is encrypted. Is --etcd-prefix what kube-apiserver has?"
                    .to_owned()
            }
            Finding::Opens => format!("Every value opens.{}", self.by_others()),
            Finding::History => format!(
                "Every value that is stored opens. Of history some do not: to read at an earlier revision would take the keys \
                 above, and a restored cluster does not do that.{}",
                self.by_others()
            ),
            Finding::Unasked => format!(
                "{} could not be tried, since their KMS could not be asked; all others open. Try again where it can be \
                 reached: a restored cluster needs it too.",
                values(self.objects(&[State::Unasked]))
            ),
            Finding::Missing => format!(
                "{} would not open in a cluster that is restored with these configurations alone: find the keys first.",
                values(self.objects(&State::LOST))
            ),
        }
    }
}

fn values(count: u64) -> String {
    format!("{count} {}", if count == 1 { "value" } else { "values" })
}

/// For people: `2 values, and 3 of history`.
impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&values(self.objects))?;
        match self.history {
            0 => Ok(()),
            history => write!(f, ", and {history} of history"),
        }
    }
}

fn more(all: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match all.checked_sub(MAX_LISTED) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(f, "  and {more} more; see -o json"),
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.under)?;
        if let Some(key_id) = &self.key_id {
            write!(f, ", key ID {key_id:?}")?;
        }
        let what = match self.state {
            State::Opens => "opens",
            State::Doubtful => "opens to nothing that Kubernetes stores, and may be another key of that name",
            State::Unasked => "could not be asked",
            State::Undecryptable => "is at hand and does not open",
            State::Uncovered => "may be at hand, but no rule covers what is under it",
            State::Missing if self.under.provider == "identity" => "is not listed by the rule",
            State::Missing => "is missing",
        };
        write!(f, ": {what}; {}", self.count)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Opens => "opens",
            Self::Doubtful => "doubtful",
            Self::Unasked => "unasked",
            Self::Undecryptable => "undecryptable",
            Self::Uncovered => "uncovered",
            Self::Missing => "missing",
        })
    }
}
