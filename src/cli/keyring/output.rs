//! What verbs about the keyring in etcd print when they are done.

use std::fmt::Write as _;

use crate::app::{Document, Kept, KeyringReport};
use crate::managed;

/// For people.
pub(super) fn text(report: &KeyringReport) -> String {
    match report {
        KeyringReport::Rerooted { .. } => rerooted(report),
        KeyringReport::Exported(keyring) => format!(
            "keyring exported: {}. The file has all keys in the clear; `status` tells of this export\n",
            named(keyring)
        ),
        KeyringReport::Purged {
            documents,
            is_dry_run,
            strange,
        } => purged(documents, *is_dry_run, *strange),
        KeyringReport::BackedUp {
            keyring,
            root,
            archived,
            unopened,
        } => format!(
            "keyring backed up: {}, and {}. It opens with the root {root} alone\n{}",
            named(keyring),
            count(*archived as u64, "archived document"),
            problems("does not open, and is in the backup as it lies", unopened),
        ),
        KeyringReport::Restored {
            keyring,
            archived,
            left_out,
        } => format!(
            "keyring restored: {}; {} written\n{}",
            named(keyring),
            count(*archived as u64, "archived document"),
            problems("was left out", left_out),
        ),
        KeyringReport::Imported {
            keyring,
            root,
            was_there,
            opened,
        } => {
            let how = match (was_there, opened) {
                (true, _) => "it was there already".to_owned(),
                (false, 0) => "no stored value was looked at".to_owned(),
                (false, opened) => format!("{} looked at, all of which open", count(*opened, "stored value")),
            };
            format!(
                "keyring imported: {}; {how}\nIt is sealed under the root {root}: whoever loses that loses every encrypted \
                 value. Start every proxy with it in the place of --encryption-provider-config, and keep the file for old snapshots\n",
                named(keyring)
            )
        }
    }
}

fn rerooted(report: &KeyringReport) -> String {
    let KeyringReport::Rerooted {
        from,
        to,
        records,
        members,
        lacking,
    } = report
    else {
        return String::new();
    };
    let root = format!("the root {} ({})", to.id, to.from);
    let mut text = match records {
        None => format!("`rotate-root` would seal the keyring and its archive anew under {root}\n"),
        Some(0) => format!("everything is under {root} already\n"),
        Some(records) => format!(
            "root rotated: {} sealed anew under {root}\n",
            count(*records as u64, "record")
        ),
    };
    // Writing to a String cannot fail.
    let _ = match members {
        0 => writeln!(text, "no member is there: nobody had to have that root"),
        members => writeln!(text, "members that have it: {members}"),
    };
    if let Some(lacking) = lacking {
        let _ = writeln!(text, "came meanwhile, and does not have it: {lacking}");
    }
    if from != &to.id {
        let _ = writeln!(
            text,
            "The root {from} can go from the root file (or its plugin from the flags) of every member, now that every record is \
             under the new one. Keep a copy of it: backups of the keyring and snapshots of etcd made before still need it"
        );
    }
    text
}

fn purged(documents: &[Document], is_dry_run: bool, strange: usize) -> String {
    let how = if is_dry_run { "would be removed" } else { "removed" };
    let mut text = format!("{} {how} from the archive\n", count(documents.len() as u64, "document"));
    for document in documents {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{document}");
    }
    if !documents.is_empty() && !is_dry_run {
        text.push_str("Snapshots of etcd from their time cannot be read any more, but with a backup of the keyring\n");
    }
    if strange > 0 {
        let _ = writeln!(
            text,
            "{} under names that are none of the archive's stayed",
            count(strange as u64, "record")
        );
    }
    text
}

fn problems(what: &str, errors: &[managed::Error]) -> String {
    let mut text = String::new();
    for error in errors {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{what}: {error}");
    }
    text
}

fn named(keyring: &Kept) -> String {
    format!("generation {} ({})", keyring.generation, keyring.fingerprint)
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
