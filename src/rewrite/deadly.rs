//! Requests that etcd's servers do not survive: it gives them to every member before it looks at them, and each ends when it
//! applies one, again and again. No client means them.

use super::Refusal;
use crate::wire::{
    Fields,
    etcd::{alarm_request, role_grant_permission_request},
    once,
};

/// Checks an `AlarmRequest`. Seen with etcd 3.4 (an unknown action) and 3.5 (that, or an unknown type).
///
/// # Errors
/// [`Refusal::Alarm`]; [`Refusal::Malformed`].
pub fn alarm_request(message: &[u8]) -> Result<(), Refusal> {
    use alarm_request::{ACTION, ACTIONS, ALARM, ALARMS};
    let (mut action, mut alarm) = (None, None);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            ACTION => once(&mut action, ACTION, field.enumeration()?)?,
            ALARM => once(&mut alarm, ALARM, field.enumeration()?)?,
            _ => {}
        }
    }
    if ACTIONS.contains(&action.unwrap_or_default()) && ALARMS.contains(&alarm.unwrap_or_default()) {
        Ok(())
    } else {
        Err(Refusal::Alarm)
    }
}

/// Checks an `AuthRoleGrantPermissionRequest`. Seen with etcd 3.4.
///
/// # Errors
/// [`Refusal::NoPermission`]; [`Refusal::Malformed`].
pub fn role_grant_permission_request(message: &[u8]) -> Result<(), Refusal> {
    use role_grant_permission_request::PERM;
    let mut perm = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == PERM {
            once(&mut perm, PERM, field.body()?.bytes)?;
        }
    }
    perm.map(drop).ok_or(Refusal::NoPermission)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_of_a_known_kind_pass_and_others_do_not() {
        for known in [&[][..], &[8, 0], &[8, 2, 16, 7, 24, 1], &[8, 1, 24, 2]] {
            assert_eq!(alarm_request(known), Ok(()), "{known:?}");
        }
        let minus_one = [&[24][..], &[0xff; 9], &[1]].concat();
        for unknown in [&[8, 3][..], &[8, 1, 24, 3], &minus_one] {
            assert_eq!(alarm_request(unknown), Err(Refusal::Alarm), "{unknown:?}");
        }
        assert!(matches!(alarm_request(&[8, 3, 8, 0]), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn a_permission_has_to_be_there() {
        assert_eq!(role_grant_permission_request(&[10, 1, b'r', 18, 0]), Ok(()));
        let without = role_grant_permission_request(&[10, 1, b'r']);
        assert_eq!(without, Err(Refusal::NoPermission));
    }
}
