//! `-o` options of a mount: ours, those of fstab that are not for us, and those for the kernel.

use crate::config::Durability;

/// What the options say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// `uid=`: owner of everything; the mounting user where absent.
    pub uid: Option<u32>,
    /// `gid=`: group of everything.
    pub gid: Option<u32>,
    /// `umask=`, octal.
    pub umask: Option<u32>,
    /// `ro`.
    pub read_only: bool,
    /// `allow_other`.
    pub allow_other: bool,
    /// `durability=strict|delivery|relaxed`: over what the repository's config says.
    pub durability: Option<Durability>,
    /// `threads=`.
    pub threads: Option<usize>,
    /// `idle=sleep`: processors may sleep while requests come.
    pub idle_sleep: bool,
    /// Flags for the kernel.
    pub kernel: Vec<String>,
}

/// fstab's own words, for mount(8), systemd or the reader.
const IGNORED: &[&str] = &[
    "rw",
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "group",
    "owner",
    "nofail",
    "_netdev",
    "loud",
    "silent",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "nodiratime",
    "diratime",
];

/// Words for the kernel. Devices and setuid programs cannot exist in a store, so those words change nothing.
const KERNEL: &[&str] = &[
    "dev", "nodev", "suid", "nosuid", "exec", "noexec", "atime", "noatime", "sync", "async",
    "dirsync",
];

/// Reads a comma-separated list.
///
/// # Errors
/// One line that names the word and says what to do.
pub fn parse(lists: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    for word in lists
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|word| !word.is_empty())
    {
        let (key, value) = word
            .split_once('=')
            .map_or((word, None), |(key, value)| (key, Some(value)));
        let number = |radix| {
            value
                .and_then(|value| u32::from_str_radix(value, radix).ok())
                .ok_or_else(|| {
                    format!("option {word}: {key}= takes a number; see mount.mailbraid(8)")
                })
        };
        match key {
            "uid" => {
                options.uid = Some(account(value, "/etc/passwd").ok_or_else(|| {
                    format!("option {word}: uid= takes a number or a user of /etc/passwd")
                })?)
            }
            "gid" => {
                options.gid = Some(account(value, "/etc/group").ok_or_else(|| {
                    format!("option {word}: gid= takes a number or a group of /etc/group")
                })?)
            }
            "umask" => {
                options.umask = Some(number(8).ok().filter(|mask| *mask <= 0o777).ok_or_else(|| {
                    format!("option {word}: umask= takes up to three octal digits; see mount.mailbraid(8)")
                })?);
            }
            "ro" if value.is_none() => options.read_only = true,
            "rw" if value.is_none() => options.read_only = false,
            "allow_other" if value.is_none() => options.allow_other = true,
            "threads" => {
                options.threads = Some(
                    number(10)
                        .ok()
                        .filter(|count| (1..=64).contains(count))
                        .ok_or_else(|| format!("option {word}: threads= takes 1 to 64"))?
                        as usize,
                );
            }
            "durability" => {
                options.durability =
                    Some(value.and_then(Durability::from_name).ok_or_else(|| {
                        format!("option {word}: durability= takes strict, delivery or relaxed")
                    })?);
            }
            "idle" => {
                options.idle_sleep = match value {
                    Some("poll") => false,
                    Some("sleep") => true,
                    _ => return Err(format!("option {word}: idle= takes poll or sleep")),
                };
            }
            _ if value.is_none() && KERNEL.contains(&key) => options.kernel.push(key.to_owned()),
            _ if value.is_none() && IGNORED.contains(&key) => {}
            // x-systemd.…, X-mount.…: for others who read fstab. comment= likewise. user=NAME is mount(8)'s note of who mounts.
            _ if key.starts_with("x-") || key.starts_with("X-") => {}
            "comment" | "user" | "uhelper" | "helper" => {}
            _ => {
                return Err(format!(
                    "unknown option {word:?}; the options are listed in mount.mailbraid(8)"
                ));
            }
        }
    }
    Ok(options)
}

/// A number, or the number of a name in a file of colon-separated lines (passwd(5), group(5)).
fn account(value: Option<&str>, file: &str) -> Option<u32> {
    let value = value.filter(|value| !value.is_empty())?;
    if let Ok(number) = value.parse() {
        return Some(number);
    }
    let lines = std::fs::read_to_string(file).ok()?;
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(value)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Result<Options, String> {
        parse(&[list.to_owned()])
    }

    #[test]
    fn what_mount_passes_is_understood() {
        let options = parsed("rw,uid=1000,gid=8,umask=007,allow_other,durability=strict,idle=sleep,noexec,dev,suid,x-systemd.automount,nofail,user=nobody,X-mount.mkdir=0755").unwrap();
        assert_eq!(options.uid, Some(1000));
        assert_eq!(options.gid, Some(8));
        assert_eq!(options.umask, Some(0o007));
        assert!(options.allow_other && !options.read_only);
        assert_eq!(options.durability, Some(Durability::Strict));
        assert!(options.idle_sleep);
        assert_eq!(options.kernel, ["noexec", "dev", "suid"]);
        let named = parsed("uid=root,gid=root").unwrap();
        assert_eq!((named.uid, named.gid), (Some(0), Some(0)));
        assert!(parsed("ro").unwrap().read_only);
        assert_eq!(parsed(""), Ok(Options::default()));
    }

    #[test]
    fn what_is_not_is_named() {
        for word in [
            "colour",
            "uid=x",
            "uid",
            "umask=8",
            "umask=1777",
            "durability=never",
            "threads=0",
            "idle=never",
            "idle",
            "ro=1",
        ] {
            let why = parsed(word).unwrap_err();
            assert!(why.contains(word) && why.lines().count() == 1, "{why}");
        }
    }
}
