//! `status` for people: k3s's lines exactly, then tables of ours.

use std::fmt;

use super::{Status, UNKNOWN};
use crate::managed::Time;
use crate::members::short;
use crate::rotation::Stage;
use crate::sweep::Seeds;

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = if self.enable { "Enabled" } else { "Disabled" };
        let hashes = if self.members.is_empty() {
            "No member is there"
        } else if self.hash_match {
            "All hashes match"
        } else {
            &self.hash_error
        };
        writeln!(f, "Encryption Status: {status}")?;
        writeln!(
            f,
            "Current Rotation Stage: {}",
            self.stage.map_or(UNKNOWN, Stage::as_str)
        )?;
        writeln!(f, "Server Encryption Hashes: {hashes}\n")?;
        let mut rows = vec![["Active", "Key Type", "Name"].map(str::to_owned)];
        rows.push(["------", "--------", "----"].map(str::to_owned));
        rows.extend(self.keys.iter().map(|key| {
            let mark = if key.is_active { " *" } else { "" };
            [mark.to_owned(), key.of.to_owned(), key.name.clone()]
        }));
        table(&rows, f)?;
        self.ages(f)?;
        self.members(f)?;
        self.stores(f)?;
        self.objects(f)?;
        write!(f, "{}", self.survey)?;
        if let Some(uncovered) = &self.uncovered {
            uncovered.table(f)?;
        }
        if let Some(keyring) = &self.keyring {
            write!(f, "\n{keyring}")?;
        }
        if let Some(sweep) = &self.sweep {
            writeln!(
                f,
                "\nSweep: {} values looked at, {} rewritten, by {}",
                sweep.scanned, sweep.rewritten, sweep.by
            )?;
        }
        writeln!(f)?;
        if let Some(underway) = self.underway {
            writeln!(f, "Under way: {}", underway.as_str())?;
        }
        for why in &self.blocked {
            writeln!(f, "Blocked: {why}")?;
        }
        writeln!(f, "Next: {}", self.next)?;
        if let Some(stored) = self.still_encrypted() {
            writeln!(f, "Stored: {stored}")?;
        }
        self.unopened(f)
    }
}

impl Status {
    /// That switching encryption off changes nothing of what is stored: unless a count has found nothing encrypted any more.
    fn still_encrypted(&self) -> Option<String> {
        if self.enable || self.keys.is_empty() {
            return None;
        }
        let way_on = "`reencrypt --force --skip` stores it in the clear";
        let Some(objects) = self.objects.as_ref().filter(|objects| objects.is_counted) else {
            return Some(format!(
                "what was encrypted before stays so until it is written again; {way_on}, `status --count` counts it"
            ));
        };
        let encrypted = objects.rows.iter().filter(|line| line.row.under.provider != "identity");
        let values: u64 = encrypted.map(|line| line.objects).sum();
        (values > 0).then(|| format!("{values} values are encrypted; {way_on}"))
    }

    fn ages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![
            ["Age", "Since", "Key"].map(str::to_owned),
            ["---", "-----", "---"].map(str::to_owned),
        ];
        rows.extend(self.keys.iter().filter_map(|key| {
            let since = key.since?;
            Some([
                age(since, self.now),
                since.to_string(),
                format!("{} {}", key.of, key.name),
            ])
        }));
        if rows.len() == 2 {
            return Ok(());
        }
        writeln!(f)?;
        table(&rows, f)
    }

    fn members(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.members.is_empty() {
            return writeln!(f, "\nNo member is there.");
        }
        writeln!(f)?;
        let mut rows = vec![
            ["Member", "Configuration", "Writes With", "Refuses A Newer One"].map(str::to_owned),
            ["------", "-------------", "-----------", "-------------------"].map(str::to_owned),
        ];
        rows.extend(self.members.iter().map(|member| {
            [
                member.name.clone(),
                short(&member.fingerprint).to_owned(),
                member.writes.join(", "),
                // A reason may have lines.
                member
                    .refuses
                    .as_deref()
                    .map_or_else(String::new, |why| why.escape_debug().to_string()),
            ]
        }));
        table(&rows, f)
    }

    /// What says otherwise than the last proof comes last, so that it is read.
    fn unopened(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.recoverable.is_empty() {
            writeln!(f)?;
            for found in &self.recoverable {
                writeln!(f, "Recoverable: {found}")?;
            }
            writeln!(
                f,
                "`recover` brings these under the key that writes; `recover --dry-run` tells how"
            )?;
        }
        if self.unopened.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        for member in &self.unopened {
            writeln!(
                f,
                "Unreadable: {} has met encrypted values that none of its keys opens, {} at least, since {}",
                member.member, member.at_least, member.since
            )?;
        }
        match self.undecryptable {
            None => {
                writeln!(
                    f,
                    "`status --count` counts what does not open, `sweep --dry-run` names each with the key that it needs"
                )?;
                if self.keyring.is_some() {
                    return Ok(());
                }
                writeln!(
                    f,
                    "`secrets-encrypt recover --dry-run` says which kept file has a key that opens them"
                )
            }
            Some(0) => writeln!(
                f,
                "By this count every value under a rule opens: `reencrypt --force --skip` proves it, and this goes"
            ),
            Some(values) if !self.recoverable.is_empty() => {
                writeln!(f, "By this count {values} under the rules do not open: see above")
            }
            Some(values) => writeln!(
                f,
                "By this count {values} under the rules do not open. `sweep --dry-run` names each with the key that it needs; put \
                 that back behind the key that writes, and run `reencrypt --force --skip`"
            ),
        }
    }

    /// Where there is one that knows who it is; of several it matters which there are.
    fn stores(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stores.iter().all(|store| store.store.is_none() && store.is_named) {
            return Ok(());
        }
        writeln!(f)?;
        let mut rows = vec![
            ["Store", "Etcd Cluster", "Named", "Servers"].map(str::to_owned),
            ["-----", "------------", "-----", "-------"].map(str::to_owned),
        ];
        rows.extend(self.stores.iter().map(|view| {
            let store = view.store.as_ref();
            let part =
                |text: Option<&str>| text.map_or_else(|| "unknown".to_owned(), |text| text.escape_debug().to_string());
            [
                part(store.map(|store| store.id.as_str())),
                part(store.map(|store| store.cluster.as_str())),
                if view.is_named { "yes" } else { "no" }.to_owned(),
                view.servers.clone(),
            ]
        }));
        table(&rows, f)
    }

    fn objects(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(objects) = &self.objects else {
            return Ok(());
        };
        writeln!(f)?;
        let mut rows = vec![
            ["Objects", "State", "Provider", "Key", "Resource"].map(str::to_owned),
            ["-------", "-----", "--------", "---", "--------"].map(str::to_owned),
        ];
        rows.extend(objects.rows.iter().map(|line| {
            [
                line.objects.to_string(),
                line.state().to_owned(),
                line.row.under.provider.to_string(),
                // Whatever stands in a stored value.
                line.row.under.key.escape_debug().to_string(),
                line.row.resource.escape_debug().to_string(),
            ]
        }));
        table(&rows, f)?;
        for told in objects.kms_seeds.iter().filter_map(Seeds::told) {
            writeln!(f, "{told}")?;
        }
        if objects.is_counted {
            writeln!(f, "(counted now)")
        } else {
            let of_this = objects.fingerprint == self.fingerprint;
            let which = if of_this { "this" } else { "an earlier" };
            writeln!(f, "(by the sweep of {}, of {which} configuration)", objects.since)
        }
    }
}

/// As kubectl tells of ages, in the largest unit that there is one of. Clocks differ; who is ahead is of no age.
fn age(since: Time, now: Time) -> String {
    const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let seconds = now
        .system()
        .duration_since(since.system())
        .unwrap_or_default()
        .as_secs();
    let unit = UNITS.into_iter().find(|(length, _)| seconds >= *length);
    let (length, unit) = unit.unwrap_or((1, 's'));
    format!("{}{unit}", seconds / length)
}

/// Columns two spaces apart, as Go's tabwriter sets them: the last one ends where its text ends.
fn table<const N: usize>(rows: &[[String; N]], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - cell.chars().count().min(width)));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
