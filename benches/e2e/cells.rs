//! What is measured: each load with each of its targets, in turns.

use crate::calls::{self, Load};
use crate::closed::{self, Shape};
use crate::fan_out::{self, Watchers};
use crate::measured::{Round, Rounds};
use crate::open;
use crate::scene::Scene;
use crate::settings::{Part, Settings};
use crate::target::{
    AESCBC, AESGCM, DIRECT, FENCED, GRPC_PROXY, IDENTITY, KMS_V2, NO_RULE, OTHER, SECRETBOX, Target, Transport,
};

/// One load, and what it is put through.
#[derive(Clone, Copy)]
pub struct Cell {
    pub what: What,
    pub transport: Transport,
    targets: &'static [&'static str],
}

#[derive(Clone, Copy)]
pub enum What {
    Closed(Shape),
    /// With so many requests a second.
    Open(Shape, u32),
    FanOut(Watchers),
}

/// A cell and what was found.
pub struct Outcome {
    pub part: Part,
    pub cell: Cell,
    pub etcd: String,
    pub targets: Vec<Rounds>,
}

const ALL: &[&str] = &[DIRECT, GRPC_PROXY, NO_RULE, IDENTITY, AESCBC, AESGCM, SECRETBOX, KMS_V2];
const CIPHERS: &[&str] = &[DIRECT, GRPC_PROXY, AESCBC, AESGCM, SECRETBOX, KMS_V2];
const FEW: &[&str] = &[DIRECT, GRPC_PROXY, NO_RULE, AESCBC];
/// etcd's grpc-proxy listens on no unix socket, and answers a lease's keep-alive when it next sends its own: minutes later.
const WITHOUT_GRPC_PROXY: &[&str] = &[DIRECT, NO_RULE, AESCBC];

const KIB: usize = 1024;
/// Requests a second of the open loop, where nothing else is asked for.
const OPEN_RATE: u32 = 2_000;
/// Clients and their connections.
const CROWDS: [(usize, usize); 4] = [(1, 1), (8, 8), (64, 8), (128, 64)];

pub async fn run(part: Part, settings: &Settings) -> Vec<Outcome> {
    let cells = cells(part, settings);
    let Some(first) = cells.first() else { return Vec::new() };
    // Every cell of a part is of one transport, and the first has all the targets.
    let scene = Scene::start(settings, first.transport, first.targets).await;
    let etcd = scene.version().await;
    let mut outcomes = Vec::new();
    for cell in cells.into_iter().filter(|cell| settings.wants(&cell.title())) {
        eprintln!("{}: {}", part.name(), cell.title());
        let targets = measure(&scene, cell, settings).await;
        outcomes.push(Outcome {
            part,
            cell,
            etcd: etcd.clone(),
            targets,
        });
    }
    outcomes
}

fn cells(part: Part, settings: &Settings) -> Vec<Cell> {
    let shape = |load, (clients, connections), value_bytes| Shape {
        load,
        clients,
        connections,
        value_bytes,
    };
    let closed = |shape, transport, targets| Cell {
        what: What::Closed(shape),
        transport,
        targets,
    };
    let loads = [Load::Put, Load::Get, Load::Update];
    match part {
        Part::Core => CROWDS
            .into_iter()
            .flat_map(|crowd| loads.map(|load| closed(shape(load, crowd, KIB), Transport::Tcp, ALL)))
            .collect(),
        Part::List => {
            let of_500 = CROWDS.map(|crowd| closed(shape(Load::List(500), crowd, KIB), Transport::Tcp, ALL));
            let of_10_000 = closed(shape(Load::List(10_000), (1, 1), KIB), Transport::Tcp, CIPHERS);
            of_500.into_iter().chain([of_10_000]).collect()
        }
        Part::Sizes => [256, 32 * KIB, 1024 * KIB]
            .into_iter()
            .flat_map(|size| {
                let crowd = if size > 64 * KIB { (8, 8) } else { (64, 8) };
                [Load::Put, Load::Get].map(|load| closed(shape(load, crowd, size), Transport::Tcp, CIPHERS))
            })
            .collect(),
        Part::Tls | Part::Unix => {
            let (transport, targets) = match part {
                Part::Tls => (Transport::Tls, FEW),
                _ => (Transport::Unix, WITHOUT_GRPC_PROXY),
            };
            let alone = loads.map(|load| closed(shape(load, (1, 1), KIB), transport, targets));
            let many = loads.map(|load| closed(shape(load, (64, 8), KIB), transport, targets));
            let list = closed(shape(Load::List(500), (64, 8), KIB), transport, targets);
            alone.into_iter().chain(many).chain([list]).collect()
        }
        Part::Open => vec![Cell {
            what: What::Open(shape(Load::Mixed, (256, 8), KIB), settings.rate_or(OPEN_RATE)),
            transport: Transport::Tcp,
            targets: FEW,
        }],
        Part::Watch => vec![Cell {
            what: What::FanOut(Watchers {
                connections: 10,
                watches: 1_000,
                value_bytes: KIB,
            }),
            transport: Transport::Tcp,
            targets: FEW,
        }],
        Part::Lease => vec![closed(
            shape(Load::KeepAlive, (64, 8), 1),
            Transport::Tcp,
            WITHOUT_GRPC_PROXY,
        )],
        Part::Fence => [Load::Put, Load::Update]
            .map(|load| closed(shape(load, (64, 8), KIB), Transport::Tcp, &[DIRECT, FENCED]))
            .into(),
        Part::Instructions | Part::Scale | Part::Soak => Vec::new(),
    }
}

async fn measure(scene: &Scene, cell: Cell, settings: &Settings) -> Vec<Rounds> {
    let targets: Vec<&Target> = scene
        .targets
        .iter()
        .filter(|target| cell.targets.contains(&target.name) || target.name == OTHER)
        .collect();
    if let What::Closed(shape) | What::Open(shape, _) = cell.what {
        for target in &targets {
            let channel = target.connect().await;
            calls::fill(channel, &target.prefix(), shape.load, shape.value_bytes, shape.clients).await;
            if target.name == FENCED {
                calls::begin_epoch(target.connect().await).await;
            }
        }
    }
    let mut all: Vec<Rounds> = targets
        .iter()
        .map(|target| Rounds {
            target: target.name,
            each: Vec::new(),
            ratios: Vec::new(),
        })
        .collect();
    for turn in 0..settings.rounds {
        // Each round begins with another target, so that none is always the one after the garbage of a certain other.
        for index in (0..targets.len()).map(|index| (index + turn) % targets.len()) {
            let target = targets[index];
            let round = tokio::task::block_in_place(|| one(target, scene.etcd_pid, cell, settings));
            all[index].each.push(round);
            if cell.writes() {
                scene.tidy().await;
            }
        }
        let direct = all[0].each[turn].throughput;
        for rounds in &mut all {
            let ratio = rounds.each[turn].throughput / direct;
            rounds.ratios.push(ratio);
        }
    }
    all
}

fn one(target: &Target, etcd: u32, cell: Cell, settings: &Settings) -> Round {
    match cell.what {
        What::Closed(shape) => closed::run(target, etcd, shape, settings.window),
        What::Open(shape, rate) => open::run(target, etcd, shape, rate, settings.window),
        What::FanOut(watchers) => fan_out::run(target, etcd, watchers, settings.window),
    }
}

impl Cell {
    fn writes(&self) -> bool {
        match self.what {
            What::Closed(shape) | What::Open(shape, _) => shape.load.writes(),
            What::FanOut(_) => true,
        }
    }

    /// Whether the number of requests is what was found, and not what was asked for.
    pub fn is_closed(&self) -> bool {
        !matches!(self.what, What::Open(..))
    }

    pub fn title(&self) -> String {
        let over = match self.transport {
            Transport::Tcp => "",
            Transport::Tls => ", TLS",
            Transport::Unix => ", unix sockets",
        };
        match self.what {
            What::Closed(shape) => format!("{}{over}", of(shape)),
            What::Open(shape, rate) => format!("{rate} requests a second, due one by one: {}{over}", of(shape)),
            What::FanOut(watchers) => format!(
                "an event of {} to {} watches on {} connections{over}",
                bytes(watchers.value_bytes),
                watchers.watches,
                watchers.connections,
            ),
        }
    }
}

fn of(shape: Shape) -> String {
    let size = match shape.load {
        Load::KeepAlive => String::new(),
        Load::List(_) => format!(" x {}", bytes(shape.value_bytes)),
        _ => format!(" of {}", bytes(shape.value_bytes)),
    };
    let crowd = match (shape.clients, shape.connections) {
        (1, _) => "1 client".to_owned(),
        (clients, connections) => format!("{clients} clients on {connections} connections"),
    };
    format!("{}{size}, {crowd}", shape.load.name())
}

pub fn bytes(count: usize) -> String {
    match count {
        count if count.is_multiple_of(KIB * KIB) => format!("{} MiB", count / KIB / KIB),
        count if count.is_multiple_of(KIB) => format!("{} KiB", count / KIB),
        count => format!("{count} B"),
    }
}
