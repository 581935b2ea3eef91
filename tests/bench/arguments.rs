//! What a bench is asked to do.

/// Arguments of every bench: `--rounds N`, `--without PLACE`, and names (or parts of names) of works to do.
pub struct Arguments {
    /// Rounds to run; `None`: as many as the bench thinks right.
    pub rounds: Option<usize>,
    /// Places to leave out.
    without: Vec<String>,
    /// Parts of names of works to do; empty means all.
    wanted: Vec<String>,
}

impl Arguments {
    /// From the command line, without the program's name.
    ///
    /// # Errors
    /// A flag without its value, or a number that is none.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, Box<dyn std::error::Error>> {
        let mut words = words;
        let mut arguments = Self {
            rounds: None,
            without: Vec::new(),
            wanted: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--rounds" => {
                    arguments.rounds =
                        Some(words.next().ok_or("--rounds needs a number")?.parse()?);
                }
                "--without" => {
                    let place = words.next().ok_or("--without needs a place")?;
                    arguments.without.push(place);
                }
                // What cargo itself passes.
                "--bench" => {}
                _ => arguments.wanted.push(word),
            }
        }
        Ok(arguments)
    }

    /// Whether a work is to be done.
    pub fn wants(&self, work: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| work.contains(part.as_str()))
    }

    /// Whether a place takes part.
    pub fn has(&self, place: &str) -> bool {
        !self.without.iter().any(|other| other == place)
    }
}
