//! The part of the page about scenarios: tails, what hedging cost and what it gained, processor time.

use std::fmt::Write;

use serde_json::Value;

use super::bars::{Bar, Bars};
use super::chart::{Chart, Line, Scale, Style, escape};
use super::page::{curve, latency_chart, list, name, number, paragraph, share, table};
use crate::measure::spread;
use crate::scenarios::K_OF_K;

/// Records of one setting, of one system and one scenario: one for each round.
struct Row<'a> {
    system: String,
    scenario: String,
    rounds: Vec<&'a Value>,
}

impl Row<'_> {
    fn median(&self, field: impl Fn(&Value) -> f64) -> f64 {
        spread(self.rounds.iter().map(|round| field(round)).filter(|value| value.is_finite())).median
    }

    fn sum(&self, field: &str) -> u64 {
        self.rounds.iter().filter_map(|round| round[field].as_u64()).sum()
    }

    fn p999_us(&self) -> f64 {
        self.median(|round| number(&round["latency"]["p999_us"]))
    }

    /// The round whose tail is the median.
    fn typical(&self) -> Option<&Value> {
        let median = self.p999_us();
        self.rounds.iter().copied().find(|round| number(&round["latency"]["p999_us"]) == median)
    }
}

/// Records of a setting, by system and scenario in their order.
fn rows<'a>(records: &[&'a Value]) -> Vec<Row<'a>> {
    let mut sorted = records.to_vec();
    sorted.sort_by_key(|record| {
        let order = |field: &str| record[field].as_u64().unwrap_or(u64::MAX);
        (order("system_order"), order("order"), order("round"))
    });
    let mut rows: Vec<Row<'_>> = Vec::new();
    for record in sorted {
        let (system, scenario) = (name(record, "system"), name(record, "scenario"));
        match rows.last_mut() {
            Some(row) if (&row.system, &row.scenario) == (&system, &scenario) => row.rounds.push(record),
            _ => rows.push(Row { system, scenario, rounds: vec![record] }),
        }
    }
    rows
}

/// Each name once, in the order in which they come.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    names.for_each(|name| {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    });
    distinct
}

/// Adds all records of scenarios.
pub fn scenarios(body: &mut String, records: &[Value]) {
    body.push_str("<h2>Scenarios</h2>\n");
    paragraph(
        body,
        "Each system is asked at the same share of its own healthy peak, as an open loop: latency counts from when a \
         request was due. A get that failed counts as if it had taken until its deadline, and so does a miss, but \
         not on full devices.",
    );
    let setting = |record: &Value| name(record, "setting");
    let mut settings: Vec<String> = records.iter().map(setting).collect();
    settings.sort_unstable();
    settings.dedup();
    for each in &settings {
        let of_setting: Vec<&Value> = records.iter().filter(|record| setting(record) == *each).collect();
        one(body, each, &rows(&of_setting));
    }
}

fn one(body: &mut String, setting: &str, rows: &[Row<'_>]) {
    let _ = writeln!(body, "<h3>{}</h3>", escape(setting));
    figures(body, rows);
    body.push_str("<h3>Tail by scenario</h3>\n");
    body.push_str(&tails(rows));
    let systems = distinct(rows.iter().map(|row| row.system.as_str()));
    for system in &systems {
        let _ = writeln!(body, "<h3>Latency: {}</h3>", escape(system));
        body.push_str(&latency_chart(curves(rows, system)));
    }
    let gained = gained(rows, &systems);
    if !gained.is_empty() {
        body.push_str("<h3>Hedges sent against tail gained</h3>\n");
        body.push_str(&gained);
        paragraph(
            body,
            "Gained: p99.9 of k-of-k in relation to the system's own, in the scenarios that at least double k-of-k's. Extra part reads: beyond \
             those that reads could not do without.",
        );
    }
    body.push_str("<h3>Processor time by stage of a request</h3>\n");
    body.push_str(&stages(rows));
    paragraph(
        body,
        "The rest is the runtime with its system calls for the devices, and what an idle core spins.",
    );
}

fn figures(body: &mut String, rows: &[Row<'_>]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let us = |field: &str| format!("{:.0}", row.median(|round| number(&round["latency"][field])));
            let field = |field: &str| row.median(|round| number(&round[field]));
            let ratio = |value: f64| if value.is_finite() { format!("{value:.2}") } else { "-".to_owned() };
            vec![
                format!("{}, {}", row.system, row.scenario),
                format!("{:.0}", field("per_second")),
                us("p50_us"),
                us("p99_us"),
                us("p999_us"),
                us("max_us"),
                ratio(field("p999_to_healthy")),
                ratio(row.median(|round| number(&round["bare"]["p999_of_bare_together"]))),
                format!("{:.1}\u{a0}%", 100.0 * field("extra_part_reads")),
                row.sum("hedges").to_string(),
                row.sum("parts_repaired").to_string(),
                (row.sum("errors") + row.sum("past_deadline")).to_string(),
                row.sum("missed").to_string(),
                row.sum("wrong").to_string(),
                format!("{:.1}", field("server_cpu_us")),
                share(field("others_share")),
                share(field("steal_share")),
            ]
        })
        .collect();
    let heads = [
        "system, scenario",
        "gets/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "most us",
        "p99.9 of healthy",
        "of the bare device, k reads together",
        "extra part reads",
        "hedges",
        "repaired",
        "failed",
        "missed",
        "wrong",
        "CPU us",
        "others",
        "stolen",
    ];
    table(body, &heads, &cells);
}

/// A group for each scenario, a bar for each system.
fn tails(rows: &[Row<'_>]) -> String {
    let systems = distinct(rows.iter().map(|row| row.system.as_str()));
    let scenarios = distinct(rows.iter().map(|row| row.scenario.as_str()));
    let group = |scenario: &&str| {
        let of_scenario = rows.iter().filter(|row| row.scenario == **scenario);
        let bar = |(place, row): (usize, &Row<'_>)| Bar {
            name: if place == 0 { row.scenario.clone() } else { String::new() },
            first: systems.iter().position(|system| *system == row.system).unwrap_or(0),
            ends: vec![row.p999_us()],
        };
        of_scenario.enumerate().map(bar).collect()
    };
    let legend = systems.iter().map(|system| (*system).to_owned()).collect();
    let groups = scenarios.iter().map(group).collect();
    Bars { axis: ("p99.9 of a get, us", Scale::Log), legend, groups }.svg()
}

fn curves(rows: &[Row<'_>], system: &str) -> Vec<Line> {
    let line = |row: &Row<'_>| {
        let points = row.typical().map_or(Vec::new(), |round| curve(&round["latency"]));
        Line::new(row.scenario.clone(), points)
    };
    rows.iter().filter(|row| row.system == system).map(line).collect()
}

/// Where k-of-k's tail is so many times its healthy one, there is something to gain.
const TAIL_MIN: f64 = 2.0;

/// A point for each scenario of each system in which there is something to gain; nothing if k-of-k was not
/// measured.
fn gained(rows: &[Row<'_>], systems: &[&str]) -> String {
    let tailed = |row: &&Row<'_>| row.median(|round| number(&round["p999_to_healthy"])) >= TAIL_MIN;
    let plain: Vec<&Row<'_>> = rows.iter().filter(|row| row.system == K_OF_K).filter(tailed).collect();
    let line = |system: &&str| {
        let mut line = Line::new((*system).to_owned(), Vec::new());
        for row in rows.iter().filter(|row| row.system == *system) {
            let Some(plain) = plain.iter().find(|plain| plain.scenario == row.scenario) else { continue };
            let extra = 100.0 * row.median(|round| number(&round["extra_part_reads"]));
            line.points.push((extra, plain.p999_us() / row.p999_us()));
            line.labels.push(row.scenario.clone());
        }
        line
    };
    let lines = systems.iter().filter(|system| **system != K_OF_K).map(line).collect();
    let x = ("extra part reads, %", Scale::Linear);
    Chart { x, y: ("p99.9 of k-of-k / its own", Scale::Log), lines, style: Style::Points }.svg()
}

/// A bar for each scenario of each system, a piece for each stage.
fn stages(rows: &[Row<'_>]) -> String {
    let stages =
        |row: &Row<'_>| row.rounds.first().map_or(Vec::new(), |round| list(round, "stages_us").to_vec());
    let legend: Vec<String> = rows.first().map_or(Vec::new(), |row| {
        stages(row).iter().filter_map(|pair| pair[0].as_str().map(str::to_owned)).collect()
    });
    let bar = |row: &Row<'_>| {
        let mut end = 0.0;
        let ends = (0..legend.len()).map(|place| {
            end += row.median(|round| number(&round["stages_us"][place][1])).max(0.0);
            end
        });
        Bar { name: format!("{}, {}", row.system, row.scenario), first: 0, ends: ends.collect() }
    };
    let groups = distinct(rows.iter().map(|row| row.system.as_str()))
        .iter()
        .map(|system| rows.iter().filter(|row| row.system == *system).map(bar).collect())
        .collect();
    Bars { axis: ("processor time of a request, us", Scale::Linear), legend, groups }.svg()
}
