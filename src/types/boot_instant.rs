//! Points in time by a clock that nobody sets and that goes on while the machine is suspended: whoever measures a lease in
//! etcd measures by it. The monotonic clock of the standard library stands still meanwhile.

use std::time::Duration;

/// A point in time since the machine booted, by `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Now.
    pub fn now() -> Self {
        Self(clock())
    }

    /// So much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// How much time has passed since; none where it is yet to come.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    /// Time since the boot.
    pub fn since_boot(self) -> Duration {
        self.0
    }
}

#[cfg(not(test))]
fn clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// Unit tests have a clock that they can stop and turn: that of their runtime.
#[cfg(test)]
fn clock() -> Duration {
    use std::sync::LazyLock;

    use tokio::time::Instant;

    /// Long after the boot, so that what was long ago has a time, too.
    const SINCE_BOOT: Duration = Duration::from_secs(1 << 20);
    static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);
    let base = *BASE;
    SINCE_BOOT + Instant::now().saturating_duration_since(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes() {
        let now = BootInstant::now();
        assert!(now.after(Duration::from_secs(1)) > now);
        assert_eq!(now.after(Duration::from_secs(3600)).elapsed(), Duration::ZERO);
    }

    /// What the product measures by is the system's clock, which unit tests otherwise replace.
    #[test]
    fn the_system_has_the_clock() {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let uptime = std::fs::read_to_string("/proc/uptime").expect("the uptime");
        let uptime: f64 = uptime
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("seconds");
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let seconds = time.tv_sec as f64;
        assert!((uptime - seconds).abs() < 60.0, "{uptime} {seconds}");
    }
}
