//! Writing many mails as a Maildir, fast: straight into `cur/`, not synced.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::Mail;
use super::rng::Rng;

/// A message as it was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// File name in `cur/`, flags included.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}

/// Makes `cur`, `new` and `tmp`.
///
/// # Errors
/// Those of mkdir.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    ["cur", "new", "tmp"]
        .iter()
        .try_for_each(|part| fs::create_dir_all(folder.join(part)))
}

/// The unique name Dovecot would give: `<time>.M<usec>P<pid>.<host>,S=<size>,W=<virtual size>`. `serial` makes it unique.
pub fn unique_name(mail: &Mail, serial: u64) -> String {
    format!(
        "{}.M{}P{}.vm,S={},W={}",
        mail.time,
        // 7919 has no factor in common with 1,000,000, so a million serials give a million values.
        serial.wrapping_mul(7919) % 1_000_000,
        1_000 + serial % 30_000,
        mail.bytes.len(),
        mail.virtual_size()
    )
}

/// Letters after `:2,` as in an old mailbox: most mail is read, some answered, a little flagged.
pub fn flags(rng: &mut Rng) -> &'static str {
    match rng.below(100) {
        0..12 => "",
        12..75 => "S",
        75..92 => "RS",
        92..96 => "FS",
        _ => "FRS",
    }
}

/// Writes every mail into `folder/cur`, mtime and INTERNALDATE its time, and makes the folder where it is missing.
///
/// # Errors
/// Those of the file system.
pub fn write(folder: &Path, mails: impl Iterator<Item = Mail>) -> io::Result<Vec<Written>> {
    make_folder(folder)?;
    let cur = folder.join("cur");
    let mut rng = Rng::new(0x666c_6167);
    mails
        .zip(1..)
        .map(|(mail, serial)| {
            let name = format!("{}:2,{}", unique_name(&mail, serial), flags(&mut rng));
            let mut file = File::create_new(cur.join(&name))?;
            file.write_all(&mail.bytes)?;
            let time = UNIX_EPOCH + Duration::from_secs(mail.time as u64);
            file.set_times(FileTimes::new().set_accessed(time).set_modified(time))?;
            Ok(Written {
                name,
                size: mail.bytes.len() as u64,
            })
        })
        .collect()
}
