//! Rust source as the rules see it: code without comments and literals, comments without code, tokens,
//! and the paths that the code names. Knows as much of the language as that needs and no more.

use std::ops::Range;

/// One file. Lines are counted from 1, and are the same in `text`, `code` and `comments`.
pub struct Source {
    /// Path from the top of the repository.
    pub path: String,
    pub text: String,
    /// The text with comments, strings and characters blanked out.
    pub code: String,
    /// The text with everything but comments blanked out; all of it if the file is not Rust.
    pub comments: String,
}

/// A word or a mark of the code, and the line where it stands.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// A path that the code names, such as `crate::ring::Ring`; groups of a `use` are taken apart.
pub struct NamedPath {
    pub line: usize,
    pub segments: Vec<String>,
    /// The inline modules around it, outermost first.
    pub inside: Vec<String>,
}

/// `mod name;` with the inline modules around it, and whether `#[cfg(test)]` stands before it.
pub struct ModFile {
    pub name: String,
    pub inside: Vec<String>,
    pub test: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let (code, comments) =
            if path.ends_with(".rs") { split(text) } else { (String::new(), text.to_owned()) };
        Source { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    pub fn tokens(&self) -> Vec<Token<'_>> {
        let mut tokens = Vec::new();
        for (line, text) in (1..).zip(self.code.lines()) {
            let mut rest = text.trim_start();
            while let Some(first) = rest.chars().next() {
                let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                let len = match first {
                    _ if word > 0 => word,
                    ':' if rest.starts_with("::") => 2,
                    other => other.len_utf8(),
                };
                tokens.push(Token { text: &rest[..len], line });
                rest = rest[len..].trim_start();
            }
        }
        tokens
    }

    /// Every path that the code names, and every `mod name;`.
    pub fn names(&self) -> (Vec<NamedPath>, Vec<ModFile>) {
        let tokens = self.tokens();
        let text = |i: usize| tokens.get(i).map_or("", |token| token.text);
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        let mut blocks: Vec<Option<String>> = Vec::new();
        let mut i = 0;
        while i < tokens.len() {
            let inside = || blocks.iter().flatten().cloned().collect::<Vec<_>>();
            match text(i) {
                "mod" if text(i + 2) == ";" => {
                    let test = tests_mark(&tokens, i).is_some();
                    files.push(ModFile { name: text(i + 1).to_owned(), inside: inside(), test });
                    i += 3;
                }
                "mod" if text(i + 2) == "{" => {
                    blocks.push(Some(text(i + 1).to_owned()));
                    i += 3;
                }
                "{" => {
                    blocks.push(None);
                    i += 1;
                }
                "}" => {
                    blocks.pop();
                    i += 1;
                }
                word if word.starts_with(is_word) => {
                    let mut found = Vec::new();
                    let next = path_tree(&tokens, i, &[], &mut found);
                    let imported = i > 0 && text(i - 1) == "use";
                    let found = found.into_iter().filter(|segments| imported || segments.len() > 1);
                    let line = tokens[i].line;
                    paths.extend(found.map(|segments| NamedPath { line, segments, inside: inside() }));
                    i = next;
                }
                _ => i += 1,
            }
        }
        (paths, files)
    }

    /// Name and lines of every function that has a body.
    pub fn functions(&self) -> Vec<(String, Range<usize>)> {
        let tokens = self.tokens();
        let mut functions = Vec::new();
        for i in 0..tokens.len().saturating_sub(1) {
            if tokens[i].text != "fn" || !tokens[i + 1].text.starts_with(is_word) {
                continue;
            }
            let mut depth = 0;
            let body = (i + 2..tokens.len()).find(|&at| {
                match tokens[at].text {
                    "(" | "[" => depth += 1,
                    ")" | "]" => depth -= 1,
                    _ => {}
                }
                depth == 0 && matches!(tokens[at].text, "{" | ";")
            });
            if let Some(body) = body.filter(|&at| tokens[at].text == "{") {
                let end = closing(&tokens, body);
                functions.push((tokens[i + 1].text.to_owned(), tokens[i].line..tokens[end].line + 1));
            }
        }
        functions
    }

    /// Lines of every `#[cfg(test)] mod name { .. }`.
    pub fn test_modules(&self) -> Vec<Range<usize>> {
        let tokens = self.tokens();
        let text = |i: usize| tokens.get(i).map_or("", |token| token.text);
        let inline = (0..tokens.len()).filter(|&at| text(at) == "mod" && text(at + 2) == "{");
        let marked = inline.filter_map(|at| Some((tests_mark(&tokens, at)?, closing(&tokens, at + 2))));
        marked.map(|(begin, end)| tokens[begin].line..tokens[end].line + 1).collect()
    }
}

/// Where the `#[cfg(test)]` of the `mod` at `at` begins; at most a visibility stands between them.
fn tests_mark(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let visibility = (at.saturating_sub(4)..at).find(|&i| tokens[i].text == "pub");
    let begin = visibility.unwrap_or(at).checked_sub(MARK.len())?;
    tokens[begin..].iter().map(|token| token.text).take(MARK.len()).eq(MARK).then_some(begin)
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The token that closes the brace at `open` (the last one of all if none does).
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// Reads the path, or the tree of paths, that begins at `at`; the first token after it.
fn path_tree(tokens: &[Token<'_>], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text);
    let mut path = prefix.to_vec();
    loop {
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                at = path_tree(tokens, at, &path, found);
                // An alias, and the comma.
                while !matches!(text(at), "," | "}" | "") {
                    at += 1;
                }
                at += usize::from(text(at) == ",");
            }
            return at + 1;
        }
        path.push(text(at).to_owned());
        at += 1;
        let goes_on =
            text(at) == "::" && (text(at + 1).starts_with(is_word) || matches!(text(at + 1), "{" | "*"));
        if !goes_on {
            found.push(path);
            return at;
        }
        at += 1;
    }
}

/// Code and comments of a text, each with the other (and literals) blanked out.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (len, comment) = match comment_len(&chars[at..]) {
            0 => (literal_len(&chars, at), false),
            len => (len, true),
        };
        let is_code = len == 0;
        for &c in &chars[at..at + len.max(1)] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if is_code { c } else { blank });
            comments.push(if comment { c } else { blank });
        }
        at += len.max(1);
    }
    (code, comments)
}

fn comment_len(rest: &[char]) -> usize {
    if rest.starts_with(&['/', '/']) {
        return rest.iter().position(|&c| c == '\n').unwrap_or(rest.len());
    }
    if !rest.starts_with(&['/', '*']) {
        return 0;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the string or character that begins at `at`; 0 if none does.
fn literal_len(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let quoted = |open: usize| {
        let mut end = open + 1;
        while end < rest.len() && rest[end] != rest[open] {
            end += if rest[end] == '\\' { 2 } else { 1 };
        }
        (end + 1).min(rest.len())
    };
    match rest {
        ['"', ..] => quoted(0),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(0),
        ['r', '"' | '#', ..] if at == 0 || !is_word(chars[at - 1]) || matches!(chars[at - 1], 'b' | 'c') => {
            let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
            if rest.get(1 + hashes) != Some(&'"') {
                return 0;
            }
            let mut end = vec!['"'];
            end.resize(1 + hashes, '#');
            let body = &rest[2 + hashes..];
            let found = body.windows(end.len()).position(|window| window == end);
            found.map_or(rest.len(), |place| 2 + hashes + place + end.len())
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn code_and_comments_are_told_apart() {
        let text =
            "let a = \"// no\"; // yes\nlet b = '\"'; /* one /* two */ */ x('\\'', r#\"fn q() {\"#, 'a);\n";
        let source = Source::new("a.rs", text);
        let words: Vec<&str> = source.tokens().iter().map(|token| token.text).collect();
        let expected = "let a = ; let b = ; x ( , , ' a ) ;";
        assert_eq!(words.join(" "), expected);
        assert_eq!(
            source.comments.split_whitespace().collect::<Vec<_>>().join(" "),
            "// yes /* one /* two */ */"
        );
        assert_eq!(source.comments.lines().count(), text.lines().count());
    }

    #[test]
    fn paths_are_taken_apart() {
        let text = "use a::{b, c::{self, d as e}, f::*}; mod t { fn g() -> x::Y<z::W> { h(i::<u8>(j::k())) } mod n; } #[cfg(test)] pub(crate) mod o;";
        let (paths, files) = Source::new("a.rs", text).names();
        let all: Vec<String> = paths.iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(all, ["a::b", "a::c::self", "a::c::d", "a::f::*", "x::Y", "z::W", "j::k"]);
        assert_eq!(paths[4].inside, ["t"]);
        assert_eq!(
            (files[0].name.as_str(), files[0].inside.join("::").as_str(), files[0].test),
            ("n", "t", false)
        );
        assert_eq!((files[1].name.as_str(), files[1].test), ("o", true));
    }

    #[test]
    fn functions_and_test_modules_have_lines() {
        let text =
            "fn a(b: [u8; 4]) {\n}\ntrait T {\n fn c();\n}\n#[cfg(test)]\nmod tests {\n fn d() {}\n}\n";
        let source = Source::new("a.rs", text);
        let functions: Vec<String> =
            source.functions().iter().map(|(name, lines)| format!("{name} {lines:?}")).collect();
        assert_eq!(functions, ["a 1..3", "d 8..9"]);
        assert_eq!(source.test_modules(), vec![6..10]);
    }
}
