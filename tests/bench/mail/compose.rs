//! The kinds of mail: notes and replies, newsletters, mails with attachments.

use std::fmt::Write as _;

use super::rng::Rng;
use super::text::Language;
use super::{MailGen, Thread};

/// Threads that go on at a time.
const THREADS: usize = 60;

/// Attachments that may be sent again.
const ATTACHMENTS: usize = 100;

const PEOPLE: [&str; 12] = [
    "Ada Brandt",
    "Ben Osei",
    "Clara Novak",
    "Dmitri Falk",
    "Elif Demir",
    "Farid Haddad",
    "Greta Lind",
    "Hugo Marchetti",
    "Ines Duarte",
    "Jonas Keller",
    "Kaia Rebane",
    "Liam Doyle",
];

const HOSTS: [&str; 6] = [
    "example.org",
    "example.com",
    "mail.example.net",
    "lists.example.org",
    "news.example.com",
    "corp.example.net",
];

/// A sender of newsletters: every issue shares these parts.
pub struct Newsletter {
    name: String,
    host: &'static str,
    style: Vec<u8>,
    footer: Vec<u8>,
}

impl Newsletter {
    /// A sender with a style sheet and footer of its own.
    pub fn new(rng: &mut Rng, language: &Language) -> Self {
        let mut style = Vec::new();
        for _ in 0..rng.between(15, 70) {
            let rule = format!(
                ".{}-{} {{ font: {}px Arial, sans-serif; color: #{:06x}; padding: {}px {}px; margin: 0 auto; }}\n",
                language.word(rng),
                language.word(rng),
                rng.between(10, 25),
                rng.below(1 << 24),
                rng.below(40),
                rng.below(40)
            );
            style.extend_from_slice(rule.as_bytes());
        }
        let mut footer = Vec::new();
        let size = rng.between(300, 2_000) as usize;
        language.prose(rng, &mut footer, size, 400);
        Self {
            name: language.subject(rng),
            host: rng.pick::<&'static str>(&HOSTS),
            style,
            footer,
        }
    }
}

/// A file as it was attached: enough to attach it again.
#[derive(Clone)]
pub struct Attachment {
    name: String,
    kind: &'static str,
    seed: u64,
    size: usize,
}

impl Attachment {
    fn new(rng: &mut Rng, language: &Language, size: usize) -> Self {
        const KINDS: [(&str, &str); 4] = [
            ("image/jpeg", "jpg"),
            ("application/pdf", "pdf"),
            ("application/zip", "zip"),
            (
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                "docx",
            ),
        ];
        let (kind, ending) = *rng.pick(&KINDS);
        Self {
            name: format!("{}-{}.{ending}", language.word(rng), rng.below(1000)),
            kind,
            seed: rng.next(),
            size,
        }
    }

    /// Its MIME part, boundary line not included.
    fn part(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            format!(
                "Content-Type: {}; name=\"{}\"\nContent-Disposition: attachment; filename=\"{}\"\nContent-Transfer-Encoding: base64\n\n",
                self.kind, self.name, self.name
            )
            .as_bytes(),
        );
        base64_lines(&Rng::new(self.seed).bytes(self.size), out);
    }
}

/// base64 in lines of 76 (RFC 2045 §6.8).
pub fn base64_lines(bytes: &[u8], out: &mut Vec<u8>) {
    for line in bytes.chunks(57) {
        base64(line, out);
        out.push(b'\n');
    }
}

/// base64 without line ends (RFC 4648 §4).
pub fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let word = (u32::from(three[0]) << 16)
            | (u32::from(three.get(1).copied().unwrap_or(0)) << 8)
            | u32::from(three.get(2).copied().unwrap_or(0));
        for at in 0..4 {
            if at <= three.len() {
                out.push(ALPHABET[(word >> (18 - 6 * at)) as usize & 63]);
            } else {
                out.push(b'=');
            }
        }
    }
}

/// A date as mail headers have it (RFC 5322 §3.3), always UTC.
pub fn date(time: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let days = time.div_euclid(86_400);
    let second = time.rem_euclid(86_400);
    // Days to civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{}, {day} {} {year} {:02}:{:02}:{:02} +0000",
        DAYS[days.rem_euclid(7) as usize],
        MONTHS[month as usize - 1],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The address of one of [`PEOPLE`].
fn address(rng: &mut Rng, host: &str) -> String {
    let name = *rng.pick(&PEOPLE);
    let local = name.to_lowercase().replace(' ', ".");
    format!("{name} <{local}@{host}>")
}

impl MailGen {
    /// The head of a mail, up to and without the blank line; and its message id. A small mail has been through fewer hands.
    fn head(&mut self, from: &str, host: &str, subject: &str, small: bool) -> (Vec<u8>, String) {
        let rng = &mut self.rng;
        let date = date(self.time);
        let mut head = String::new();
        let id = format!("<{:x}.{:x}@{host}>", self.serial, rng.next());
        let to = address(rng, "example.org");
        let hops = if small { 1 } else { rng.between(2, 4) };
        for hop in 0..hops {
            let _ = write!(
                head,
                "Received: from relay{hop}.{host} (relay{hop}.{host} [192.0.2.{}])\n\tby mx{hop}.example.org with ESMTPS id {:x}\n\tfor <user@example.org>; {date}\n",
                rng.below(256),
                rng.next()
            );
        }
        if !small {
            let mut signature = Vec::new();
            base64(&rng.bytes(256), &mut signature);
            let mut body_hash = Vec::new();
            base64(&rng.bytes(32), &mut body_hash);
            let _ = write!(
                head,
                "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={host}; s=k{};\n\th=from:to:subject:date:message-id; bh={};\n\tb=",
                rng.below(5),
                String::from_utf8_lossy(&body_hash)
            );
            for line in signature.chunks(70) {
                let _ = write!(head, "{}\n\t ", String::from_utf8_lossy(line));
            }
            head.truncate(head.trim_end().len());
            head.push('\n');
        }
        let _ = write!(
            head,
            "Message-ID: {id}\nDate: {date}\nFrom: {from}\nTo: {to}\nSubject: {subject}\nMIME-Version: 1.0\n"
        );
        (head.into_bytes(), id)
    }

    /// A note in plain text; often it answers an earlier one.
    pub(super) fn note(&mut self, size: u64) -> Vec<u8> {
        let size = size as usize;
        let small = size < 2_600;
        let host = *self.rng.pick(&HOSTS);
        let from = address(&mut self.rng, host);
        let answers = !self.threads.is_empty() && self.rng.chance(0.6);
        let mut thread = if answers {
            let at = self.rng.below(self.threads.len() as u64) as usize;
            self.threads.swap_remove(at)
        } else {
            Thread {
                subject: self.language.subject(&mut self.rng),
                ids: Vec::new(),
                text: Vec::new(),
            }
        };
        let subject = if answers {
            format!("Re: {}", thread.subject)
        } else {
            thread.subject.clone()
        };
        let (mut mail, id) = self.head(&from, host, &subject, small);
        if let Some(last) = thread.ids.last() {
            let recent = if small { 1 } else { 10 };
            let known = &thread.ids[thread.ids.len().saturating_sub(recent)..];
            mail.extend_from_slice(
                format!("In-Reply-To: {last}\nReferences: {}\n", known.join("\n\t")).as_bytes(),
            );
        }
        mail.extend_from_slice(
            b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n",
        );
        let body = mail.len();
        let room = size.saturating_sub(body);
        // A reply quotes at most half of itself; what it says comes first or last.
        let mut quoted = Vec::new();
        for line in thread.text.split_inclusive(|&byte| byte == b'\n') {
            if quoted.len() + line.len() + 2 > room / 2 {
                break;
            }
            quoted.extend_from_slice(b"> ");
            quoted.extend_from_slice(line);
        }
        let quote_first = self.rng.chance(0.5);
        if quote_first {
            mail.extend_from_slice(&quoted);
        }
        let own = room.saturating_sub(quoted.len()).max(1);
        self.language.prose(&mut self.rng, &mut mail, own, 72);
        if !quote_first {
            mail.extend_from_slice(&quoted);
        }
        thread.text = mail[body..].to_vec();
        thread.text.truncate(100_000);
        thread.ids.push(id);
        if self.threads.len() >= THREADS {
            let at = self.rng.below(THREADS as u64) as usize;
            self.threads.swap_remove(at);
        }
        self.threads.push(thread);
        mail
    }

    /// An issue of a newsletter, or a notification where it is small.
    pub(super) fn newsletter(&mut self, size: u64) -> Vec<u8> {
        let size = size as usize;
        let small = size < 2_600;
        let which = self.rng.below(self.newsletters.len() as u64) as usize;
        let host = self.newsletters[which].host;
        let from = format!("{} <news@{host}>", self.newsletters[which].name);
        let subject = self.language.subject(&mut self.rng);
        let (mut mail, _) = self.head(&from, host, &subject, small);
        if small {
            mail.extend_from_slice(b"Content-Type: text/html; charset=utf-8\n\n<html><body>\n");
            let room = size.saturating_sub(mail.len() + 60).max(1);
            self.language.prose(&mut self.rng, &mut mail, room, 200);
            let link = format!(
                "<a href=\"https://{host}/{:x}\">open</a>\n",
                self.rng.next()
            );
            mail.extend_from_slice(link.as_bytes());
            mail.extend_from_slice(b"</body></html>\n");
            mail.resize(mail.len().max(size), b'\n');
            return mail;
        }
        let boundary = format!("=_{:016x}", self.rng.next());
        mail.extend_from_slice(
            format!(
                "List-Unsubscribe: <https://{host}/u/{:x}>\nPrecedence: bulk\nContent-Type: multipart/alternative; boundary=\"{boundary}\"\n\n--{boundary}\nContent-Type: text/plain; charset=utf-8\n\n",
                self.rng.next()
            )
            .as_bytes(),
        );
        let room = size.saturating_sub(mail.len());
        self.language.prose(&mut self.rng, &mut mail, room / 5, 72);
        mail.extend_from_slice(
            format!(
                "\n--{boundary}\nContent-Type: text/html; charset=utf-8\n\n<html><head><style>\n"
            )
            .as_bytes(),
        );
        let sender = &self.newsletters[which];
        let style_room = size.saturating_sub(mail.len()) / 2;
        let style = &sender.style[..sender.style.len().min(style_room)];
        mail.extend_from_slice(style);
        mail.extend_from_slice(b"</style></head><body><table>\n");
        let ending = sender.footer.len() + 120;
        while mail.len() + ending < size {
            mail.extend_from_slice(
                format!(
                    "<tr><td class=\"story\" align=\"left\" valign=\"top\" style=\"padding: 12px 24px\"><a href=\"https://{host}/c/{:016x}{:016x}\"><h2>",
                    self.rng.next(),
                    self.rng.next()
                )
                .as_bytes(),
            );
            mail.extend_from_slice(self.language.subject(&mut self.rng).as_bytes());
            mail.extend_from_slice(b"</h2></a><p>\n");
            let story = (self.rng.between(150, 900) as usize)
                .min(size.saturating_sub(mail.len() + ending).max(1));
            self.language.prose(&mut self.rng, &mut mail, story, 400);
            mail.extend_from_slice(b"</p></td></tr>\n");
        }
        mail.extend_from_slice(b"</table><p>");
        mail.extend_from_slice(&self.newsletters[which].footer);
        mail.extend_from_slice(format!("</p></body></html>\n\n--{boundary}--\n").as_bytes());
        mail.resize(mail.len().max(size), b'\n');
        mail
    }

    /// A short text with one to three attachments.
    pub(super) fn with_attachments(&mut self, size: u64) -> Vec<u8> {
        let size = size as usize;
        let host = *self.rng.pick(&HOSTS);
        let from = address(&mut self.rng, host);
        let subject = self.language.subject(&mut self.rng);
        let (mut mail, _) = self.head(&from, host, &subject, false);
        let boundary = format!("=_{:016x}", self.rng.next());
        mail.extend_from_slice(
            format!(
                "Content-Type: multipart/mixed; boundary=\"{boundary}\"\n\n--{boundary}\nContent-Type: text/plain; charset=utf-8\n\n"
            )
            .as_bytes(),
        );
        let text = self.rng.between(200, 2_500) as usize;
        self.language.prose(&mut self.rng, &mut mail, text, 72);
        let mut files = self.rng.between(1, 4) as usize;
        while mail.len() < size {
            let room = size - mail.len();
            mail.extend_from_slice(format!("\n--{boundary}\n").as_bytes());
            // base64: 57 bytes make a line of 77.
            let bytes = (room / files.max(1)) * 57 / 77 + 64;
            files = files.saturating_sub(1);
            let again = self
                .attachments
                .iter()
                .find(|old| old.size <= bytes && old.size * 8 > bytes * 7)
                .cloned();
            let file = match again {
                Some(old) if self.rng.chance(0.25) => old,
                _ => Attachment::new(&mut self.rng, &self.language, bytes),
            };
            file.part(&mut mail);
            if self.attachments.len() >= ATTACHMENTS {
                let at = self.rng.below(ATTACHMENTS as u64) as usize;
                self.attachments.swap_remove(at);
            }
            self.attachments.push(file);
        }
        mail.extend_from_slice(format!("\n--{boundary}--\n").as_bytes());
        mail
    }
}
