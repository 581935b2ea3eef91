//! Flags and keywords of one message as a set, and its three-way merge.
//!
//! Per element, against the base: set or cleared on either side wins. An element has two values, so two sides that both changed it agree: there is
//! no conflict. Without a base nothing was cleared, so the merge is the union.
//!
//! Keywords are elements by *name*: the letters `a`–`z` mean different things in different folders and on different nodes
//! ([`super::keywords`]). Everything else after `:2,` is an element by its byte, known to us or not.

use std::collections::BTreeSet;

/// The flags and keywords of one message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// A bit per byte value; never one of `a`–`z`.
    letters: [u64; 4],
    /// Names of keywords.
    keywords: BTreeSet<Vec<u8>>,
}

impl Marks {
    /// Reads the letters after `:2,`; `name` says what a keyword letter (`a`–`z`) means.
    #[must_use]
    pub fn parse(letters: &[u8], mut name: impl FnMut(u8) -> Vec<u8>) -> Self {
        let mut marks = Self::default();
        for &letter in letters {
            if letter.is_ascii_lowercase() {
                marks.keywords.insert(name(letter));
            } else {
                marks.letters[usize::from(letter / 64)] |= 1 << (letter % 64);
            }
        }
        marks
    }

    /// Whether a flag that is no keyword is set.
    #[must_use]
    pub fn has(&self, letter: u8) -> bool {
        self.letters[usize::from(letter / 64)] & (1 << (letter % 64)) != 0
    }

    /// Names of the keywords that are set, ascending.
    pub fn keywords(&self) -> impl Iterator<Item = &[u8]> {
        self.keywords.iter().map(Vec::as_slice)
    }

    /// The letters as they are written after `:2,`: ascending, each once. A keyword for which `letter` knows none is left out.
    #[must_use]
    pub fn write(&self, mut letter: impl FnMut(&[u8]) -> Option<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, &bits) in self.letters.iter().enumerate() {
            let mut left = bits;
            while left != 0 {
                out.push(at as u8 * 64 + left.trailing_zeros() as u8);
                left &= left - 1;
            }
        }
        out.extend(self.keywords.iter().filter_map(|name| letter(name)));
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The merge of two sides against their base. `merge(base, x, base)` is `x`, and the order of the sides does not matter.
    #[must_use]
    pub fn merge(base: Option<&Self>, left: &Self, right: &Self) -> Self {
        let none = Self::default();
        let base = base.unwrap_or(&none);
        let mut letters = [0; 4];
        for (at, merged) in letters.iter_mut().enumerate() {
            let (base, left, right) = (base.letters[at], left.letters[at], right.letters[at]);
            *merged = (left & right) | ((left | right) & !base);
        }
        let keywords = left
            .keywords
            .union(&right.keywords)
            .filter(|&name| {
                let both = left.keywords.contains(name) && right.keywords.contains(name);
                both || !base.keywords.contains(name)
            })
            .cloned()
            .collect();
        Self { letters, keywords }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(letters: &str) -> Marks {
        Marks::parse(letters.as_bytes(), |letter| vec![b'$', letter])
    }

    fn merged(base: &str, left: &str, right: &str) -> String {
        let merged = Marks::merge(Some(&marks(base)), &marks(left), &marks(right));
        String::from_utf8(merged.write(|name| name.get(1).copied())).unwrap()
    }

    #[test]
    fn set_or_cleared_on_either_side_wins() {
        // Every combination of one element, for a flag and for a keyword.
        for element in ["S", "k"] {
            for bits in 0..8 {
                let at = |bit: i32| {
                    if bits & (1 << bit) != 0 { element } else { "" }
                };
                let (base, left, right) = (at(0), at(1), at(2));
                let expected = if left == base { right } else { left };
                assert_eq!(
                    merged(base, left, right),
                    expected,
                    "{base:?} {left:?} {right:?}"
                );
            }
        }
        assert_eq!(merged("FSk", "FRk", "FSTkm"), "FRTkm");
    }

    #[test]
    fn without_a_base_nothing_was_cleared() {
        let both = Marks::merge(None, &marks("Sa"), &marks("Fb"));
        assert_eq!(both.write(|name| name.get(1).copied()), b"FSab");
    }

    #[test]
    fn any_byte_is_a_flag() {
        let marks = Marks::parse(b"\xff!S", |_| Vec::new());
        assert_eq!(marks.write(|_| None), b"!S\xff");
        assert!(marks.has(0xff) && !marks.has(b'F'));
    }
}
