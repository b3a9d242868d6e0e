//! The report for people: a table, then what was done, then what is left to do.

use std::fmt;

use super::report::{Finding, Line, Report, Seeds};
use super::tally::State;
use crate::inventory::columns;

/// Values that are named one by one; the JSON has more.
const MAX_LISTED: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table(&self.inventory, self.is_dry_run, f)?;
        let counts = &self.counts;
        if !self.is_dry_run {
            writeln!(
                f,
                "\n{} values looked at, {} rewritten in {:.1} s ({}/s)",
                counts.scanned, counts.rewritten, self.seconds, self.rewritten_per_second
            )?;
            for (count, what) in [
                (counts.raced, "lost races, decided anew"),
                (counts.overwritten, "made fresh by somebody else meanwhile"),
                (counts.vanished, "deleted or expired meanwhile"),
                (counts.contended, "left to those who kept writing them"),
                (counts.refused, "could not be written"),
            ] {
                if count > 0 {
                    writeln!(f, "{count} {what}")?;
                }
            }
        }
        for told in self.kms_seeds.iter().filter_map(Seeds::told) {
            writeln!(f, "\n{told}")?;
        }
        self.revisions(f)?;
        self.on_disk(f)?;
        self.left(f)?;
        write!(f, "{}", self.survey)?;
        let objects = |wanted: &[State]| -> u64 {
            let wanted = self.inventory.iter().filter(|line| wanted.contains(&line.row.state));
            wanted.map(|line| line.objects).sum()
        };
        let stale = objects(&[State::Stale, State::Plaintext]);
        match self.finding {
            Finding::Clean => {
                let missed = self.survey.missed.len();
                if missed > 0 {
                    write!(
                        f,
                        "\n{missed} rules match nothing of what is stored under their names. Every value that a rule covers"
                    )?;
                } else {
                    write!(f, "\nEvery value")?;
                }
                write!(f, " is as its rule writes it")?;
                match self.revisions.written_until {
                    Some(revision) => writeln!(
                        f,
                        ", and was written again since revision {revision}: none that is older is left."
                    ),
                    None => writeln!(f, "."),
                }
            }
            Finding::Stale if self.is_dry_run => writeln!(f, "\n{stale} values would be rewritten."),
            Finding::Stale if stale <= counts.refused => writeln!(
                f,
                "\n{stale} values cannot be written and were left as they are, for the reasons above."
            ),
            Finding::Stale => writeln!(
                f,
                "\n{stale} values are not as their rules write them. Once every proxy has loaded this configuration, sweep \
                 again."
            ),
            Finding::Undecryptable => writeln!(
                f,
                "\n{} values do not open and were left as they are; all others are as their rules write them.",
                objects(&[State::Undecryptable])
            ),
        }
    }
}

impl Report {
    fn revisions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revisions = &self.revisions;
        if let (Some(first), Some(last)) = (revisions.first_write, revisions.last_write) {
            writeln!(f, "written at revisions {first} to {last}")?;
        }
        if self.is_dry_run {
            writeln!(f, "\nread at revision {}", revisions.proof_from)?;
        } else {
            writeln!(
                f,
                "proved at revision {}",
                span(revisions.proof_from, revisions.proof_to)
            )?;
        }
        if revisions.overtaken > 0 {
            writeln!(
                f,
                "compaction overtook the scan {} times, so not all was read at one revision",
                revisions.overtaken
            )?;
        }
        match (revisions.old_keys_needed_before, revisions.is_compacted) {
            (Some(revision), Some(true)) => writeln!(
                f,
                "no old key is needed from revision {revision} on, and all that is older has been compacted away"
            ),
            (Some(revision), _) => writeln!(
                f,
                "no old key is needed from revision {revision} on; what is older stays readable until it is compacted away"
            ),
            _ => Ok(()),
        }
    }

    /// Where what was there before can still be read by whoever has a member's disk. Nothing here looks at disks.
    fn on_disk(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dry_run || self.finding == Finding::Stale {
            return Ok(());
        }
        for one in &self.defragmented {
            match &one.why {
                None => writeln!(f, "defragmented: {}", one.member)?,
                Some(why) => writeln!(f, "NOT defragmented: {}: {}", one.member, why.escape_debug())?,
            }
        }
        let mut places = Vec::new();
        if self.revisions.is_compacted != Some(true) {
            places.push("in etcd's history, until it is compacted");
        }
        if self.defragmented.is_empty() || self.defragmented.iter().any(|one| one.why.is_some()) {
            places.push("in free pages of each member's database, until that member is defragmented");
        }
        places.push("in each member's write-ahead log and snapshot files, until etcd has removed them (--max-wals, --max-snapshots)");
        places.push("in backups");
        writeln!(f, "what was stored before can still be on disk: {}", places.join("; "))
    }

    fn left(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nLeft as they are:")?;
        for left in self.left.iter().take(MAX_LISTED) {
            writeln!(f, "  {left}")?;
        }
        if self.left.len() > MAX_LISTED {
            writeln!(f, "  and {} more; see -o json", self.left.len() - MAX_LISTED)?;
        }
        Ok(())
    }
}

fn span(from: i64, to: i64) -> String {
    if from == to {
        from.to_string()
    } else {
        format!("{from} to {to}")
    }
}

fn table(lines: &[Line], is_dry_run: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let last = if is_dry_run {
        ["OBJECTS", ""]
    } else {
        ["BEFORE", "AFTER"]
    };
    let head = ["RESOURCE", "STATE", "PROVIDER", "KEY"].into_iter().chain(last);
    let mut rows = vec![head.map(str::to_owned).collect()];
    for Line { row, before, objects } in lines {
        let state = match row.state {
            State::Current => "current",
            State::Stale => "stale",
            State::Plaintext => "plaintext",
            State::Undecryptable => "undecryptable",
        };
        let (first, second) = match before {
            Some(before) => (before.to_string(), objects.to_string()),
            None => (objects.to_string(), String::new()),
        };
        // A key's name is whatever stands in a stored value: shown without what could act on a terminal.
        let key = match row.under.key.as_str() {
            "" => "-".to_owned(),
            name => name.escape_debug().to_string(),
        };
        rows.push(vec![
            row.resource.escape_debug().to_string(),
            state.to_owned(),
            row.under.provider.to_string(),
            key,
            first,
            second,
        ]);
    }
    columns(&rows, 4, f)
}
