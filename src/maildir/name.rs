//! What a message file's name says (<https://cr.yp.to/proto/maildir.html>; Dovecot's `,S=` `,W=`; Mailutils' `,u=` `,a=`;
//! mbsync's `,U=`).
//!
//! ```text
//! 1795466045.M650136P12598.vm,S=2345,W=2400,U=17:2,FS
//! └──────── unique name, attributes included ──┘└info┘
//! ```
//!
//! The *unique name* is all before the last `:2,`, or else before the first `:`. The *identity* of a message within its
//! folder is the unique name without the attributes that a program changes in a message's lifetime (`,u=`, `,a=`, `,U=`):
//! two names of one identity are one message.

/// Splits a file name into the unique name and the info after the colon (`None` where there is no colon).
#[must_use]
pub fn split(visible: &[u8]) -> (&[u8], Option<&[u8]>) {
    if let Some(at) = visible.windows(3).rposition(|three| three == b":2,") {
        return (&visible[..at], Some(&visible[at + 1..]));
    }
    match visible.iter().position(|&byte| byte == b':') {
        Some(at) => (&visible[..at], Some(&visible[at + 1..])),
        None => (visible, None),
    }
}

/// What `dovecot-uidlist` calls the message: all before the *first* colon (Dovecot `maildir_filename_base_cmp`). One name for two
/// messages only where a unique name holds a colon, which the Maildir standard forbids.
#[must_use]
pub fn stem(visible: &[u8]) -> &[u8] {
    let end = visible.iter().position(|&byte| byte == b':');
    &visible[..end.unwrap_or(visible.len())]
}

/// What `courierimapuiddb` calls the message: all before the *last* colon (Courier `imapscanclient.c`).
#[must_use]
pub fn courier(visible: &[u8]) -> &[u8] {
    let end = visible.iter().rposition(|&byte| byte == b':');
    &visible[..end.unwrap_or(visible.len())]
}

/// The unique name: all before the last `:2,` (or the first `:`).
#[must_use]
pub fn unique(visible: &[u8]) -> &[u8] {
    split(visible).0
}

/// The flag and keyword letters after `:2,`; empty where there are none.
#[must_use]
pub fn flags(visible: &[u8]) -> &[u8] {
    split(visible)
        .1
        .and_then(|info| info.strip_prefix(b"2,"))
        .unwrap_or(b"")
}

/// What identifies the message within its folder: the unique name without `,u=`, `,a=` and `,U=` attributes.
#[must_use]
pub fn identity(visible: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let unique = unique(visible);
    let mut parts = unique.split(|&byte| byte == b',').skip(1);
    if !parts.any(is_unstable) {
        return unique.into();
    }
    let mut kept = Vec::with_capacity(unique.len());
    for (at, part) in unique.split(|&byte| byte == b',').enumerate() {
        if at == 0 || !is_unstable(part) {
            if at > 0 {
                kept.push(b',');
            }
            kept.extend_from_slice(part);
        }
    }
    kept.into()
}

/// Attributes that may change while the message stays the same: Mailutils' UID and attribute set, mbsync's UID.
fn is_unstable(attribute: &[u8]) -> bool {
    matches!(attribute, [b'u' | b'a' | b'U', b'=', ..])
}

/// `unique` with the given flags, as it is written in `cur/`: `UNIQUE:2,FLAGS`, letters sorted and each once.
#[must_use]
pub fn with_flags(unique: &[u8], flags: &[u8]) -> Vec<u8> {
    let mut letters = flags.to_vec();
    letters.sort_unstable();
    letters.dedup();
    [unique, b":2,", &letters].concat()
}

/// A file name with other keyword letters (`a` to `z`), and all else as it was: info other than `2,` has no letters, and a name without
/// info gets one where there are letters to write.
#[must_use]
pub fn with_keywords(visible: &[u8], letters: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let (unique, info) = split(visible);
    let flags = match info {
        None => &b""[..],
        Some(info) => match info.strip_prefix(b"2,") {
            Some(flags) => flags,
            None => return visible.to_vec(),
        },
    };
    let mut all: Vec<u8> = flags
        .iter()
        .copied()
        .filter(|letter| !letter.is_ascii_lowercase())
        .collect();
    all.extend(letters);
    if info.is_none() && all.is_empty() {
        return visible.to_vec();
    }
    with_flags(unique, &all)
}

/// The delivery time in whole seconds that leads the name; `None` unless it starts with 1 to 12 digits and a dot.
#[must_use]
pub fn delivery_time(visible: &[u8]) -> Option<i64> {
    let digits = visible
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if digits == 0 || digits > 12 || visible.get(digits) != Some(&b'.') {
        return None;
    }
    std::str::from_utf8(&visible[..digits]).ok()?.parse().ok()
}

/// The size in bytes that a `,S=` attribute claims.
#[must_use]
pub fn claimed_size(visible: &[u8]) -> Option<u64> {
    let part = unique(visible)
        .split(|&byte| byte == b',')
        .skip(1)
        .find_map(|part| part.strip_prefix(b"S="))?;
    if part.is_empty()
        || part.len() > 18
        || !part.iter().all(u8::is_ascii_digit)
        || (part.len() > 1 && part[0] == b'0')
    {
        return None;
    }
    std::str::from_utf8(part).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unique_name_ends_at_the_last_info() {
        assert_eq!(unique(b"1.M2.vm,S=3:2,FS"), b"1.M2.vm,S=3");
        assert_eq!(unique(b"a:2,b:2,S"), b"a:2,b");
        assert_eq!(unique(b"a:1,b"), b"a");
        assert_eq!(flags(b"a:2,FSab"), b"FSab");
        assert_eq!(flags(b"a:1,FS"), b"");
        assert_eq!(flags(b"a"), b"");
        assert_eq!(stem(b"a:b:2,S"), b"a");
        assert_eq!(courier(b"a:b:2,S"), b"a:b");
        assert_eq!(stem(b"a"), b"a");
        assert_eq!(courier(b"a"), b"a");
    }

    #[test]
    fn keywords_change_and_flags_stay() {
        assert_eq!(with_keywords(b"a:2,FSab", *b"cb"), b"a:2,FSbc");
        assert_eq!(with_keywords(b"a:2,ab", []), b"a:2,");
        assert_eq!(with_keywords(b"a", []), b"a");
        assert_eq!(with_keywords(b"a", *b"b"), b"a:2,b");
        assert_eq!(with_keywords(b"a:1,x", *b"b"), b"a:1,x");
    }

    #[test]
    fn identity_drops_what_a_server_may_change() {
        assert_eq!(&*identity(b"1.2.vm,S=3,U=7:2,S"), b"1.2.vm,S=3");
        assert_eq!(&*identity(b"1.2.vm,u=9,S=3,a=5"), b"1.2.vm,S=3");
        assert_eq!(&*identity(b",u=9"), b"");
        assert_eq!(&*identity(b"1.2.vm"), b"1.2.vm");
    }

    #[test]
    fn times_and_sizes_are_read_only_where_they_are_canonical() {
        assert_eq!(delivery_time(b"1795466045.M6.vm"), Some(1_795_466_045));
        assert_eq!(delivery_time(b"1795466045"), None);
        assert_eq!(delivery_time(b".1"), None);
        assert_eq!(claimed_size(b"1.vm,S=20,W=21:2,S"), Some(20));
        assert_eq!(claimed_size(b"1.vm,S=020"), None);
        assert_eq!(claimed_size(b"S=20"), None);
    }
}
