//! The rules of the house that a text search can hold: which module may import which, no `unwrap()`, no file that is too long.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Lines a source file may have. One that grows beyond hides a second noun.
const LINES: usize = 600;

/// Crates that one module keeps to itself, and who else may name them.
const KEPT: [(&str, &[&str]); 4] = [
    ("gix", &["history", "sync"]),
    ("gix_protocol", &["history", "sync"]),
    ("gix_transport", &["history", "sync"]),
    ("fuser", &["fuse"]),
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// One source file outside tests.
struct Source {
    /// Its path below `src`.
    path: String,
    /// Its code without comments, strings and tests.
    code: String,
}

impl Source {
    /// The first component of its path, which is the module it belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or("");
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

/// All sources but those of tests.
fn sources() -> Vec<Source> {
    let src = src();
    let mut tests = BTreeSet::new();
    let mut found = Vec::new();
    for path in source::files(&src) {
        let text = std::fs::read_to_string(&path).expect("read a source");
        let (code, modules) = source::without_tests(&source::code(&text));
        // `foo/mod.rs`, `lib.rs` and `main.rs` have their modules beside them, `foo.rs` below `foo/`.
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let beside = ["mod", "lib", "main"].contains(&stem.as_str());
        let dir = path.parent().expect("a file has a directory");
        let dir = if beside {
            dir.to_owned()
        } else {
            dir.join(&stem)
        };
        for module in modules {
            tests.insert(dir.join(&module));
            tests.insert(dir.join(format!("{module}.rs")));
        }
        found.push((path, code));
    }
    found
        .into_iter()
        .filter(|(path, _)| !path.ancestors().any(|above| tests.contains(above)))
        .map(|(path, code)| Source {
            path: path
                .strip_prefix(&src)
                .expect("listed below src")
                .to_string_lossy()
                .into_owned(),
            code,
        })
        .collect()
}

/// The table of `src/ARCHITECTURE.md`: module → modules it may import.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text =
        std::fs::read_to_string(src().join("ARCHITECTURE.md")).expect("read ARCHITECTURE.md");
    let mut table = BTreeMap::new();
    let mut above: BTreeSet<String> = BTreeSet::new();
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| module | may import |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    for row in rows {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let module = quoted(cells.next().unwrap_or(""));
        let may = cells.next().unwrap_or("");
        let named: BTreeSet<String> = quoted(may).into_iter().collect();
        let (may, but) = may
            .split_once("but")
            .map_or((may, ""), |(may, but)| (may, but));
        let mut allowed = if may.contains("above") || may.contains("all") {
            above.clone()
        } else {
            named
        };
        for not in quoted(but) {
            allowed.remove(&not);
        }
        let module = module.into_iter().next().expect("a row names a module");
        above.insert(module.clone());
        table.insert(module, allowed);
    }
    // The sentence below the table.
    let one = |name: &str| BTreeSet::from([name.to_owned()]);
    table.insert("limits".into(), one("maildir"));
    let mut config = one("maildir");
    config.insert("history".into());
    table.insert("config".into(), config);
    for name in ["background", "awake", "turns"] {
        table.insert(name.into(), BTreeSet::new());
    }
    table
}

/// What stands between back-quotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The crate's modules that code names by `crate::…`, `crate::{…}` or, out of the module's own directory, `super::…`.
fn imports<'a>(code: &str, modules: impl Iterator<Item = &'a String> + Clone) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find("crate::") {
        let whole = !rest[..at].ends_with(|c: char| c == '$' || c == '_' || c.is_alphanumeric());
        rest = &rest[at + "crate::".len()..];
        if !whole {
            continue;
        }
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (at, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && !c.is_whitespace() => {
                        found.insert(word(&group[at..]).to_owned());
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(word(rest).to_owned());
        }
    }
    for module in modules {
        if code.contains(&format!("super::{module}::")) {
            found.insert(module.clone());
        }
    }
    found
}

/// The identifier that text begins with.
fn word(text: &str) -> &str {
    let end = text
        .find(|c: char| c != '_' && !c.is_alphanumeric())
        .unwrap_or(text.len());
    &text[..end]
}

#[test]
fn imports_go_one_way() {
    let table = table();
    let mut faults = String::new();
    let sources = sources();
    let modules: BTreeSet<String> = sources
        .iter()
        .filter(|source| source.path.contains('/'))
        .map(|source| source.module().to_owned())
        .collect();
    for module in &modules {
        assert!(
            table.contains_key(module),
            "ARCHITECTURE.md's table lacks `{module}`"
        );
    }
    for source in &sources {
        let module = source.module();
        // `super::x` means a module of the crate only where the directory has no `x` of its own.
        let own = |name: &&String| {
            let dir = src().join(module);
            !dir.join(name).exists() && !dir.join(format!("{name}.rs")).exists()
        };
        if let Some(allowed) = table.get(module) {
            for import in imports(&source.code, table.keys().filter(own)) {
                let beside =
                    ["limits", "config", "background", "awake", "turns"].contains(&import.as_str());
                let known = table.contains_key(&import);
                if known && import != module && !beside && !allowed.contains(&import) {
                    let _ = writeln!(faults, "src/{}: `{module}` imports `{import}`", source.path);
                }
            }
        }
        for (name, keepers) in KEPT {
            let path = format!("{name}::");
            let named = source.code.match_indices(&path).any(|(at, _)| {
                !source.code[..at].ends_with(|c: char| c == '_' || c == ':' || c.is_alphanumeric())
            });
            if named && !keepers.contains(&module) {
                let _ = writeln!(
                    faults,
                    "src/{}: `{module}` names the crate {name}",
                    source.path
                );
            }
        }
    }
    assert!(faults.is_empty(), "src/ARCHITECTURE.md forbids:\n{faults}");
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut faults = String::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            for word in [
                ".unwrap()",
                ".unwrap_err()",
                "todo!(",
                "unimplemented!(",
                "dbg!(",
            ] {
                if line.contains(word) {
                    let _ = writeln!(faults, "src/{}:{}: {word}", source.path, number + 1);
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "return an error, or say why with expect(\"because …\"):\n{faults}"
    );
}

#[test]
fn no_source_file_is_too_long() {
    let mut faults = String::new();
    for path in source::files(&src()) {
        let lines = std::fs::read_to_string(&path)
            .expect("read a source")
            .lines()
            .count();
        if lines > LINES {
            let _ = writeln!(faults, "{}: {lines} lines", path.display());
        }
    }
    assert!(
        faults.is_empty(),
        "more than {LINES} lines (what noun is hiding?):\n{faults}"
    );
}

#[test]
fn the_table_is_read_and_imports_are_found() {
    let table = table();
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(table["maildir"], set(&[]));
    assert_eq!(table["merge"], set(&["maildir"]));
    assert!(table["store"].contains("history"));
    assert!(table["sync"].contains("store") && !table["sync"].contains("fs"));
    assert!(table["cli"].contains("fuse"));
    let names = set(&["maildir", "history", "store"]);
    let code =
        "use crate::{history::{a, fs}, store}; crate::maildir::x(); $crate::no; super::history::y";
    assert_eq!(
        imports(code, names.iter()),
        set(&["history", "store", "maildir"])
    );
}
