//! Mail that looks like mail, from a seed: what the benches and the large tests run on.
//!
//! | property | how |
//! |---|---|
//! | sizes | log-normal, median 8 KiB, σ 1.8, cut at 1 KiB and 20 MiB: one mail in eight above 64 KiB, the mean about 40 KiB |
//! | text | [`text`]: prose with word frequencies after Zipf |
//! | threads | replies quote what they answer and carry `In-Reply-To` and `References` |
//! | newsletters | multipart/alternative; one sender's issues share their template and style sheet, links carry a token of their own |
//! | attachments | multipart/mixed, base64, bytes that do not compress further; a file sent before is sometimes sent again |
//! | headers | `Received`, `DKIM-Signature`, ids: about 1.5 KiB that compress badly, as in life; less in the smallest mails |
//!
//! Lines end in LF, as Maildir programs store them. The size asked for is met to within a few per cent; [`MailGen::sized`] meets
//! it to the byte.

pub mod compose;
pub mod maildir;
pub mod rng;
pub mod text;

use rng::Rng;
use text::Language;

/// Smallest mail.
pub const SIZE_MIN: u64 = 1024;

/// Largest mail.
pub const SIZE_MAX: u64 = 20 * 1024 * 1024;

/// Half of all mails are smaller than this.
const SIZE_MEDIAN: f64 = 8.0 * 1024.0;

/// Spread of the sizes: standard deviation of their logarithm.
const SIZE_SIGMA: f64 = 1.8;

/// One message.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The message, lines ending in LF.
    pub bytes: Vec<u8>,
    /// When it came: seconds since the epoch, never falling from one mail to the next.
    pub time: i64,
}

impl Mail {
    /// Its size with CRLF line ends, what `,W=` in a Maildir name says.
    pub fn virtual_size(&self) -> u64 {
        let line_ends = self.bytes.iter().filter(|&&byte| byte == b'\n').count();
        (self.bytes.len() + line_ends) as u64
    }
}

/// What a later mail may refer to: the last mails of running threads.
struct Thread {
    subject: String,
    ids: Vec<String>,
    text: Vec<u8>,
}

/// Generator of mails: an endless iterator.
pub struct MailGen {
    rng: Rng,
    language: Language,
    time: i64,
    serial: u64,
    threads: Vec<Thread>,
    newsletters: Vec<compose::Newsletter>,
    attachments: Vec<compose::Attachment>,
}

impl MailGen {
    /// From a seed; equal seeds give equal mails.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let language = Language::new();
        let newsletters = (0..24)
            .map(|_| compose::Newsletter::new(&mut rng, &language))
            .collect();
        Self {
            rng,
            language,
            time: 1_700_000_000,
            serial: 0,
            threads: Vec::new(),
            newsletters,
            attachments: Vec::new(),
        }
    }

    /// A size of the distribution.
    pub fn size(&mut self) -> u64 {
        loop {
            let size = SIZE_MEDIAN * (SIZE_SIGMA * self.rng.normal()).exp();
            if (SIZE_MIN as f64..=SIZE_MAX as f64).contains(&size) {
                return size as u64;
            }
        }
    }

    /// Time passes; a mail's serial number and time.
    fn next_moment(&mut self) {
        self.serial += 1;
        self.time += self.rng.below(240) as i64;
    }

    /// A plain note of exactly `size` bytes (at least 2 KiB).
    pub fn sized(&mut self, size: usize) -> Mail {
        self.next_moment();
        let mut bytes = self.note(size as u64);
        if bytes.len() > size {
            bytes.truncate(size);
        }
        while bytes.len() < size {
            bytes.push(b'.');
        }
        if let Some(last) = bytes.last_mut() {
            *last = b'\n';
        }
        Mail {
            bytes,
            time: self.time,
        }
    }

    /// A mail of about the given size.
    pub fn mail(&mut self, size: u64) -> Mail {
        self.next_moment();
        let dice = self.rng.unit();
        let bytes = match size {
            0..4096 if dice < 0.7 => self.note(size),
            0..4096 => self.newsletter(size),
            4096..65536 if dice < 0.5 => self.newsletter(size),
            4096..65536 if dice < 0.85 || size < 12_000 => self.note(size),
            65536.. if dice < 0.15 => self.newsletter(size),
            _ => self.with_attachments(size),
        };
        Mail {
            bytes,
            time: self.time,
        }
    }
}

impl Iterator for MailGen {
    type Item = Mail;

    fn next(&mut self) -> Option<Mail> {
        let size = self.size();
        Some(self.mail(size))
    }
}
