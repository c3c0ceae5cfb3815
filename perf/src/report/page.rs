//! The page: what is said of which record, and in which order.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::Records;
use super::bars::{Bar, Bars};
use super::chart::{Chart, Line, Scale, Style, escape, short};
use super::scenarios::scenarios;
use crate::measure::length;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.6em}h2{font-size:1.25em;margin-top:2em;border-bottom:1px solid #ccc}h3{font-size:1.05em;margin-top:1.6em}\
table{border-collapse:collapse;margin:.8em 0;font-size:.88em}td,th{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:right;vertical-align:top}\
td:first-child,th:first-child{text-align:left;white-space:nowrap}.note{color:#666;font-size:.88em}.scroll{overflow-x:auto}\
svg{width:100%;height:auto;max-width:860px;display:block}svg text{font:12px system-ui,sans-serif;fill:#333}svg .small{font-size:10px;fill:#666}\
.grid{stroke:#e2e2e2;stroke-width:1;fill:none}.line{fill:none;stroke-width:1.8}";

/// The whole page.
pub fn page(records: &Records) -> String {
    let mut body = String::from("<h1>Hedgerow: measured</h1>\n");
    let mut machines: Vec<&str> = records.all().filter_map(|record| record["machine"].as_str()).collect();
    machines.sort_unstable();
    machines.dedup();
    machines.iter().for_each(|machine| paragraph(&mut body, machine));
    if !records.comparisons.is_empty() {
        body.push_str("<h2>Beside its peers</h2>\n");
        paragraph(
            &mut body,
            "Peers take turns on the same cores, with the same memory and flash. Medians of rounds, in brackets the \
             lowest and the highest; ratios are taken round by round, of the first peer to each. Absolute figures drift \
             with the machine.",
        );
        records.comparisons.iter().for_each(|record| comparison(&mut body, record, &records.limits));
    }
    if !records.runs.is_empty() {
        runs(&mut body, &records.runs);
    }
    if !records.scenarios.is_empty() {
        scenarios(&mut body, &records.scenarios);
    }
    if !records.limits.is_empty() {
        body.push_str("<h2>What the machine can do at all</h2>\n");
        records.limits.iter().for_each(|record| limit(&mut body, record));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Hedgerow: measured</title>\
         <style>{STYLE}</style></head><body>\n{body}</body></html>\n"
    )
}

/// A remark.
pub fn paragraph(body: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(body, "<p class=\"note\">{}</p>", escape(text));
}

/// A table; its cells are escaped.
pub fn table(body: &mut String, heads: &[&str], rows: &[Vec<String>]) {
    let cells = |cells: &[String], tag: &str| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let _ = writeln!(body, "<div class=\"scroll\"><table><tr>{}</tr>", cells(&heads, "th"));
    for row in rows {
        let _ = writeln!(body, "<tr>{}</tr>", cells(row, "td"));
    }
    body.push_str("</table></div>\n");
}

/// The list in this field; empty if there is none.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// A number, or NaN.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// A text, or a question mark.
pub fn name(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or("?").to_owned()
}

/// A spread as people read it; a dash where there is none.
fn spread(value: &Value, scale: f64, digits: usize) -> String {
    let at = |field: &str| number(&value[field]) * scale;
    if !at("median").is_finite() {
        return "-".to_owned();
    }
    format!("{:.digits$} [{:.digits$}..{:.digits$}]", at("median"), at("min"), at("max"))
}

/// A share in per cent; a dash where there is none.
pub fn share(value: f64) -> String {
    if value.is_finite() { format!("{:.0}\u{a0}%", 100.0 * value) } else { "-".to_owned() }
}

/// A latency curve over nines; the greatest value is where its count puts it.
pub fn curve(latency: &Value) -> Vec<(f64, f64)> {
    let count = number(&latency["count"]).max(1.0);
    let point = |pair: &Value| {
        let (quantile, us) = (number(&pair[0]), number(&pair[1]));
        ((-(1.0 - quantile).log10()).clamp(0.0, count.log10()), us)
    };
    list(latency, "curve_us").iter().map(point).collect()
}

/// Percentile curves.
pub fn latency_chart(lines: Vec<Line>) -> String {
    Chart { x: ("percentile", Scale::Nines), y: ("latency, us", Scale::Log), lines, style: Style::Lines }
        .svg()
}

fn hockey_stick(lines: Vec<Line>) -> String {
    Chart { x: ("requests/s", Scale::Linear), y: ("p99, us", Scale::Log), lines, style: Style::MarkedLines }
        .svg()
}

/// The most that a bare loop moved of this length, in bytes per second, and what it was.
fn limit_of(limits: &[Value], figure: &str, len: u64) -> Option<f64> {
    let what = match figure {
        "Memory" => "loopback socket",
        "Device" => "random reads",
        _ => return None,
    };
    let rows = limits.iter().flat_map(|record| list(record, "rows"));
    // A server may read more at a time than it is asked for: the best of all lengths is the limit of the socket.
    let fits = |row: &&Value| {
        let same = what != "random reads" || row["len"].as_u64() == Some(len);
        same && name(row, "what").starts_with(what)
    };
    rows.filter(fits).map(|row| number(&row["bytes_per_second"]["median"])).reduce(f64::max)
}

fn comparison(body: &mut String, record: &Value, limits: &[Value]) {
    let figure = name(record, "figure");
    let len = record["object_len"].as_u64();
    let title = match figure.as_str() {
        "Memory" => "GET from memory, closed loop",
        "Device" => "GET from the device, closed loop",
        "Tail" => "GET from the device, open loop at 60 % of the lowest peak",
        _ => "A CDN's workload, cache of a tenth of its bytes, lookaside: gets, latency of hits",
    };
    let size = len.map_or("mixed lengths".to_owned(), length);
    let _ = writeln!(body, "<h3>{}, {size}</h3>", escape(title));
    let gib = |field: &str| number(&record[field]) / f64::from(1 << 30);
    paragraph(
        body,
        &format!(
            "{:.2} GiB of memory and {:.2} GiB of flash each; {} rounds dropped because time was stolen.",
            gib("memory_bytes"),
            gib("flash_bytes"),
            record["rounds_dropped"]
        ),
    );
    let peers = list(record, "peers");
    let limit = len.and_then(|len| limit_of(limits, &figure, len));
    let rows: Vec<Vec<String>> = peers
        .iter()
        .map(|peer| {
            let bytes = number(&peer["bytes_per_second"]["median"]);
            vec![
                name(peer, "peer"),
                name(peer, "at"),
                spread(&peer["per_second"], 1.0, 0),
                spread(&peer["bytes_per_second"], 1e-9, 2),
                spread(&peer["p99_us"], 1.0, 0),
                share(number(&peer["hit_share"]["median"])),
                share(number(&peer["device_share"]["median"])),
                spread(&peer["ratio_rate"], 1.0, 2),
                spread(&peer["ratio_p99"], 1.0, 2),
                share(bytes / limit.unwrap_or(f64::NAN)),
            ]
        })
        .collect();
    let heads = [
        "peer",
        "connections x depth",
        "requests/s",
        "GB/s",
        "p99 us",
        "hits",
        "from the device",
        "ratio of rates",
        "ratio of p99",
        "of the limit",
    ];
    table(body, &heads, &rows);
    let lines = peers.iter().map(|peer| Line::new(name(peer, "peer"), curve(&peer["latency"])));
    body.push_str(&latency_chart(lines.collect()));
    if figure != "Tail" {
        let sweep = |peer: &Value| {
            let found = list(peer, "sweep").iter().map(|point| &point["found"]);
            // In the order of the sweep: from few requests at a time to many.
            let points =
                found.map(|found| (number(&found["per_second"]), number(&found["p99_us"]))).collect();
            Line::new(name(peer, "peer"), points)
        };
        body.push_str(&hockey_stick(peers.iter().map(sweep).collect()));
    }
}

fn runs(body: &mut String, runs: &[Value]) {
    body.push_str("<h2>Runs</h2>\n");
    let mut scenarios: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    runs.iter().for_each(|run| scenarios.entry(name(run, "name")).or_default().push(run));
    let label = |run: &Value| match run["rate_wanted"].as_f64() {
        Some(rate) => format!("{}, {}/s", name(run, "name"), short(rate)),
        None => name(run, "name"),
    };
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let outcome = &run["outcome"];
            let latency = &outcome["latency"];
            let us = |field: &str| format!("{:.0}", number(&latency[field]));
            vec![
                label(run),
                format!("{:.0}", number(&outcome["per_second"])),
                format!("{:.2}", number(&outcome["bytes_per_second"]) / 1e9),
                us("p50_us"),
                us("p99_us"),
                us("p999_us"),
                us("max_us"),
                share(number(&outcome["hit_share"])),
                share(number(&outcome["generator_share"])),
            ]
        })
        .collect();
    let heads =
        ["run", "requests/s", "GB/s", "p50 us", "p99 us", "p99.9 us", "most us", "hits", "generator busy"];
    table(body, &heads, &rows);
    body.push_str("<h3>Latency</h3>\n");
    let lines = runs.iter().map(|run| Line::new(label(run), curve(&run["outcome"]["latency"])));
    body.push_str(&latency_chart(lines.collect()));
    body.push_str("<h3>Tail by scenario</h3>\n");
    body.push_str(&tails(runs, label));
    let sticks: Vec<Line> = scenarios
        .iter()
        .filter(|(_, runs)| runs.len() > 1)
        .map(|(name, runs)| {
            let point = |run: &&Value| {
                let outcome = &run["outcome"];
                (number(&outcome["per_second"]), number(&outcome["latency"]["p99_us"]))
            };
            let mut points: Vec<(f64, f64)> = runs.iter().map(point).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line::new(name.clone(), points)
        })
        .collect();
    if !sticks.is_empty() {
        body.push_str("<h3>Throughput against latency</h3>\n");
        body.push_str(&hockey_stick(sticks));
    }
}

/// A bar for each run, whose pieces end at percentiles.
fn tails(runs: &[Value], label: impl Fn(&Value) -> String) -> String {
    const ENDS: [(&str, &str); 3] = [("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")];
    let bar = |run: &Value| {
        let ends = ENDS.map(|(field, _)| number(&run["outcome"]["latency"][field])).to_vec();
        Bar { name: label(run), first: 0, ends }
    };
    let legend = ENDS.map(|(_, name)| name.to_owned()).to_vec();
    Bars { axis: ("latency, us", Scale::Log), legend, groups: vec![runs.iter().map(bar).collect()] }.svg()
}

fn limit(body: &mut String, record: &Value) {
    let rows: Vec<Vec<String>> = list(record, "rows")
        .iter()
        .map(|row| {
            let known = |field: &str, scale: f64, digits: usize| {
                let value = number(&row[field]["median"]) * scale;
                if value > 0.0 { format!("{value:.digits$}") } else { "-".to_owned() }
            };
            vec![
                name(row, "what"),
                length(row["len"].as_u64().unwrap_or(0)),
                row["depth"].to_string(),
                spread(&row["bytes_per_second"], 1e-9, 2),
                known("p50_us", 1.0, 0),
                known("p99_us", 1.0, 0),
                known("cpu_ns_per_byte", 1e3, 1),
            ]
        })
        .collect();
    table(body, &["what", "size", "at a time", "GB/s", "p50 us", "p99 us", "CPU ms per GB"], &rows);
}
