//! What was found, for people.

use std::fmt;

use super::Survey;

/// Folders that are named; the JSON has more.
const MAX_LINES: usize = 20;

/// What to do about a rule that matches nothing.
const WAY_ON: &str = "Name the resource as Kubernetes does, or say where it lies by --etcd-prefix or --resource-path.";

/// Lines of a report; nothing where nothing was found.
impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.missed.is_empty() {
            writeln!(
                f,
                "\nRules that match nothing, although something of that name is stored:"
            )?;
            for missed in &self.missed {
                writeln!(f, "  {}: {}", missed.rule, missed.stored.join(", "))?;
            }
            writeln!(f, "{WAY_ON}")?;
        }
        if !self.unlisted.is_empty() {
            let is_covered = self.unlisted.iter().all(|folder| folder.is_covered);
            let how = if is_covered {
                "covered by *.* alone"
            } else {
                "covered by no rule"
            };
            writeln!(
                f,
                "\nKeys below --etcd-prefix of no resource that this version knows, {how}:"
            )?;
            for folder in self.unlisted.iter().take(MAX_LINES) {
                writeln!(f, "  {}: {}", folder.path, folder.keys)?;
            }
            if self.unlisted.len() > MAX_LINES {
                writeln!(f, "  and {} folders more; see -o json", self.unlisted.len() - MAX_LINES)?;
            }
        }
        if let Some(why) = &self.why_not {
            writeln!(f, "\nWhether rules match what is stored was not looked at: {why}")?;
        }
        if self.is_cut {
            writeln!(
                f,
                "\nThere are more folders below --etcd-prefix than are looked at, so there may be more of this."
            )?;
        }
        Ok(())
    }
}

impl Survey {
    /// In one line, for a health check.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        for missed in &self.missed {
            parts.push(format!(
                "the rule for {} matches nothing, although {} is stored",
                missed.rule,
                missed.stored.join(", ")
            ));
        }
        if !self.unlisted.is_empty() {
            let named: Vec<_> = self.unlisted.iter().take(3).map(|folder| &*folder.path).collect();
            let more = if self.unlisted.len() > named.len() {
                " and others"
            } else {
                ""
            };
            parts.push(format!(
                "{} keys are of no resource that this version knows: {}{more}",
                self.unlisted_keys(),
                named.join(", ")
            ));
        }
        if self.is_cut {
            parts.push("not all was looked at".to_owned());
        }
        if parts.is_empty() {
            "every key below --etcd-prefix is of a resource that is known".to_owned()
        } else {
            parts.join("; ")
        }
    }
}
