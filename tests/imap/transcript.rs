//! What was said in a session, made comparable: two runs of one script over two filesystems must read the same.
//!
//! Normalised are only things that differ between two runs over *one* filesystem, which a test proves by comparing two:
//!
//! | what | becomes |
//! |---|---|
//! | a date of yesterday, today or tomorrow, with its time and zone | `<now>` |
//! | UIDVALIDITY, by folder | `<first>`, then `<same>` or `<other>` |
//! | UIDVALIDITY in APPENDUID and COPYUID | `<uidvalidity>` |
//! | Dovecot's timings, `(0.001 + 0.000 secs)` | nothing |
//! | the LMTP session in a Received line | `<session>` |
//! | the order of the words in FLAGS lists (a hash table's in Courier) | sorted |
//! | the order of LIST and LSUB responses (it is the directory's order in Courier) | sorted |
//! | the order of the numbers of a SEARCH (RFC 9051 gives none; for a keyword it is that of the directory in Courier) | sorted |

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::client::Reply;

/// The record of one session.
#[derive(Debug, Default)]
pub struct Transcript {
    lines: Vec<String>,
    commands: usize,
    uidvalidity: HashMap<String, String>,
}

impl Transcript {
    /// Adds a command of the connection `who` and the reply to it.
    pub fn record(&mut self, who: char, command: &str, reply: &Reply) {
        self.commands += 1;
        self.lines.push(format!("{who}> {command}"));
        let mut untagged: Vec<String> = reply
            .untagged
            .iter()
            .map(|line| self.normalise(command, line))
            .collect();
        let listing = |line: &String| line.starts_with("* LIST ") || line.starts_with("* LSUB ");
        let mut start = 0;
        while start < untagged.len() {
            let run = untagged[start..]
                .iter()
                .take_while(|line| listing(line))
                .count();
            untagged[start..start + run].sort();
            start += run.max(1);
        }
        let tagged = self.normalise(command, &reply.tagged);
        for line in untagged.iter().chain([&tagged]) {
            // A literal's lines stand one by one, so that a difference shows where it is.
            for part in line.split("\r\n") {
                self.lines.push(format!("{who}< {part}"));
            }
        }
        let mut words = command.split_whitespace();
        if let (Some("DELETE" | "RENAME"), Some(folder)) = (words.next(), words.next()) {
            let below = |name: &String| name.starts_with(folder);
            self.uidvalidity.retain(|name, _| !below(name));
        }
    }

    /// Adds a line of the script's own.
    pub fn note(&mut self, text: &str) {
        self.lines.push(format!("   {text}"));
    }

    /// The number of commands recorded.
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Panics with a readable difference unless both say the same.
    #[track_caller]
    pub fn assert_equal(&self, other: &Self, ours: &str, theirs: &str) {
        if let Some(diff) = difference(&self.lines, &other.lines) {
            panic!("the transcripts differ (- {ours}, + {theirs}):\n{diff}");
        }
    }

    fn normalise(&mut self, command: &str, line: &str) -> String {
        let line = dates(line);
        let line = timings(&line);
        let line = lmtp_session(&line);
        let line = flag_lists(&line);
        let line = search(&line);
        let mut words = command.split_whitespace();
        let folder = match words.next() {
            Some("SELECT" | "EXAMINE" | "STATUS") => words.next().unwrap_or(""),
            _ => "",
        };
        let line = replace_number(&line, "UIDVALIDITY ", |number| {
            match self.uidvalidity.get(folder) {
                None => {
                    self.uidvalidity
                        .insert(folder.to_owned(), number.to_owned());
                    "<first>"
                }
                Some(known) if known == number => "<same>",
                Some(_) => "<other>",
            }
        });
        let line = replace_number(&line, "APPENDUID ", |_| "<uidvalidity>");
        replace_number(&line, "COPYUID ", |_| "<uidvalidity>")
    }
}

/// Replaces the number after each `key`.
fn replace_number(line: &str, key: &str, mut with: impl FnMut(&str) -> &'static str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(key) {
        let (before, after) = rest.split_at(at + key.len());
        out.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            out.push_str(with(&after[..digits]));
        }
        rest = &after[digits..];
    }
    out + rest
}

/// Removes ` (0.001 + 0.000 + 0.001 secs)`.
fn timings(line: &str) -> String {
    let Some(end) = line.find(" secs)") else {
        return line.to_owned();
    };
    match line[..end].rfind(" (") {
        Some(start) => format!("{}{}", &line[..start], &line[end + " secs)".len()..]),
        None => line.to_owned(),
    }
}

/// Sorts the numbers of a SEARCH.
fn search(line: &str) -> String {
    let numbers = line.strip_prefix("* SEARCH ");
    let numbers: Option<Vec<u32>> =
        numbers.and_then(|text| text.split(' ').map(|word| word.parse().ok()).collect());
    let Some(mut numbers) = numbers else {
        return line.to_owned();
    };
    numbers.sort_unstable();
    let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
    format!("* SEARCH {}", words.join(" "))
}

/// Sorts the words of each `FLAGS (…)`.
fn flag_lists(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("FLAGS (") {
        let (before, after) = rest.split_at(at + "FLAGS (".len());
        out.push_str(before);
        let end = after.find(')').unwrap_or(after.len());
        let mut words: Vec<&str> = after[..end].split(' ').collect();
        words.sort_unstable();
        out.push_str(&words.join(" "));
        rest = &after[end..];
    }
    out + rest
}

/// Masks what Dovecot's LMTP writes into a Received header: `LMTP id <session>`.
fn lmtp_session(line: &str) -> String {
    let mut out = line.to_owned();
    for key in ["LMTP id ", "LMTP\r\n\tid "] {
        if let Some(at) = out.find(key) {
            let start = at + key.len();
            let length = out[start..]
                .find(|c: char| c.is_whitespace())
                .unwrap_or(out.len() - start);
            out.replace_range(start..start + length, "<session>");
        }
    }
    out
}

/// Masks dates of these days, in IMAP's and in RFC 5322's form.
fn dates(line: &str) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let today = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs() / 86_400);
    let mut out = line.to_owned();
    for day in [today - 1, today, today + 1] {
        let (year, month, day) = civil(day);
        let month = MONTHS[month - 1];
        for separator in ['-', ' '] {
            for text in [
                format!("{day:02}{separator}{month}{separator}{year}"),
                format!("{day}{separator}{month}{separator}{year}"),
            ] {
                while let Some(start) = out.find(&text) {
                    let mut from = start;
                    // ` 5-Nov-2026` is padded, `Thu, 5 Nov 2026` names the weekday.
                    if let Some(before) = out[..from].strip_suffix(", ")
                        && before.len() >= 3
                    {
                        from = before.len() - 3;
                    }
                    let after = &out[start + text.len()..];
                    let time = after
                        .bytes()
                        .take_while(|byte| byte.is_ascii_digit() || b" :+-".contains(byte))
                        .count();
                    let mut end = start + text.len() + time;
                    if out[end..].starts_with('(')
                        && let Some(close) = out[end..].find(')')
                        && close < 8
                    {
                        end += close + 1;
                    }
                    out.replace_range(from..end, "<now>");
                }
            }
        }
    }
    out
}

/// Year, month (1–12) and day of a number of days since 1970 (<https://howardhinnant.github.io/date_algorithms.html>).
fn civil(days: u64) -> (u64, usize, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    (year, usize::try_from(month).expect("below 13"), day)
}

/// The lines that differ, each group under the command it belongs to; `None` where all are equal.
pub fn difference(left: &[String], right: &[String]) -> Option<String> {
    if left == right {
        return None;
    }
    // The longest common subsequence, by the usual table from the end.
    let (n, m) = (left.len(), right.len());
    let mut table = vec![0_u32; (n + 1) * (m + 1)];
    let at = |i: usize, j: usize| i * (m + 1) + j;
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            table[at(i, j)] = if left[i] == right[j] {
                table[at(i + 1, j + 1)] + 1
            } else {
                table[at(i + 1, j)].max(table[at(i, j + 1)])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = String::new();
    let mut command: Option<&String> = None;
    let mut shown = 0;
    while i < n || j < m {
        if i < n && j < m && left[i] == right[j] {
            if left[i].get(1..3) == Some("> ") {
                command = Some(&left[i]);
            }
            (i, j) = (i + 1, j + 1);
            continue;
        }
        if let Some(command) = command.take() {
            let _ = writeln!(out, "  {command}");
        }
        if j == m || (i < n && table[at(i + 1, j)] >= table[at(i, j + 1)]) {
            let _ = writeln!(out, "- {}", left[i]);
            i += 1;
        } else {
            let _ = writeln!(out, "+ {}", right[j]);
            j += 1;
        }
        shown += 1;
        if shown == 200 {
            out.push_str("… and more\n");
            break;
        }
    }
    Some(out)
}

#[test]
fn what_differs_between_runs_is_masked_and_nothing_else() {
    let (year, month, day) = civil(20_000);
    assert_eq!((year, month, day), (2024, 10, 4));
    assert_eq!(
        timings("OK Fetch completed (0.001 + 0.000 + 0.001 secs)."),
        "OK Fetch completed."
    );
    assert_eq!(
        flag_lists("* 1 FETCH (UID 2 FLAGS (b \\Seen a) X (b a))"),
        "* 1 FETCH (UID 2 FLAGS (\\Seen a b) X (b a))"
    );
    assert_eq!(search("* SEARCH 2 10 1"), "* SEARCH 1 2 10");
    for other in ["* SEARCH", "* SEARCH 2 1 (MODSEQ 9)", "* ESEARCH 2 1"] {
        assert_eq!(search(other), other);
    }
    let old = "* 1 FETCH (INTERNALDATE \"01-Feb-2020 10:00:00 +0000\")";
    assert_eq!(dates(old), old);
    let today = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock");
    let (year, _, day) = civil(today.as_secs() / 86_400);
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ][civil(today.as_secs() / 86_400).1 - 1];
    assert_eq!(
        dates(&format!(
            "(INTERNALDATE \"{day:02}-{month}-{year} 10:00:00 +0000\" UID 3)"
        )),
        "(INTERNALDATE \"<now>\" UID 3)"
    );
    assert_eq!(
        dates(&format!(
            "Received: x; Thu, {day:02} {month} {year} 10:00:00 +0000 (UTC)"
        )),
        "Received: x; <now>"
    );
    let mut transcript = Transcript::default();
    let line = "* OK [UIDVALIDITY 77] Ok";
    assert_eq!(
        transcript.normalise("SELECT a", line),
        "* OK [UIDVALIDITY <first>] Ok"
    );
    assert_eq!(
        transcript.normalise("SELECT b", line),
        "* OK [UIDVALIDITY <first>] Ok"
    );
    assert_eq!(
        transcript.normalise("STATUS a (X)", line),
        "* OK [UIDVALIDITY <same>] Ok"
    );
    let line = "* OK [UIDVALIDITY 78] Ok";
    assert_eq!(
        transcript.normalise("SELECT b", line),
        "* OK [UIDVALIDITY <other>] Ok"
    );
}

#[test]
fn a_difference_names_its_command() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let left = lines("a> NOOP\na< OK\na> FETCH\na< * 1\na< OK");
    let right = lines("a> NOOP\na< OK\na> FETCH\na< * 2\na< OK");
    assert_eq!(difference(&left, &left), None);
    assert_eq!(
        difference(&left, &right).expect("they differ"),
        "  a> FETCH\n- a< * 1\n+ a< * 2\n"
    );
}
