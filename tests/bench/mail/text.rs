//! Prose: words of a made-up language whose frequencies fall as in a real one (Zipf), so that it compresses as prose does.

use super::rng::Rng;

/// Words in the language.
const WORDS: usize = 6000;

/// The language: the same words for every corpus.
pub struct Language {
    words: Vec<String>,
}

impl Language {
    /// Makes the words, frequent ones short.
    pub fn new() -> Self {
        const ONSETS: [&str; 20] = [
            "b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr",
            "ch", "th", "pl",
        ];
        const VOWELS: [&str; 9] = ["a", "e", "i", "o", "u", "ea", "ou", "ie", "ai"];
        const CODAS: [&str; 12] = ["", "", "", "n", "r", "s", "t", "l", "nd", "ng", "st", "ck"];
        let mut rng = Rng::new(0x6d61_696c);
        let words = (0..WORDS)
            .map(|rank| {
                let syllables = match rank {
                    0..60 => 1,
                    60..900 => rng.between(1, 3),
                    _ => rng.between(2, 5),
                };
                (0..syllables)
                    .map(|_| [*rng.pick(&ONSETS), *rng.pick(&VOWELS), *rng.pick(&CODAS)].concat())
                    .collect()
            })
            .collect();
        Self { words }
    }

    /// One word; rank r comes about 1/r as often as the first.
    pub fn word(&self, rng: &mut Rng) -> &str {
        let rank = (rng.unit() * (WORDS as f64).ln()).exp() as usize;
        &self.words[rank.min(WORDS - 1)]
    }

    /// Appends sentences, wrapped at `width`, until `out` has grown by at least `size` bytes. Ends with a newline.
    pub fn prose(&self, rng: &mut Rng, out: &mut Vec<u8>, size: usize, width: usize) {
        let end = out.len() + size;
        let mut column = 0;
        let mut left_in_sentence = 0;
        while out.len() < end {
            let word = self.word(rng);
            if column + word.len() + 2 > width {
                out.push(b'\n');
                column = 0;
            } else if column > 0 {
                out.push(b' ');
                column += 1;
            }
            if left_in_sentence == 0 {
                left_in_sentence = rng.between(5, 19);
                out.push(word.as_bytes()[0].to_ascii_uppercase());
                out.extend_from_slice(&word.as_bytes()[1..]);
            } else {
                out.extend_from_slice(word.as_bytes());
            }
            column += word.len();
            left_in_sentence -= 1;
            if left_in_sentence == 0 {
                out.push(b'.');
                column += 1;
                if rng.chance(0.15) {
                    out.extend_from_slice(b"\n\n");
                    column = 0;
                }
            }
        }
        out.push(b'\n');
    }

    /// A subject line of three to eight words.
    pub fn subject(&self, rng: &mut Rng) -> String {
        let words: Vec<&str> = (0..rng.between(3, 9)).map(|_| self.word(rng)).collect();
        words.join(" ")
    }
}
