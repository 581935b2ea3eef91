//! Names of commits: git's revisions, and dates.

use gix::date::Zoned;

use super::hash::from_gix;
use super::{HistoryError, Repo};
use crate::maildir::Oid;

/// See [`Repo::resolve`].
pub(super) fn resolve(repo: &Repo, rev: &str) -> Result<Oid, HistoryError> {
    let unknown = |reason: String| HistoryError::Revision {
        rev: rev.to_owned(),
        reason,
    };
    if rev.starts_with('-') {
        return Err(unknown("a revision does not start with a dash".to_owned()));
    }
    let git = repo.git();
    let reason = match git.rev_parse_single(format!("{rev}^{{commit}}").as_str()) {
        Ok(id) => return Ok(from_gix(id.detach())),
        Err(error) => format!("{error}"),
    };
    let Some(until) = parse_date(rev) else {
        return Err(unknown(reason));
    };
    let reader = repo.reader();
    let mut next = repo.head()?;
    while let Some(oid) = next {
        let commit = reader.commit(oid)?;
        if commit.time <= until {
            return Ok(oid);
        }
        next = commit.parents.first().copied();
    }
    Err(unknown("the history begins later".to_owned()))
}

/// Seconds since the epoch. `YYYY-MM-DD[( |T)HH:MM[:SS]]` is local time, a date alone the end of that day; else what git takes for a
/// date.
fn parse_date(text: &str) -> Option<i64> {
    if let Some(time) = parse_local(text) {
        return Some(time);
    }
    gix::date::parse(text, Some(Zoned::now()))
        .ok()
        .map(|time| time.seconds)
}

fn parse_local(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once([' ', 'T']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers::<3>(date, '-')?;
    let [hour, minute, second] = match time {
        None => [23, 59, 59],
        Some(time) => numbers::<3>(time, ':').or_else(|| {
            let [hour, minute] = numbers::<2>(time, ':')?;
            Some([hour, minute, 0])
        })?,
    };
    let small = |number: i16| i8::try_from(number).ok();
    let zoned = Zoned::now()
        .with()
        .year(year)
        .month(small(month)?)
        .day(small(day)?)
        .hour(small(hour)?)
        .minute(small(minute)?)
        .second(small(second)?)
        .subsec_nanosecond(0)
        .build();
    Some(zoned.ok()?.timestamp().as_second())
}

fn numbers<const N: usize>(text: &str, by: char) -> Option<[i16; N]> {
    let parts: Vec<i16> = text
        .split(by)
        .map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse().ok()).flatten()
        })
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_local_and_a_day_ends_at_midnight() {
        let noon = parse_date("2026-11-01 12:00").unwrap();
        assert_eq!(parse_date("2026-11-01T12:00:30"), Some(noon + 30));
        assert_eq!(
            parse_date("2026-11-01"),
            Some(noon + 11 * 3600 + 59 * 60 + 59)
        );
        assert_eq!(parse_date("2026-11-01 12:00:00 +0000"), Some(1_793_534_400));
        assert_eq!(parse_date("no date"), None);
        assert_eq!(parse_date("2026-13-01"), None);
    }
}
