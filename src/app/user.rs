//! Who runs this process, for records and for the audit log.

use std::fs;

/// The name of the process's user by `/etc/passwd`, or its number where that has none: in a container, or by a directory.
pub(super) fn user() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(&uid, &accounts).map_or(uid, str::to_owned)
}

/// `name:password:uid:…`, a user a line.
fn name_of<'a>(uid: &str, accounts: &'a str) -> Option<&'a str> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid && !name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_where_there_is_one() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\n\nbroken\n:x:7:\netcd:x:101:101::/:/bin/false";
        assert_eq!(name_of("0", accounts), Some("root"));
        assert_eq!(name_of("101", accounts), Some("etcd"));
        for nobody in ["7", "10", "x", ""] {
            assert_eq!(name_of(nobody, accounts), None, "{nobody}");
        }
    }
}
