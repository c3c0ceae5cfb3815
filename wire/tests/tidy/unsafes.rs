//! The rules about `unsafe`: each is argued for where it stands, and counted in `docs/testing.md`.

use std::collections::BTreeMap;

use super::source::Source;
use super::written_by_hand;

/// An `unsafe` block or impl needs a comment `SAFETY:` in or right before its statement.
pub fn unsafes(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in written_by_hand(sources) {
        let (code, comments): (Vec<&str>, Vec<&str>) =
            (source.code.lines().collect(), source.comments.lines().collect());
        for two in source.tokens().windows(2).filter(|two| two[0].text == "unsafe") {
            if !matches!(two[1].text, "{" | "impl") {
                continue;
            }
            let place = two[0].line - 1;
            let ends = |line: &str| line.trim_end().ends_with([';', '{', '}']);
            let begin = code[..place].iter().rposition(|line| ends(line)).map_or(0, |before| before + 1);
            if !comments[begin..=place].iter().any(|comment| comment.contains("SAFETY:")) {
                faults.push(format!("{}:{}: unsafe without a SAFETY comment", source.path, place + 1));
            }
        }
    }
    faults
}

/// Where the table stands.
const PAGE: &str = "docs/testing.md";
/// Its heading.
const HEADING: &str = "## Unsafe\n";

/// Every file that says `unsafe` stands in the table with the number of times that it does, with what it is for, and
/// with what would catch a misuse; and no other does.
pub fn uncounted(sources: &[Source]) -> Vec<String> {
    let mut counts: BTreeMap<&str, (usize, usize, bool)> = BTreeMap::new();
    for source in written_by_hand(sources) {
        let count = source.tokens().iter().filter(|token| token.text == "unsafe").count();
        if count > 0 {
            counts.entry(&source.path).or_default().0 = count;
        }
    }
    let page = sources.iter().find(|source| source.path == PAGE).map_or("", |source| &source.text);
    let table =
        page.split_once(HEADING).map_or("", |(_, after)| after.split("\n## ").next().unwrap_or(after));
    for line in table.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [file, count, says @ ..] = &cells[..] else { continue };
        let (Some(file), Ok(count)) = (file.strip_prefix('`'), count.parse()) else { continue };
        let entry = counts.entry(file.trim_end_matches('`')).or_default();
        (entry.1, entry.2) = (count, says.len() == 2 && says.iter().all(|cell| !cell.is_empty()));
    }
    let wrong = counts.into_iter().filter(|(_, (found, counted, says))| found != counted || !says);
    let fault = |(file, (found, counted, _))| match found == counted {
        true => format!(
            "{file}: {found} times unsafe, and the table does not say what for and what would catch it"
        ),
        false => format!("{file}: {found} times unsafe, and {counted} by the table in {PAGE}"),
    };
    wrong.map(fault).collect()
}
