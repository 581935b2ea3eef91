//! Figures of several rounds, and the table made of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rates (per second) by work and place.
#[derive(Default)]
pub struct Report {
    works: Vec<&'static str>,
    places: Vec<&'static str>,
    rates: BTreeMap<(&'static str, &'static str), Vec<f64>>,
    notes: Vec<String>,
}

impl Report {
    /// One round's rate of a work at a place. Works and places are shown in the order they first come.
    pub fn add(&mut self, work: &'static str, place: &'static str, rate: f64) {
        if !self.works.contains(&work) {
            self.works.push(work);
        }
        if !self.places.contains(&place) {
            self.places.push(place);
        }
        self.rates.entry((work, place)).or_default().push(rate);
    }

    /// A line below the table.
    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// The median rate; `None` where the work was not done there.
    pub fn median(&self, work: &str, place: &str) -> Option<f64> {
        self.rates
            .iter()
            .find(|((w, p), _)| *w == work && *p == place)
            .map(|(_, rates)| median(rates))
    }

    /// The table: rates, and the ratio of each place's rate to those of `references`.
    pub fn text(&self, references: &[&str]) -> String {
        let mut out = String::new();
        let _ = write!(out, "{:<34}", "work (per second, median)");
        for place in &self.places {
            let _ = write!(out, "{place:>12}");
        }
        for (place, reference) in self.ratio_columns(references) {
            let _ = write!(out, "{:>22}", format!("{place}/{reference}"));
        }
        out.push('\n');
        for work in &self.works {
            let _ = write!(out, "{work:<34}");
            for place in &self.places {
                match self.median(work, place) {
                    Some(rate) => {
                        let _ = write!(out, "{:>12}", readable(rate));
                    }
                    None => out.push_str("           -"),
                }
            }
            for (place, reference) in self.ratio_columns(references) {
                match self.ratio(work, place, reference) {
                    Some(ratio) => {
                        let _ = write!(out, "{ratio:>22.2}");
                    }
                    None => out.push_str("                     -"),
                }
            }
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    /// The ratio of two places' median rates.
    pub fn ratio(&self, work: &str, place: &str, reference: &str) -> Option<f64> {
        Some(self.median(work, place)? / self.median(work, reference)?)
    }

    /// The last place is the one in question; every other place that is a reference gives a column.
    fn ratio_columns<'a>(
        &'a self,
        references: &'a [&'a str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let subject = self.places.last().copied();
        references
            .iter()
            .filter_map(move |reference| Some((subject?, *reference)))
            .filter(|(subject, reference)| subject != reference && self.places.contains(reference))
    }

    /// Every round's figures, medians and notes.
    pub fn json(&self) -> serde_json::Value {
        let works: serde_json::Map<_, _> = self
            .works
            .iter()
            .map(|work| {
                let places: serde_json::Map<_, _> = self
                    .places
                    .iter()
                    .filter_map(|place| {
                        let rates = self.rates.get(&(*work, *place))?;
                        let value = serde_json::json!({"median": median(rates), "rounds": rates});
                        Some(((*place).to_owned(), value))
                    })
                    .collect();
                ((*work).to_owned(), places.into())
            })
            .collect();
        serde_json::json!({"per_second": works, "notes": self.notes})
    }
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

fn readable(rate: f64) -> String {
    match rate {
        0.0..10.0 => format!("{rate:.2}"),
        10.0..1000.0 => format!("{rate:.0}"),
        _ => format!("{:.1}k", rate / 1000.0),
    }
}
