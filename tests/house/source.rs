//! Rust source as text: without comments, strings and test code, line for line as it stands in the file.

use std::path::{Path, PathBuf};

/// The sources of a directory, sorted by path.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("list the sources") {
            let path = entry.expect("list the sources").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Blanks comments and the contents of strings and characters; every line stays where it is.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let blank = |out: &mut Vec<u8>, range: &[u8]| {
        out.extend(
            range
                .iter()
                .map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }),
        );
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let word_before =
            at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = if rest.starts_with(b"//") {
            rest.iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if rest[0] == b'"' {
            string(rest)
        } else if !word_before
            && (rest.starts_with(b"r\"")
                || rest.starts_with(b"r#")
                || rest.starts_with(b"br\"")
                || rest.starts_with(b"br#"))
        {
            raw_string(rest)
        } else if rest[0] == b'\'' {
            character(rest)
        } else {
            0
        };
        if length == 0 {
            out.push(rest[0]);
            at += 1;
        } else {
            blank(&mut out, &rest[..length]);
            at += length;
        }
    }
    String::from_utf8(out).expect("blanking whole tokens leaves UTF-8")
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_u32);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(rest.len())
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `r"…"`, `br#"…"#`; 0 for a raw identifier.
fn raw_string(rest: &[u8]) -> usize {
    let start = rest.iter().position(|&byte| byte == b'r').unwrap_or(0) + 1;
    let hashes = rest[start..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    if rest.get(start + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let body = start + hashes + 1;
    rest[body..]
        .windows(end.len())
        .position(|window| window == end)
        .map_or(rest.len(), |at| body + at + end.len())
}

/// `'x'`, `'\n'`, `'\u{fc}'`; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let end = rest[2..].iter().skip(1).position(|&byte| byte == b'\'');
        return end.map_or(0, |at| at + 4);
    }
    let text = &rest[1..rest.len().min(6)];
    let Some(first) = String::from_utf8_lossy(text).chars().next() else {
        return 0;
    };
    let length = first.len_utf8();
    if rest.get(1 + length) == Some(&b'\'') {
        length + 2
    } else {
        0
    }
}

/// Removes items under `#[cfg(test)]` from code without comments and strings; gives the modules among them that are files.
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut modules = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = item.find(['{', ';']).unwrap_or(item.len());
        let length = if item[end..].starts_with('{') {
            let mut depth = 0_u32;
            let close = item[end..].find(|c: char| {
                depth += u32::from(c == '{');
                depth -= u32::from(c == '}');
                depth == 0
            });
            close.map_or(item.len(), |close| end + close + 1)
        } else {
            if let Some((_, name)) = item[..end].rsplit_once("mod ") {
                modules.push(name.trim().to_owned());
            }
            (end + 1).min(item.len())
        };
        out.extend(item[..length].chars().filter(|&c| c == '\n'));
        rest = &item[length..];
    }
    (out + rest, modules)
}

#[test]
fn comments_strings_and_tests_are_left_out() {
    let text = "use a::b; // crate::x\nlet c = \"crate::y\\\" \" ; let d = 'c'; let e: &'a str = r#\"z\"z\"#; /* /* */ */ f";
    let left = code(text);
    assert_eq!(left.lines().count(), 2);
    assert_eq!(
        left.split_whitespace().collect::<Vec<_>>().join(" "),
        "use a::b; let c = ; let d = ; let e: &'a str = ; f"
    );
    let (left, modules) =
        without_tests("a\n#[cfg(test)]\nmod t { fn x() { } }\nb\n#[cfg(test)]\nmod u;\nc");
    assert_eq!(left, "a\n\n\nb\n\n\nc");
    assert_eq!(modules, ["u"]);
}
