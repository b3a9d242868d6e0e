//! What is to happen in a round, drawn from the seed and the round's number alone. When the operating system lets whom run is
//! its own affair, so a seed repeats the plan and not each interleaving.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::common::tools::Version;

/// Members of etcd, and proxies.
pub const MEMBERS: usize = 3;
pub const PROXIES: usize = 3;

/// A round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the writers draw from.
    pub writers: u64,
    /// Faults in the order in which they begin.
    pub faults: Vec<Fault>,
    /// What the operator runs, one after the other and from the beginning again.
    pub commands: Vec<Command>,
    /// What somebody else runs meanwhile.
    pub others: Vec<Command>,
    /// How bytes are held across a rotation.
    pub aim: Aim,
    /// Whose bytes.
    pub victim: usize,
}

/// What the machine lets a campaign do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// Packets can be dropped: network namespaces can be had.
    pub namespaces: bool,
    /// Wall clocks can be stepped: there is a C compiler.
    pub clocks: bool,
}

/// How far a wall clock is from the true time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub i64);

/// A fault, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: Duration,
    pub lasts: Duration,
    pub kind: Kind,
}

/// What is done to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    FreezeMember(usize),
    KillMember(usize),
    FreezeProxy(usize),
    KillProxy(usize),
    FreezeCommand,
    KillCommand,
    /// The connections that a proxy has to a member are held, and delivered late.
    Hold(usize, usize),
    /// A proxy cannot reach a member.
    Cut(usize, usize),
    /// Every packet of a proxy to etcd is dropped.
    Drop(usize),
    /// etcd has no space left, and takes no write.
    Full,
    /// A proxy's wall clock steps, and steps back at the end.
    Clock(usize, Step),
    /// So does that of the commands, of the one that runs and of those begun meanwhile.
    CommandClock(Step),
}

/// What an operator runs, by the words behind `secrets-encrypt`.
pub type Command = &'static [&'static str];

/// Bytes held across the drop of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aim {
    /// In the socket of a member that is stopped.
    Frozen,
    /// In a relay.
    Held,
    /// In the kernel of a proxy whose packets are dropped.
    Dropped,
    /// Nowhere: nothing holds them.
    Nothing,
}

const COMMANDS: [(u32, Command); 12] = [
    (6, &["rotate-keys", "--compact"]),
    (2, &["rotate-keys", "--compact", "--key-type=secretbox"]),
    (2, &["rotate-keys", "--compact", "--key-type=aescbc"]),
    (2, &["prepare"]),
    (2, &["rotate"]),
    (2, &["reencrypt", "--compact"]),
    (2, &["abort", "--compact"]),
    (1, &["reencrypt", "--force", "--skip"]),
    (1, &["status", "--count"]),
    (1, &["rotate-keys", "--dry-run"]),
    (1, &["prepare", "--key-type=aesgcm"]),
    // Of managed mode alone; an error in the other, as an operator may make it.
    (1, &["purge", "--all", "--yes"]),
];

/// Which etcd a scene has. All drop nothing acknowledged when they are stopped as `Etcd::kill_or_stop` does it.
pub fn version(seed: u64, scene: usize) -> Version {
    let all = Version::all();
    let count = u64::try_from(all.len()).expect("a few");
    all[usize::try_from(seed % count).expect("a few").wrapping_add(scene / 2) % all.len()]
}

impl Plan {
    /// The same without any fault.
    pub fn calmed(self) -> Self {
        Self {
            faults: Vec::new(),
            aim: Aim::Nothing,
            ..self
        }
    }

    /// The plan of round `number`, with faults for `length`, of those that there are means for.
    pub fn draw(seed: u64, number: usize, length: Duration, means: Means) -> Self {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add((number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let writers = random.random();
        let mut faults: Vec<Fault> = Vec::new();
        let mut at = Duration::from_millis(500);
        while at < length {
            let kind = kind(&mut random, means);
            let lasts = lasts(&mut random, kind).min(length.saturating_sub(at));
            // One at a time for each process, and one member at a time, so that etcd is there most of the time.
            let is_free = |other: &Fault| other.at + other.lasts < at || !clash(other.kind, kind);
            if faults.iter().all(is_free) {
                faults.push(Fault { at, lasts, kind });
            }
            at += Duration::from_millis(random.random_range(200..1_800));
        }
        let total: u32 = COMMANDS.iter().map(|(weight, _)| weight).sum();
        let command = |random: &mut StdRng| {
            let mut left = random.random_range(0..total);
            let mut commands = COMMANDS.iter();
            loop {
                let (weight, command) = commands.next().expect("the weights' sum");
                match left.checked_sub(*weight) {
                    Some(rest) => left = rest,
                    None => break *command,
                }
            }
        };
        let commands = (0..12).map(|_| command(&mut random)).collect();
        let others = (0..6).map(|_| command(&mut random)).collect();
        // Each kind of aim comes up in turn, so that no short run misses one.
        let aims = [Aim::Held, Aim::Frozen, Aim::Dropped];
        let count = if means.namespaces { 3 } else { 2 };
        let first = usize::try_from(seed % 3).expect("below 3");
        Self {
            writers,
            faults,
            commands,
            others,
            aim: aims[(first + number) % count],
            victim: random.random_range(0..PROXIES),
        }
    }
}

fn kind(random: &mut StdRng, means: Means) -> Kind {
    loop {
        match any_kind(random) {
            Kind::Drop(_) if !means.namespaces => {}
            Kind::Clock(..) | Kind::CommandClock(_) if !means.clocks => {}
            kind => return kind,
        }
    }
}

fn any_kind(random: &mut StdRng) -> Kind {
    let (member, proxy) = (random.random_range(0..MEMBERS), random.random_range(0..PROXIES));
    match random.random_range(0..25) {
        0..3 => Kind::FreezeMember(member),
        3 => Kind::KillMember(member),
        4..7 => Kind::FreezeProxy(proxy),
        7..9 => Kind::KillProxy(proxy),
        9..11 => Kind::FreezeCommand,
        11 => Kind::KillCommand,
        12..16 => Kind::Hold(proxy, member),
        16..18 => Kind::Cut(proxy, member),
        18 => Kind::Full,
        19..21 => Kind::Drop(proxy),
        21..24 => Kind::Clock(proxy, step(random)),
        _ => Kind::CommandClock(step(random)),
    }
}

/// From a second to 26 years, of any size alike: what a time server corrects, a wrong time zone, a lease's length, an empty battery.
fn step(random: &mut StdRng) -> Step {
    let milliseconds = 10_f64.powf(random.random_range(3.0..11.92));
    let sign = if random.random() { 1.0 } else { -1.0 };
    #[expect(clippy::cast_possible_truncation, reason = "below 10^12")]
    let step = (sign * milliseconds) as i64;
    Step(step)
}

/// Most are short; one in six is longer than a member's record lives.
fn lasts(random: &mut StdRng, kind: Kind) -> Duration {
    let is_long = random.random_range(0..6) == 0;
    let milliseconds = match kind {
        Kind::KillMember(_) | Kind::KillProxy(_) | Kind::KillCommand | Kind::Full => random.random_range(100..3_000),
        _ if is_long => random.random_range(10_000..18_000),
        _ => random.random_range(200..5_000),
    };
    Duration::from_millis(milliseconds)
}

fn clash(one: Kind, other: Kind) -> bool {
    match (one, other) {
        (Kind::FreezeMember(_) | Kind::KillMember(_), Kind::FreezeMember(_) | Kind::KillMember(_))
        | (Kind::FreezeCommand | Kind::KillCommand, Kind::FreezeCommand | Kind::KillCommand)
        | (Kind::Full, Kind::Full)
        | (Kind::CommandClock(_), Kind::CommandClock(_)) => true,
        (
            Kind::FreezeProxy(one) | Kind::KillProxy(one) | Kind::Drop(one),
            Kind::FreezeProxy(other) | Kind::KillProxy(other) | Kind::Drop(other),
        )
        | (Kind::Clock(one, _), Kind::Clock(other, _)) => one == other,
        (Kind::Hold(one, member) | Kind::Cut(one, member), Kind::Hold(other, another) | Kind::Cut(other, another)) => {
            (one, member) == (other, another)
        }
        _ => false,
    }
}

impl Kind {
    /// What it is counted as.
    pub fn name(self) -> &'static str {
        match self {
            Self::FreezeMember(_) => "etcd frozen",
            Self::KillMember(_) => "etcd killed",
            Self::FreezeProxy(_) => "proxy frozen",
            Self::KillProxy(_) => "proxy killed",
            Self::FreezeCommand => "command frozen",
            Self::KillCommand => "command killed",
            Self::Hold(..) => "bytes held",
            Self::Cut(..) => "connections cut",
            Self::Drop(_) => "packets dropped",
            Self::Full => "etcd without space",
            Self::Clock(..) => "proxy's clock stepped",
            Self::CommandClock(_) => "command's clock stepped",
        }
    }
}

impl Step {
    /// The true time.
    pub const NONE: Self = Self(0);
}

impl Aim {
    /// What it is counted as.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frozen => "etcd frozen across a drop",
            Self::Held => "bytes held across a drop",
            Self::Dropped => "packets dropped across a drop",
            Self::Nothing => "nothing held across a drop",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            let (at, lasts) = (fault.at.as_secs_f64(), fault.lasts.as_secs_f64());
            writeln!(f, "  {at:6.1} s, for {lasts:4.1} s: {:?}", fault.kind)?;
        }
        let commands: Vec<_> = self.commands.iter().map(|words| words.join(" ")).collect();
        writeln!(f, "  commands: {}", commands.join("; "))?;
        let others: Vec<_> = self.others.iter().map(|words| words.join(" ")).collect();
        writeln!(f, "  beside them: {}", others.join("; "))?;
        write!(f, "  aimed: {} at proxy {}", self.aim.name(), self.victim)
    }
}

#[cfg(test)]
const ALL: Means = Means {
    namespaces: true,
    clocks: true,
};

#[test]
fn a_seed_gives_the_same_plan_again() {
    let draw = |seed, number| Plan::draw(seed, number, Duration::from_secs(30), ALL);
    assert_eq!(draw(7, 3), draw(7, 3));
    assert_ne!(draw(7, 3), draw(7, 4));
    assert_ne!(draw(7, 3), draw(8, 3));
}

#[test]
fn every_kind_is_drawn_and_ends_in_its_round() {
    let length = Duration::from_secs(20);
    let plans: Vec<_> = (0..40).map(|number| Plan::draw(1, number, length, ALL)).collect();
    let faults = plans.iter().flat_map(|plan| &plan.faults);
    assert!(faults.clone().all(|fault| fault.at + fault.lasts <= length));
    let mut names: Vec<_> = faults.map(|fault| fault.kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 12, "{names:?}");
    for (_, command) in COMMANDS {
        assert!(plans.iter().any(|plan| plan.commands.contains(&command)), "{command:?}");
    }
    let nothing = Means {
        namespaces: false,
        clocks: false,
    };
    let without = (0..40).flat_map(|number| Plan::draw(1, number, length, nothing).faults);
    let mut needy =
        without.filter(|fault| matches!(fault.kind, Kind::Drop(_) | Kind::Clock(..) | Kind::CommandClock(_)));
    assert_eq!(needy.next(), None);
}

#[test]
fn clocks_step_both_ways_by_seconds_and_by_years() {
    let mut random = StdRng::seed_from_u64(1);
    let steps: Vec<i64> = (0..1_000).map(|_| step(&mut random).0).collect();
    let year = 366 * 86_400_000;
    assert!(steps.iter().all(|step| (1_000..27 * year).contains(&step.abs())));
    for sign in [1, -1] {
        assert!(steps.iter().any(|step| (0..10_000).contains(&(sign * step))));
        assert!(steps.iter().any(|step| sign * step > year));
    }
}
