//! `dovecot-uidvalidity` and its companion `dovecot-uidvalidity.%08x` (Dovecot `src/lib-storage/mailbox-uidvalidity.c`, 2.3.19).
//!
//! The greatest UIDVALIDITY that Dovecot has given to a folder of this mail root. The file holds it as eight lower-case hexadecimal
//! digits, no line feed, written in place. Beside it stands an *empty* file that carries the same number in its name, and is
//! renamed from the old number to the next: the rename succeeds for one process alone, which is what makes the number unique.
//! Where the main file is missing or cannot be read, the greatest companion counts; where both are missing Dovecot starts from the time.
//!
//! Valid: 1 to 8 hexadecimal digits of any case (Dovecot reads eight bytes and no more), not zero. It never falls.

use super::{Fault, Malformed};

/// What stands before the number in a companion's name.
pub const COMPANION: &[u8] = b"dovecot-uidvalidity.";

/// Reads the main file: the greatest UIDVALIDITY given.
///
/// # Errors
/// [`Fault::UidValidity`] where there is no number, or zero.
pub fn parse(file: &[u8]) -> Result<u32, Malformed> {
    hexadecimal(file.strip_suffix(b"\n").unwrap_or(file)).ok_or_else(|| Fault::UidValidity.at(1))
}

/// The main file.
#[must_use]
pub fn encode(uid_validity: u32) -> Vec<u8> {
    format!("{uid_validity:08x}").into_bytes()
}

/// The number in a companion's file name; `None` for any other name.
#[must_use]
pub fn parse_companion(name: &[u8]) -> Option<u32> {
    name.strip_prefix(COMPANION).and_then(hexadecimal)
}

/// The companion's file name.
#[must_use]
pub fn companion(uid_validity: u32) -> Vec<u8> {
    [COMPANION, &encode(uid_validity)].concat()
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u32, |sum, &digit| {
            Some(sum << 4 | char::from(digit).to_digit(16)?)
        })
        .filter(|&value| value != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_carry_the_number() {
        assert_eq!(parse(b"6b04a9bd"), Ok(0x6b04_a9bd));
        assert_eq!(encode(0x6b04_a9bd), b"6b04a9bd");
        assert_eq!(encode(5), b"00000005");
        assert_eq!(companion(5), b"dovecot-uidvalidity.00000005");
        assert_eq!(
            parse_companion(b"dovecot-uidvalidity.FFffFFff"),
            Some(u32::MAX)
        );
        for name in [
            &b"dovecot-uidvalidity"[..],
            b"dovecot-uidvalidity.",
            b"dovecot-uidvalidity.0",
            b"dovecot-uidvalidity.123456789",
            b"x",
        ] {
            assert_eq!(parse_companion(name), None);
        }
        for file in [
            &b""[..],
            b"\n",
            b"0",
            b"00000000",
            b"123456789",
            b"12 4",
            b"+1",
        ] {
            assert_eq!(parse(file), Err(Fault::UidValidity.at(1)));
        }
    }
}
