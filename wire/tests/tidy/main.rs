//! Is the house tidy? Reads the source tree of the whole workspace and fails on what no compiler says:
//! an import in a direction that is not in [`ROOMS`], a function or file that is too long, work that is
//! left for later, an `unsafe` that is not argued for or not counted, a file that nothing uses, and strangers at the
//! top of the repository. Each rule is also shown a bad sample, which it has to find.

mod source;
mod unsafes;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use source::{ModFile, NamedPath, Source, is_word};
use unsafes::{uncounted, unsafes};

/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// Longest file, in lines without its tests.
const FILE_LINES_MAX: usize = 500;
/// Written by a compiler, not by a person.
const GENERATED: &[&str] = &["wire/src/generated.rs"];
/// What may stand at the top of the repository (names that `.gitignore` lists are passed over).
const TOP: &[&str] = &[
    ".ci",
    ".git",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "docs",
    "engine",
    "perf",
    "rustfmt.toml",
    "tools",
    "wire",
];

/// Sockets, files, threads and clocks of the standard library.
const SYSTEM: &[&str] =
    &["std::fs", "std::net", "std::process", "std::thread", "std::time::Instant", "std::time::SystemTime"];
/// The runtime of the daemon, and the system below it.
const RUNTIME: &[&str] = &["glommio", "libc", "rustix"];

/// A room, the files that it has (by the longest prefix that fits), and the rooms that it may name.
/// `system`, `runtime` and `tokio` stand for [`SYSTEM`], [`RUNTIME`] and the crate.
struct Room {
    name: &'static str,
    files: &'static str,
    may: &'static [&'static str],
}

/// Every import between rooms that there may be.
#[rustfmt::skip]
const ROOMS: &[Room] = &[
    Room { name: "wire", files: "wire/src/", may: &[] },
    Room { name: "client", files: "wire/client/src/", may: &["wire", "system", "tokio"] },
    // A daemon that is stopped and continued by signals.
    Room { name: "testing of client", files: "wire/client/src/testing.rs", may: &["wire", "client", "system", "runtime"] },

    Room { name: "mistakes", files: "engine/src/mistakes", may: &[] },
    Room { name: "codec", files: "engine/src/codec", may: &["wire"] },
    Room { name: "gates", files: "engine/src/gates", may: &["wire"] },
    Room { name: "memory", files: "engine/src/memory", may: &["wire", "mistakes"] },
    Room { name: "ring", files: "engine/src/ring", may: &["wire"] },
    Room { name: "slab", files: "engine/src/slab", may: &["wire", "mistakes"] },
    Room { name: "coordinator", files: "engine/src/coordinator", may: &["wire", "ring", "mistakes"] },
    Room { name: "sim", files: "engine/src/sim", may: &["wire", "codec", "gates", "memory", "ring", "slab", "coordinator", "mistakes"] },
    Room { name: "shell", files: "engine/src/shell", may: &["wire", "codec", "gates", "memory", "ring", "slab", "coordinator", "system", "runtime"] },
    Room { name: "engine", files: "engine/src/lib.rs", may: &[] },
    Room { name: "build of engine", files: "engine/build.rs", may: &[] },
    Room { name: "hedgerowd", files: "engine/src/bin/", may: &["wire", "engine", "system", "runtime"] },

    Room { name: "tools", files: "tools/", may: &["wire", "client", "engine", "system", "tokio"] },
    Room { name: "perf", files: "perf/", may: &["wire", "client", "engine", "system", "runtime", "tokio"] },

    Room { name: "tests of wire", files: "wire/tests/", may: &["wire", "system"] },
    Room { name: "fuzz", files: "wire/fuzz/", may: &["wire", "engine", "system"] },
    Room { name: "tests of client", files: "wire/client/tests/", may: &["wire", "client", "system", "tokio"] },
    Room { name: "examples of client", files: "wire/client/examples/", may: &["wire", "client", "system", "tokio"] },
    Room { name: "tests of engine", files: "engine/tests/", may: &["wire", "client", "engine", "system", "runtime", "tokio"] },
];

fn room_of(path: &str) -> Option<&'static Room> {
    ROOMS.iter().filter(|room| path.starts_with(room.files)).max_by_key(|room| room.files.len())
}

/// Where in its crate a file stands: `engine/src/slab/index/slot.rs` is `slab::index::slot`.
fn module_path(path: &str) -> Vec<String> {
    let inside = path.split_once("src/").map_or("", |(_, inside)| inside);
    let mut names: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

/// The rooms that a path leads to, as `ROOMS` names them.
fn rooms_named(source: &Source, named: &NamedPath) -> Vec<&'static str> {
    let segments = &named.segments;
    let is = |name: &str| segments.first().is_some_and(|first| first == name);
    let engine_room = |name: &str| {
        let in_engine = |room: &&Room| room.files.starts_with("engine/src/") && room.name == name;
        ROOMS.iter().find(in_engine).map(|room| room.name)
    };
    let of_crates = [("hedgerow_wire", "wire"), ("hedgerow_client", "client"), ("tokio", "tokio")];
    let mut rooms: Vec<&str> = of_crates.iter().filter(|(name, _)| is(name)).map(|&(_, room)| room).collect();
    if RUNTIME.iter().any(|name| is(name)) {
        rooms.push("runtime");
    }
    let joined = segments.join("::").replace("::*", "");
    let within = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}::"));
    if SYSTEM.iter().any(|system| within(&joined, system) || (is("std") && within(system, &joined))) {
        rooms.push("system");
    }
    if is("hedgerow_engine") {
        rooms.push(segments.get(1).and_then(|name| engine_room(name)).unwrap_or("engine"));
    }
    if source.path.starts_with("engine/src/") && (is("crate") || is("super")) {
        let ups = segments.iter().take_while(|segment| *segment == "super").count();
        let mut absolute = module_path(&source.path);
        absolute.extend(named.inside.iter().cloned());
        absolute.truncate(if is("crate") { 0 } else { absolute.len().saturating_sub(ups) });
        absolute.extend(segments.iter().skip(ups.max(1)).cloned());
        rooms.extend(absolute.first().and_then(|name| engine_room(name)));
    }
    rooms
}

fn imports(sources: &[Source]) -> Vec<String> {
    let mut faults = BTreeSet::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".rs")) {
        let Some(room) = room_of(&source.path) else {
            faults.insert(format!("{}: belongs to no room of ROOMS", source.path));
            continue;
        };
        for named in source.names().0 {
            for other in rooms_named(source, &named) {
                let of_engine = ROOMS.iter().any(|r| r.name == other && r.files.starts_with("engine/src/"));
                let may = room.may.contains(&other) || (of_engine && room.may.contains(&"engine"));
                if other != room.name && !may {
                    let path = named.segments.join("::");
                    faults.insert(format!(
                        "{}:{}: {} may not use {other} ({path})",
                        source.path, named.line, room.name
                    ));
                }
            }
        }
    }
    faults.into_iter().collect()
}

/// Files of tests: in folders of tests, or behind a `#[cfg(test)] mod name;`.
fn test_files(sources: &[Source]) -> HashSet<&str> {
    let in_folder = |path: &str| path.split('/').any(|name| matches!(name, "tests" | "benches" | "tests.rs"));
    let mut declared = Vec::new();
    for source in sources {
        let files = source.names().1.into_iter().filter(|file| file.test);
        declared.extend(files.map(|file| module_stem(sources, source, &file)));
    }
    let behind = |path: &str| {
        declared.iter().any(|stem| path == format!("{stem}.rs") || path.starts_with(&format!("{stem}/")))
    };
    sources.iter().map(|source| source.path.as_str()).filter(|path| in_folder(path) || behind(path)).collect()
}

fn written_by_hand(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".rs") && !GENERATED.contains(&source.path.as_str()))
}

/// Only what is no test is measured: a test may hold a long table.
fn sizes(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let test_files = test_files(sources);
    for source in written_by_hand(sources).filter(|source| !test_files.contains(source.path.as_str())) {
        let tests = source.test_modules();
        for (name, lines) in source.functions() {
            let tested = tests.iter().any(|module| module.contains(&lines.start));
            if lines.len() > FUNCTION_LINES_MAX && !tested {
                let (path, line, len) = (&source.path, lines.start, lines.len());
                faults.push(format!(
                    "{path}:{line}: fn {name} has {len} lines, more than {FUNCTION_LINES_MAX}"
                ));
            }
        }
        let tests: usize = tests.iter().map(ExactSizeIterator::len).sum();
        let len = source.text.lines().count() - tests;
        if len > FILE_LINES_MAX {
            faults.push(format!("{}: {len} lines without tests, more than {FILE_LINES_MAX}", source.path));
        }
    }
    faults
}

/// Whole words that no comment and no page may have: marks of work left for later, and words of how the
/// text came to be. `issue` is fine as a verb ("issues a read"), so only the noun's forms are named.
const UNWANTED: &[&str] = &[
    "TODO",
    "FIXME",
    "XXX",
    "HACK",
    "session",
    "sessions",
    "the issue",
    "this issue",
    "an issue",
    "issue #",
    "issues #",
    "pull request",
    "as requested",
    "as discussed",
    "worktree",
];
/// Code that is left for later.
const UNFINISHED: &[&str] = &["todo", "unimplemented"];

/// Whether `words` stand in `line`, not as part of longer words.
fn has_words(line: &str, words: &str) -> bool {
    line.match_indices(words).any(|(at, _)| {
        let open = !words.ends_with(is_word) || !line[at + words.len()..].starts_with(is_word);
        open && !line[..at].ends_with(is_word)
    })
}

fn words(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| !GENERATED.contains(&source.path.as_str())) {
        for (number, line) in (1..).zip(source.comments.lines()) {
            let lower = line.to_lowercase();
            let found = UNWANTED.iter().filter(|words| match words.starts_with(char::is_uppercase) {
                true => has_words(line, words),
                false => has_words(&lower, words),
            });
            faults.extend(found.map(|words| format!("{}:{number}: '{words}'", source.path)));
        }
        let tokens = source.tokens();
        let unfinished =
            tokens.windows(2).filter(|two| UNFINISHED.contains(&two[0].text) && two[1].text == "!");
        faults.extend(unfinished.map(|two| format!("{}:{}: {}!", source.path, two[0].line, two[0].text)));
    }
    faults
}

/// Whether cargo compiles a file by itself: by its place in its crate, a folder with a `Cargo.toml`.
fn is_root(sources: &[Source], path: &str) -> bool {
    let crates = sources.iter().filter_map(|source| source.path.strip_suffix("Cargo.toml"));
    crates.filter_map(|folder| path.strip_prefix(folder)).any(|inside| {
        let names: Vec<&str> = inside.split('/').collect();
        matches!(
            names[..],
            ["build.rs"]
                | ["src", "lib.rs" | "main.rs"]
                | ["tests" | "benches" | "examples", _]
                | ["src", "bin", _]
                | ["tests" | "benches" | "examples", _, "main.rs"]
                | ["src", "bin", _, "main.rs"]
        )
    })
}

/// Where the file of a `mod name;` is, without `.rs` or `/mod.rs`: beside a root or `mod.rs`, else in the
/// folder of the declaring file's name.
fn module_stem(sources: &[Source], source: &Source, file: &ModFile) -> String {
    let (folder, name) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let beside = name == "mod.rs" || is_root(sources, &source.path);
    let mut stem = if beside { folder } else { source.path.trim_end_matches(".rs") }.to_owned();
    file.inside.iter().for_each(|name| stem = format!("{stem}/{name}"));
    format!("{stem}/{}", file.name)
}

fn dead_files(sources: &[Source]) -> Vec<String> {
    let mut alive = HashSet::new();
    let mut next: Vec<&Source> = sources.iter().filter(|source| is_root(sources, &source.path)).collect();
    while let Some(source) = next.pop() {
        if !alive.insert(&source.path) {
            continue;
        }
        for file in source.names().1 {
            let stem = module_stem(sources, source, &file);
            let places = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
            next.extend(sources.iter().filter(|other| places.contains(&other.path)));
        }
    }
    let rust = sources.iter().map(|source| &source.path).filter(|path| path.ends_with(".rs"));
    rust.filter(|path| !alive.contains(path)).map(|path| format!("{path}: no crate leads to it")).collect()
}

/// Names at the top of the repository that have no business there.
fn strangers(names: &[String], ignored: &str) -> Vec<String> {
    let ignored: Vec<&str> = ignored.lines().collect();
    let passed_over = |name: &str| {
        ignored.iter().any(|rule| match rule.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None => rule.trim_matches('/') == name,
        })
    };
    let strangers = names.iter().filter(|name| !TOP.contains(&name.as_str()) && !passed_over(name));
    strangers.map(|name| format!("{name}: does not belong at the top")).collect()
}

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}"));
    names.sort();
    names
}

/// Every file that is written by people, below those of [`TOP`].
fn tree() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut next: Vec<String> =
        TOP.iter().rev().filter(|name| **name != ".git").map(|&name| name.into()).collect();
    while let Some(path) = next.pop() {
        let place = top().join(&path);
        if place.is_dir() {
            next.extend(
                names_in(&place).iter().filter(|name| *name != "target").map(|name| format!("{path}/{name}")),
            );
        } else if path == ".ci/run"
            || [".rs", ".md", ".toml", ".sh", ".fbs"].iter().any(|end| path.ends_with(end))
        {
            sources.extend(fs::read_to_string(&place).ok().map(|text| Source::new(&path, &text)));
        }
    }
    sources
}

#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} found:\n  {}\n", faults.len(), faults.join("\n  "));
}

/// The rule finds in the files exactly what is `expected`, by the beginning of each fault.
#[track_caller]
fn finds(rule: fn(&[Source]) -> Vec<String>, files: &[(&str, &str)], expected: &[&str]) {
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    let faults = rule(&sources);
    let alike = faults.len() == expected.len() && faults.iter().zip(expected).all(|(a, b)| a.starts_with(b));
    assert!(alike, "found {faults:#?}, expected {expected:#?}");
}

#[test]
fn the_tree_is_read() {
    let sources = tree();
    for path in ["wire/src/lib.rs", "engine/src/lib.rs", "wire/tests/tidy/main.rs", "README.md", ".ci/run"] {
        assert!(sources.iter().any(|source| source.path == path), "{path} was not read");
    }
}

#[test]
fn imports_go_one_way() {
    none(imports(&tree()));
}

#[test]
fn functions_and_files_are_short() {
    none(sizes(&tree()));
}

#[test]
fn nothing_is_left_for_later() {
    none(words(&tree()));
}

#[test]
fn every_unsafe_is_argued_for() {
    none(unsafes(&tree()));
}

#[test]
fn every_unsafe_is_counted() {
    none(uncounted(&tree()));
}

#[test]
fn every_file_is_used() {
    none(dead_files(&tree()));
}

#[test]
fn the_top_holds_what_it_should() {
    let ignored = fs::read_to_string(top().join(".gitignore")).unwrap();
    none(strangers(&names_in(top()), &ignored));
}

#[test]
fn a_wrong_import_is_found() {
    let check = |path: &str, text: &str, expected: &[&str]| finds(imports, &[(path, text)], expected);
    check("engine/src/codec/mod.rs", "use hedgerow_wire::{Code, Key};", &[]);
    check("engine/src/coordinator/mod.rs", "use crate::ring::Ring; use super::ring;", &[]);
    check(
        "engine/src/ring.rs",
        "use crate::{slab::Store, ring};",
        &["engine/src/ring.rs:1: ring may not use slab"],
    );
    check(
        "engine/src/ring.rs",
        "mod t { fn f() { super::super::slab::f() } }",
        &["engine/src/ring.rs:1: ring may"],
    );
    check("engine/src/slab/index.rs", "use super::ring; use super::super::slab;", &[]);
    check(
        "engine/src/memory.rs",
        "\nuse super::codec;",
        &["engine/src/memory.rs:2: memory may not use codec"],
    );
    check(
        "engine/src/slab/mod.rs",
        "fn f() { let _ = std::fs::read(\"\"); }",
        &["engine/src/slab/mod.rs:1: slab may not use system"],
    );
    check(
        "engine/src/slab/mod.rs",
        "use std::time::{Duration, Instant};",
        &["engine/src/slab/mod.rs:1: slab may not use system"],
    );
    check("engine/src/slab/mod.rs", "use std::time::Duration; // std::fs::read", &[]);
    check("engine/src/slab/mod.rs", "use std::time;", &["engine/src/slab/mod.rs:1: slab may not use system"]);
    check("engine/src/shell/core.rs", "use crate::slab::Store; use glommio::net; use libc;", &[]);
    check("tools/src/main.rs", "use hedgerow_engine::slab::layout; use tokio::net;", &[]);
    check("tools/src/main.rs", "use libc::kill;", &["tools/src/main.rs:1: tools may not use runtime"]);
    check(
        "wire/src/frame.rs",
        "use hedgerow_client::Client;",
        &["wire/src/frame.rs:1: wire may not use client"],
    );
    check(
        "wire/client/src/lib.rs",
        "use hedgerow_engine::ring;",
        &["wire/client/src/lib.rs:1: client may not use ring"],
    );
    check("attic/src/lib.rs", "", &["attic/src/lib.rs: belongs to no room"]);
}

#[test]
fn what_is_too_long_is_found() {
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "x();\n".repeat(lines - 2));
    finds(sizes, &[("a/src/lib.rs", &function(FUNCTION_LINES_MAX))], &[]);
    finds(
        sizes,
        &[("a/src/lib.rs", &function(FUNCTION_LINES_MAX + 1))],
        &["a/src/lib.rs:1: fn f has 71 lines"],
    );
    let file = "x!();\n".repeat(FILE_LINES_MAX);
    let tested = format!("{file}#[cfg(test)]\nmod tests {{\n{file}}}\n");
    finds(sizes, &[("a/src/lib.rs", &tested), ("a/tests/b.rs", &file.repeat(2))], &[]);
    let declared = [("a/src/b.rs", "#[cfg(test)]\nmod c;"), ("a/src/b/c.rs", &file.repeat(2))];
    finds(sizes, &declared, &[]);
    finds(sizes, &declared[1..], &["a/src/b/c.rs: 1000 lines"]);
    finds(sizes, &[("a/src/lib.rs", &format!("{file}\n"))], &["a/src/lib.rs: 501 lines"]);
}

#[test]
fn what_is_left_for_later_is_found() {
    let good = "// Issues a read; XXXL, obsession.\nlet todo = \"TODO\"; // the issuer\n";
    finds(words, &[("a.rs", good)], &[]);
    let bad = "// TODO: more\n/* See issue #4. */\nfn f() { todo!() }\n/// Written in this Session.\n";
    finds(
        words,
        &[("a.rs", bad)],
        &["a.rs:1: 'TODO'", "a.rs:2: 'issue #'", "a.rs:4: 'session'", "a.rs:3: todo!"],
    );
    finds(words, &[("a.md", "FIXME")], &["a.md:1: 'FIXME'"]);
}

#[test]
fn an_unsafe_without_a_reason_is_found() {
    let good = "// SAFETY: it is.\nlet a =\n    unsafe { b() };\nfn f() {\n    // SAFETY: two\n    // lines.\n    unsafe { b() }\n}\n";
    finds(unsafes, &[("a.rs", good)], &[]);
    let bad = "// SAFETY: of another.\nlet a = 1;\nunsafe { b() }\n";
    finds(unsafes, &[("a.rs", bad)], &["a.rs:3: unsafe"]);
    finds(unsafes, &[("a.rs", "// Safe.\nunsafe impl Send for X {}\n")], &["a.rs:2: unsafe"]);
}

#[test]
fn an_unsafe_that_is_not_counted_is_found() {
    let code = "unsafe fn a() {}\n// unsafe\nfn b() { unsafe { a() } }\n";
    let page = |rows: &str| {
        format!("# Testing\n## Unsafe\n| file | unsafe |\n|---|--:|\n{rows}## Next\n| `b.rs` | 7 |\n")
    };
    let check = |rows: &str, expected: &[&str]| {
        finds(uncounted, &[("a.rs", code), ("docs/testing.md", &page(rows))], expected);
    };
    check("| `a.rs` | 2 | it | a test |\n", &[]);
    check("| `a.rs` | 3 | it | a test |\n", &["a.rs: 2 times unsafe, and 3 by"]);
    check("| `a.rs` | 2 | it | |\n", &["a.rs: 2 times unsafe, and the table does not say"]);
    check("", &["a.rs: 2 times unsafe, and 0 by"]);
    check(
        "| `a.rs` | 2 | it | a test |\n| `c.rs` | 1 | it | a test |\n",
        &["c.rs: 0 times unsafe, and 1 by"],
    );
}

#[test]
fn a_dead_file_is_found() {
    let alive = [
        ("a/Cargo.toml", ""),
        ("a/src/lib.rs", "pub mod b;\nmod t { mod e; }"),
        ("a/src/b.rs", "mod c;"),
        ("a/src/b/c/mod.rs", "mod d;"),
        ("a/src/b/c/d.rs", ""),
        ("a/src/t/e.rs", ""),
        ("a/tests/f.rs", "mod g;"),
        ("a/tests/g/mod.rs", ""),
        ("a/src/bin/h.rs", ""),
        ("a/tests/i/main.rs", ""),
    ];
    finds(dead_files, &alive, &[]);
    let dead =
        [("a/Cargo.toml", ""), ("a/src/lib.rs", "// mod b;"), ("a/src/b.rs", ""), ("c/src/lib.rs", "")];
    finds(dead_files, &dead, &["a/src/b.rs: no crate", "c/src/lib.rs: no crate"]);
}

#[test]
fn a_stranger_is_found() {
    let names = ["README.md", "target", "x.profraw", "notes.txt"].map(str::to_owned);
    assert_eq!(strangers(&names, "/target\n*.profraw\n"), ["notes.txt: does not belong at the top"]);
}
