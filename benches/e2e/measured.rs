//! What one measurement gave, and what several of them say together.

use std::time::Duration;

use serde_json::{Value, json};

use crate::target::Target;
use crate::usage::{self, Cpu};

/// One measurement of one target.
#[derive(Clone, Debug)]
pub struct Round {
    pub throughput: f64,
    /// Microseconds: p50, p99, p99.9.
    pub latency: [f64; 3],
    /// CPU microseconds that a request cost: the process in between, etcd, and the load itself.
    pub proxy_cpu: Option<f64>,
    pub etcd_cpu: f64,
    pub load_cpu: f64,
    /// Seconds that the process in between spent outside the kernel, and in all.
    pub user_and_all: Option<(f64, f64)>,
    /// The most memory that the process in between had meanwhile, bytes.
    pub peak: Option<u64>,
}

/// Takes what processes have used, before and after.
pub struct Meter {
    proxy: Option<(u32, Cpu)>,
    etcd: (u32, Cpu),
    load: Cpu,
    load_used: Option<Cpu>,
}

impl Meter {
    pub fn begin(target: &Target, etcd: u32) -> Self {
        let proxy = target.pid.map(|pid| {
            usage::forget_peak(pid);
            (pid, Cpu::of(pid))
        });
        Self {
            proxy,
            etcd: (etcd, Cpu::of(etcd)),
            load: Cpu::of(std::process::id()),
            load_used: None,
        }
    }

    /// Notes what the load has used by now. For loads with threads of their own: what those used is gone with them.
    pub fn load_ends(&mut self) {
        self.load_used = Some(Cpu::of(std::process::id()).since(self.load));
    }

    /// What there was since, with the requests that were answered within `elapsed`, in microseconds each.
    pub fn end(mut self, elapsed: Duration, latencies: Vec<f64>) -> Round {
        if self.load_used.is_none() {
            self.load_ends();
        }
        let requests = latencies.len().max(1) as f64;
        let each = |cpu: Cpu| cpu.total.as_secs_f64() * 1e6 / requests;
        let proxy = self.proxy.map(|(pid, before)| (pid, Cpu::of(pid).since(before)));
        Round {
            throughput: latencies.len() as f64 / elapsed.as_secs_f64(),
            proxy_cpu: proxy.map(|(_, cpu)| each(cpu)),
            etcd_cpu: each(Cpu::of(self.etcd.0).since(self.etcd.1)),
            load_cpu: each(self.load_used.unwrap_or_default()),
            user_and_all: proxy.map(|(_, cpu)| (cpu.user, cpu.total.as_secs_f64())),
            peak: proxy.map(|(pid, _)| usage::memory(pid).1),
            latency: percentiles(latencies),
        }
    }
}

/// All rounds of one target under one load.
pub struct Rounds {
    pub target: &'static str,
    pub each: Vec<Round>,
    /// Throughput as a part of the direct one, round by round.
    pub ratios: Vec<f64>,
}

impl Rounds {
    pub fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.each.iter().map(of).collect())
    }

    pub fn proxy_cpu(&self) -> Option<f64> {
        let found: Option<Vec<_>> = self.each.iter().map(|round| round.proxy_cpu).collect();
        found.map(median)
    }

    pub fn peak(&self) -> Option<u64> {
        self.each.iter().filter_map(|round| round.peak).max()
    }

    /// How much of the CPU time was spent outside the kernel, over all rounds.
    pub fn user_part(&self) -> Option<f64> {
        let all: Option<Vec<_>> = self.each.iter().map(|round| round.user_and_all).collect();
        let (user, whole) = all?
            .into_iter()
            .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Some((user / whole).min(1.0))
    }

    /// The least, the median and the most of [`Rounds::ratios`].
    pub fn ratio(&self) -> [f64; 3] {
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.ratios.iter().copied().fold(0.0, f64::max);
        [least, median(self.ratios.clone()), most]
    }

    pub fn json(&self) -> Value {
        let rounds: Vec<_> = self.each.iter().map(Round::json).collect();
        let [least, middle, most] = self.ratio();
        json!({"target": self.target, "ratioToDirect": {"median": middle, "min": least, "max": most}, "rounds": rounds})
    }
}

impl Round {
    fn json(&self) -> Value {
        let [p50, p99, p999] = self.latency;
        json!({
            "requestsPerSecond": self.throughput, "p50Us": p50, "p99Us": p99, "p999Us": p999,
            "proxyCpuUsPerRequest": self.proxy_cpu, "etcdCpuUsPerRequest": self.etcd_cpu,
            "loadCpuUsPerRequest": self.load_cpu, "peakBytes": self.peak,
        })
    }
}

/// The one in the middle, or between the two there.
pub fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    match (all.len() / 2, all.len() % 2) {
        (_, _) if all.is_empty() => f64::NAN,
        (half, 1) => all[half],
        (half, _) => f64::midpoint(all[half - 1], all[half]),
    }
}

fn percentiles(mut all: Vec<f64>) -> [f64; 3] {
    all.sort_by(f64::total_cmp);
    [0.5, 0.99, 0.999].map(|part| {
        let index = (part * all.len() as f64) as usize;
        all.get(index).copied().unwrap_or(f64::NAN)
    })
}
