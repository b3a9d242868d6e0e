//! Bars, as SVG that a browser and GitHub show: one group for each load, one bar for each target.

use std::fmt::Write as _;

use crate::cells::Outcome;
use crate::measured::Rounds;
use crate::settings::Part;
use crate::target::DIRECT;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 360.0;
const MARGINS: (f64, f64, f64, f64) = (50.0, 60.0, 10.0, 70.0);
/// Told apart by those who see no red or green as well.
const COLOURS: [&str; 7] = [
    "#999999", "#56b4e9", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#d55e00",
];

/// A bar's height, and how far it was to either side of that.
type Bar = (f64, f64, f64);

pub fn all(outcomes: &[Outcome]) -> Vec<(&'static str, String)> {
    let of = |part| {
        outcomes
            .iter()
            .filter(|outcome| outcome.part == part)
            .collect::<Vec<_>>()
    };
    let ratio = |rounds: &Rounds| {
        let [least, middle, most] = rounds.ratio().map(|ratio| 100.0 * ratio);
        Some((middle, least, most))
    };
    let cpu = |rounds: &Rounds| rounds.proxy_cpu().map(|micros| (micros, micros, micros));
    let mut plots = Vec::new();
    for (name, part, title) in [
        ("e2e-core.svg", Part::Core, "Throughput, % of etcd without a proxy"),
        (
            "e2e-list.svg",
            Part::List,
            "Lists: throughput, % of etcd without a proxy",
        ),
    ] {
        if let [_, ..] = of(part)[..] {
            plots.push((name, bars(title, &of(part), ratio, Some(100.0))));
        }
    }
    if let [_, ..] = of(Part::Core)[..] {
        plots.push((
            "e2e-cpu.svg",
            bars(
                "CPU of the process in between, µs a request",
                &of(Part::Core),
                cpu,
                None,
            ),
        ));
    }
    plots
}

/// `line` is drawn across: what a bar is to be compared with.
fn bars(title: &str, outcomes: &[&Outcome], height: impl Fn(&Rounds) -> Option<Bar>, line: Option<f64>) -> String {
    let (left, top, right, bottom) = MARGINS;
    let names: Vec<_> = outcomes[0]
        .targets
        .iter()
        .map(|rounds| rounds.target)
        .filter(|name| *name != DIRECT)
        .collect();
    let bar_of = |outcome: &Outcome, name: &str| {
        let rounds = outcome.targets.iter().find(|rounds| rounds.target == name);
        rounds.and_then(&height)
    };
    let all = outcomes
        .iter()
        .flat_map(|outcome| names.iter().filter_map(|name| bar_of(outcome, name)));
    let most = all.map(|(_, _, most)| most).chain(line).fold(1.0, f64::max) * 1.05;
    let y = |value: f64| HEIGHT - bottom - value / most * (HEIGHT - top - bottom);
    let group = (WIDTH - left - right) / outcomes.len() as f64;
    let width = group * 0.84 / names.len() as f64;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='11'>\n\
         <rect width='100%' height='100%' fill='white'/>\n<text x='{left}' y='18' font-size='14'>{title}</text>\n"
    );
    for (index, name) in names.iter().enumerate() {
        let x = left + 128.0 * index as f64;
        let colour = COLOURS[index % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<rect x='{x:.0}' y='30' width='10' height='10' fill='{colour}'/><text x='{:.0}' y='39'>{name}</text>",
            x + 14.0
        );
    }
    let step = nice(most);
    for tick in (0..)
        .map(|tick| f64::from(tick) * step)
        .take_while(|value| *value <= most)
    {
        let at = y(tick);
        let _ = writeln!(
            svg,
            "<path d='M{left} {at:.1}H{:.0}' stroke='#ddd'/><text x='{:.0}' y='{:.1}' text-anchor='end'>{tick}</text>",
            WIDTH - right,
            left - 6.0,
            at + 4.0
        );
    }
    for (place, outcome) in outcomes.iter().enumerate() {
        let from = left + group * (place as f64 + 0.08);
        for (index, name) in names.iter().enumerate() {
            let Some((middle, least, most)) = bar_of(outcome, name) else {
                continue;
            };
            let x = from + width * index as f64;
            let _ = writeln!(
                svg,
                "<rect x='{x:.1}' y='{:.1}' width='{:.1}' height='{:.1}' fill='{}'/>\
                 <path d='M{:.1} {:.1}V{:.1}' stroke='#333'/>",
                y(middle),
                width * 0.9,
                y(0.0) - y(middle),
                COLOURS[index % COLOURS.len()],
                x + width * 0.45,
                y(least),
                y(most),
            );
        }
        label(&mut svg, &outcome.cell.title(), from + group * 0.42, y(0.0));
    }
    if let Some(line) = line {
        let _ = writeln!(
            svg,
            "<path d='M{left} {:.1}H{:.0}' stroke='#333' stroke-dasharray='4 3'/>",
            y(line),
            WIDTH - right
        );
    }
    svg + "</svg>\n"
}

/// A load's name under its group, a line for each of its parts.
fn label(svg: &mut String, title: &str, x: f64, y: f64) {
    let short = title
        .replace(" connections", "")
        .replace(" clients on ", " on ")
        .replace(" client", "");
    for (index, words) in short.split(", ").enumerate() {
        let _ = writeln!(
            svg,
            "<text x='{x:.1}' y='{:.1}' text-anchor='middle' font-size='9'>{words}</text>",
            y + 14.0 + 11.0 * index as f64
        );
    }
}

/// A round number of which `most` has about five.
fn nice(most: f64) -> f64 {
    let power = 10_f64.powf((most / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| most / step <= 6.0)
        .unwrap_or(power)
}
