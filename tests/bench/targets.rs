//! What mailbraid is to reach, each with what it reached.

use std::fmt::Write as _;

use super::places::MAILBRAID;
use super::report::Report;

/// On which side of its bound a figure is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A ratio of rates: the more the better.
    AtLeast,
    /// A time, a size or a ratio of times: the less the better.
    AtMost,
}

/// A line of the table.
struct Target {
    work: String,
    reference: String,
    bound: (Bound, f64),
    unit: &'static str,
    reached: Option<f64>,
    /// The same under other conditions, where that is measured too.
    beside: Option<f64>,
}

impl Target {
    fn holds(&self) -> Option<bool> {
        let (side, bound) = self.bound;
        self.reached.map(|reached| match side {
            Bound::AtLeast => reached >= bound,
            Bound::AtMost => reached <= bound,
        })
    }
}

/// The table.
#[derive(Default)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// A line with a figure of its own; `None` where it was not measured.
    pub fn add(
        &mut self,
        work: &str,
        reference: &str,
        bound: (Bound, f64),
        unit: &'static str,
        reached: Option<f64>,
    ) {
        self.0.push(Target {
            work: work.to_owned(),
            reference: reference.to_owned(),
            bound,
            unit,
            reached,
            beside: None,
        });
    }

    /// Mailbraid's rate as a ratio to a reference's, of one report, and of another that is printed beside it.
    pub fn ratio(
        &mut self,
        work: &str,
        reference: &str,
        least: f64,
        report: &Report,
        beside: Option<&Report>,
    ) {
        self.add(
            work,
            reference,
            (Bound::AtLeast, least),
            "×",
            report.ratio(work, MAILBRAID, reference),
        );
        if let Some(target) = self.0.last_mut() {
            target.beside = beside.and_then(|report| report.ratio(work, MAILBRAID, reference));
        }
    }

    /// As text, a line each.
    pub fn text(&self) -> String {
        let mut out = format!(
            "{:<52}{:<28}{:>12}{:>12}{:>12}\n",
            "work", "reference", "wanted", "reached", ""
        );
        for target in &self.0 {
            let side = match target.bound.0 {
                Bound::AtLeast => "≥",
                Bound::AtMost => "≤",
            };
            let figure = |value: f64| format!("{value:.2} {}", target.unit);
            let _ = write!(
                out,
                "{:<52}{:<28}{:>12}{:>12}",
                target.work,
                target.reference,
                format!("{side} {}", figure(target.bound.1)),
                target.reached.map_or_else(|| "-".to_owned(), figure),
            );
            let verdict = match target.holds() {
                Some(true) => "holds",
                Some(false) => "short",
                None => "not run",
            };
            let _ = write!(out, "{verdict:>12}");
            if let Some(beside) = target.beside {
                let _ = write!(out, "   ({beside:.2} with the index files on the mount)");
            }
            out.push('\n');
        }
        out
    }

    /// As JSON, an object each.
    pub fn json(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|target| {
                serde_json::json!({
                    "work": target.work,
                    "reference": target.reference,
                    "bound": match target.bound.0 { Bound::AtLeast => "at least", Bound::AtMost => "at most" },
                    "wanted": target.bound.1,
                    "unit": target.unit,
                    "reached": target.reached,
                    "beside": target.beside,
                    "holds": target.holds(),
                })
            })
            .collect()
    }
}
