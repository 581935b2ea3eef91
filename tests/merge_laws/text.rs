//! Trees as text, for tests that show a case: a line a folder, a line a file.
//!
//! ```text
//! X/ 9/6 guid aFoo bBar     a folder: UIDVALIDITY/UIDNEXT, GUID, keywords by letter; `X/ -` one without facts; `d/ dir` a plain directory
//! X/cur/m1:2,S 5            a message with UID 5; its content is named by its unique name
//! X/new/m2 - =other         one without a UID and with other content
//! X/cur/m3:2,S 6 k=ab       one whose keywords wait in an attribute
//! X/file =text @7           any other file, with its mtime
//! ```

use std::fmt::Write;
use std::rc::Rc;

use mailbraid::maildir::{Attrs, MailboxFacts, Oid, Op, TreePath, hidden, name};
use mailbraid::merge::{Conflict, World, three_way};

use super::world::{Dir, Memory};

/// Reads a tree.
pub fn read(memory: &mut Memory, text: &str) -> Oid {
    let mut root = Dir::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let path = words.next().unwrap();
        if let Some(folder) = path.strip_suffix('/') {
            folder_line(&mut root, &TreePath::new(folder), words);
        } else {
            let (op, content) = file_line(&TreePath::new(path), words);
            memory.put_blob(&content);
            root.apply(&op);
        }
    }
    memory.write(&mut Rc::new(root))
}

fn make(root: &mut Dir, path: &TreePath) {
    if root.at(path).is_none() {
        make(root, &path.parent().unwrap());
        root.apply(&Op::Mkdir { path: path.clone() });
    }
}

fn folder_line<'a>(root: &mut Dir, path: &TreePath, mut words: impl Iterator<Item = &'a str>) {
    make(root, path);
    let uids = words.next().unwrap();
    if uids == "dir" {
        return;
    }
    for part in ["cur", "new", "tmp"] {
        make(root, &path.join(part.as_bytes()));
    }
    let Some((validity, next)) = uids.split_once('/') else {
        return;
    };
    let mut facts = MailboxFacts {
        uid_validity: validity.parse().unwrap(),
        uid_next: next.parse().unwrap(),
        ..MailboxFacts::default()
    };
    facts.guid = words
        .next()
        .filter(|guid| *guid != "-")
        .map(|guid| guid.as_bytes().to_vec());
    for word in words {
        let (letter, name) = word.split_at(1);
        facts
            .keywords
            .insert(letter.as_bytes()[0] - b'a', name.as_bytes().to_vec());
    }
    root.apply(&Op::SetMailbox {
        folder: path.clone(),
        facts,
    });
}

fn file_line<'a>(path: &TreePath, words: impl Iterator<Item = &'a str>) -> (Op, Vec<u8>) {
    let mut attrs = Attrs::default();
    let mut content = name::unique(path.name()).to_vec();
    for word in words {
        if let Some(text) = word.strip_prefix('=') {
            content = text.replace('|', "\n").into_bytes();
        } else if let Some(time) = word.strip_prefix('@') {
            attrs.mtime = time.parse().unwrap();
        } else if let Some(letters) = word.strip_prefix("k=") {
            attrs
                .ext
                .insert(hidden::KEYWORDS, letters.as_bytes().to_vec());
        } else if word != "-" {
            attrs.uid = Some(word.parse().unwrap());
        }
    }
    attrs.size = content.len() as u64;
    let op = Op::Put {
        path: path.clone(),
        oid: super::world::digest(2, &content),
        content: mailbraid::maildir::Content::Existing,
        attrs,
    };
    (op, content)
}

/// Writes a tree, in the order of paths.
pub fn write(memory: &Memory, tree: Oid) -> String {
    let mut text = String::new();
    write_dir(memory, &memory.dir(tree), &TreePath::root(), &mut text);
    text
}

fn write_dir(memory: &Memory, dir: &Dir, path: &TreePath, text: &mut String) {
    let is_folder = dir.dirs.contains_key(b"cur".as_slice());
    match &dir.facts {
        Some(facts) => {
            write!(text, "{path}/ {}/{}", facts.uid_validity, facts.uid_next).unwrap();
            let guid = facts.guid.as_deref().unwrap_or(b"-");
            write!(text, " {}", String::from_utf8_lossy(guid)).unwrap();
            for (letter, name) in &facts.keywords {
                let name = String::from_utf8_lossy(name);
                write!(text, " {}{name}", (letter + b'a') as char).unwrap();
            }
            text.push('\n');
        }
        None if is_folder => writeln!(text, "{path}/ -").unwrap(),
        None if !path.is_root()
            && !["cur", "new", "tmp"]
                .iter()
                .any(|part| path.name() == part.as_bytes()) =>
        {
            writeln!(text, "{path}/ dir").unwrap();
        }
        None => {}
    }
    for (visible, (oid, attrs)) in &dir.files {
        write!(text, "{}", path.join(visible)).unwrap();
        if let Some(uid) = attrs.uid {
            write!(text, " {uid}").unwrap();
        }
        if let Some(letters) = attrs.ext.get(&hidden::KEYWORDS) {
            write!(text, " k={}", String::from_utf8_lossy(letters)).unwrap();
        }
        let content = memory.content(*oid);
        if content != name::unique(visible) {
            let content = String::from_utf8_lossy(&content).replace('\n', "|");
            write!(text, " ={content}").unwrap();
        }
        if attrs.mtime != name::delivery_time(visible).unwrap_or(0) {
            write!(text, " @{}", attrs.mtime).unwrap();
        }
        text.push('\n');
    }
    for (name, child) in &dir.dirs {
        write_dir(memory, child, &path.join(name), text);
    }
}

/// A merge of trees as text.
pub struct Case {
    pub memory: Memory,
    pub base: Option<Oid>,
    pub sides: [Oid; 2],
    /// UIDNEXT that every deleted folder had.
    pub deleted: Option<u32>,
}

impl Case {
    pub fn new(base: &str, left: &str, right: &str) -> Self {
        let mut memory = Memory::default();
        let base = (base != "none").then(|| read(&mut memory, base));
        let sides = [left, right].map(|side| read(&mut memory, side));
        Self {
            memory,
            base,
            sides,
            deleted: None,
        }
    }

    /// The merged tree; both orders of the sides must give it, with the same conflicts.
    pub fn merge(&mut self) -> (Oid, Vec<Conflict>) {
        let mut results = Vec::new();
        for sides in [self.sides, [self.sides[1], self.sides[0]]] {
            let deleted = self.deleted;
            let merge = three_way(&self.memory, self.base, sides, &mut |_, _| Ok(deleted)).unwrap();
            let tree = self
                .memory
                .build(Some(sides[merge.side]), &merge.ops)
                .unwrap();
            results.push((tree, merge.conflicts));
        }
        let second = results.pop().unwrap();
        let first = results.pop().unwrap();
        assert_eq!(
            write(&self.memory, first.0),
            write(&self.memory, second.0),
            "the order of the sides matters"
        );
        assert_eq!(first, second, "the order of the sides matters");
        first
    }
}

/// Merges and compares with what is expected; tells the conflicts.
#[track_caller]
pub fn expect(base: &str, left: &str, right: &str, expected: &str) -> Vec<Conflict> {
    expect_after(base, left, right, None, expected)
}

/// The same, where the deleted folder had this UIDNEXT.
#[track_caller]
pub fn expect_after(
    base: &str,
    left: &str,
    right: &str,
    deleted: Option<u32>,
    expected: &str,
) -> Vec<Conflict> {
    let mut case = Case::new(base, left, right);
    case.deleted = deleted;
    let (tree, conflicts) = case.merge();
    let expected = read(&mut case.memory, expected);
    assert_eq!(write(&case.memory, tree), write(&case.memory, expected));
    assert_eq!(tree, expected, "equal text, different trees");
    conflicts
}
