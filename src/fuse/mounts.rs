//! What is mounted where, without asking the mount itself: a dead one answers nobody.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// The filesystem's device number, as `major:minor`.
    pub device: String,
    /// Its type.
    pub kind: String,
}

impl MountInfo {
    /// Whether it is a store of mailbraid, dead or alive.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.kind == "fuse.mailbraid"
    }
}

/// What is mounted on this absolute path, the topmost where there are several.
#[must_use]
pub fn mounted_at(path: &Path) -> Option<MountInfo> {
    let table = fs::read("/proc/self/mountinfo").ok()?;
    find(&table, path.as_os_str().as_bytes())
}

fn find(table: &[u8], wanted: &[u8]) -> Option<MountInfo> {
    table.split(|byte| *byte == b'\n').rev().find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let (device, place) = (words.nth(2)?, words.nth(1)?);
        if unescape(place) != wanted {
            return None;
        }
        // A dash ends the optional fields.
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        Some(MountInfo {
            device: text(device),
            kind: text(kind),
        })
    })
}

/// A path as it is: the kernel writes blanks, line ends, backslashes and hashes as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &after[3..];
            }
            None => {
                path.push(*first);
                rest = after;
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_known_by_its_number_and_type() {
        let proc = mounted_at(Path::new("/proc")).unwrap();
        assert_eq!(proc.kind, "proc");
        let (major, minor) = proc.device.split_once(':').unwrap();
        assert_eq!(major, "0");
        assert!(minor.parse::<u32>().is_ok());
        assert_eq!(mounted_at(Path::new("/proc/self")), None);
    }

    #[test]
    fn paths_of_any_bytes_are_found_and_the_topmost_counts() {
        let table = b"36 35 8:1 / /mail rw - ext4 /dev/sda1 rw\n\
            40 36 0:50 / /mail\\040of\\134us\\012\xff rw,nosuid shared:7 master:2 - fuse.mailbraid /store rw\n\
            41 36 0:51 / /mail rw - fuse.mailbraid /other rw\n";
        let found = |path: &[u8]| find(table, path).map(|info| (info.device, info.kind));
        let of = |device: &str, kind: &str| Some((device.to_owned(), kind.to_owned()));
        assert_eq!(found(b"/mail"), of("0:51", "fuse.mailbraid"));
        assert_eq!(found(b"/mail of\\us\n\xff"), of("0:50", "fuse.mailbraid"));
        assert_eq!(found(b"/mail\\040of"), None);
        assert_eq!(unescape(b"a\\04"), b"a\\04");
    }
}
