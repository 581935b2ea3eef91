//! Opening: what the journal holds after any end of the last run. The cases J1 to J16 are in the [module's header](super).
//!
//! Nothing is changed before the whole journal has been judged sound. Then, in this order: segments that were passed over are removed,
//! from the lower end; the rest of the last segment is zeroed;
//! segments behind it that hold anything of this life are removed (from the upper end, so that no gap is left), and what was found is
//! synced. A crash between these steps leads to the same judgement again: a bad record stays bad, and no step makes evidence.

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::BadBody;
use super::durable::Waiters;
use super::error::{JournalError, io_error};
use super::record::{ALIGN, FRAME, Frame};
use super::segment::{self, FORMAT, HEADER, Segment};
use super::writer::{Held, Options, State};

/// What was found when the journal was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Records held.
    pub records: u64,
    /// The first of them.
    pub first: Option<u64>,
    /// The last sequence number in use: that of the last record, or of the history where that is ahead.
    pub last: u64,
    /// Up to here records are known to have been released; `None` where nothing tells. The head knows better.
    pub released: Option<u64>,
    /// The torn tail, if there was one.
    pub cut: Option<Cut>,
}

/// Records that were never reported durable and did not all reach the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// From here on it holds nothing now.
    pub offset: u64,
    /// What was there.
    pub why: String,
}

/// A frame that belongs to this life of its segment.
struct Seen {
    offset: u64,
    frame: Frame,
    whole: bool,
}

/// Where the records end.
struct Walk {
    held: Vec<Held>,
    /// The segment that the next valid record was looked for in last, and where. It is not among those held if it has no record.
    at: (usize, u64),
    /// The last record, or the history's last where there is none.
    prev: u64,
    released: Option<u64>,
}

pub(super) fn recover(dir: &Path, options: &Options) -> Result<(State, Recovery), JournalError> {
    let segments = open_all(dir)?;
    let history = options.first_seq - 1;
    let mut start = (0, HEADER as u64);
    let mut walk = walk(&segments, start, history)?;
    // J12: go on behind what is bad, as long as the history has all that is lost by it.
    let lost = loop {
        let behind = search_from(&segments, walk.at, walk.prev)?;
        let resume = behind
            .iter()
            .find(|(_, seen)| seen.whole && seen.frame.prev <= history);
        match resume {
            Some((index, seen)) => {
                log::warn!(
                    "journal: records before {} are unreadable; the history has them",
                    seen.frame.seq
                );
                start = (*index, seen.offset);
                walk = self::walk(&segments, start, history)?;
            }
            None => break behind,
        }
    };
    judge(&segments, &walk, &lost, history)?;

    // From here on the journal is sound, and changed.
    for passed in &segments[..start.0] {
        // Else a gap would be left above them when the next ones are recycled.
        segment::remove(dir, passed)?;
    }
    let cut = cut_tail(&segments, &walk, &lost)?;
    let kept = remove_behind(dir, &segments, &walk, &lost)?;
    match fs::remove_file(dir.join(segment::PREPARING)) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("remove", &dir.join(segment::PREPARING))(error)),
    }
    for held in &walk.held {
        held.segment
            .file
            .sync_data()
            .map_err(held.segment.io("sync"))?;
    }
    if let Some(cut) = &cut {
        log::warn!(
            "journal: cut a torn tail in {} at byte {}: {}",
            cut.file.display(),
            cut.offset,
            cut.why
        );
    }

    let next_free = next_segment(&walk);
    let prepared: VecDeque<Arc<Segment>> = segments[next_free..kept].iter().cloned().collect();
    let last = walk.prev.max(history);
    let recovery = Recovery {
        records: walk.held.iter().map(|held| held.offsets.len() as u64).sum(),
        first: walk.held.first().map(|held| held.first),
        last,
        released: walk.released,
        cut,
    };
    let state = State {
        sealed: last > walk.prev,
        prev: walk.prev,
        found: (last, walk.prev),
        held: walk.held.into(),
        prepared,
        last,
        durable: last,
        released: history,
        syncing: false,
        waiters: Waiters::default(),
        handover: false,
        poisoned: None,
        frugal: None,
        removing: false,
        blocked: None,
        woken: false,
        stop: false,
        count_appended: 0,
        count_syncs: 0,
    };
    Ok((state, recovery))
}

/// Opens the sequence. Its names must have no gap.
fn open_all(dir: &Path) -> Result<Vec<Arc<Segment>>, JournalError> {
    match fs::create_dir(dir) {
        Ok(()) => {
            if let Some(parent) = dir.parent() {
                let parent = if parent.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    parent
                };
                segment::sync_dir(parent)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error("create", dir)(error)),
    }
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        numbers.extend(segment::parse_name(&entry.file_name()));
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(JournalError::Damaged {
                file: dir.join(segment::name(pair[0] + 1)),
                offset: 0,
                why: "it is missing, and later segments are there".to_owned(),
                remedy: "Restore it; or copy the journal directory away, remove the segments after the gap, and mount again \
                         without their records"
                    .to_owned(),
            });
        }
    }
    numbers
        .into_iter()
        .map(|number| Segment::open(dir, number).map(Arc::new))
        .collect()
}

/// Reads valid records from a place on.
fn walk(segments: &[Arc<Segment>], from: (usize, u64), history: u64) -> Result<Walk, JournalError> {
    let mut walk = Walk {
        held: Vec::new(),
        at: from,
        prev: history,
        released: segments.iter().map(|segment| segment.header.released).max(),
    };
    for (index, segment) in segments.iter().enumerate().skip(from.0) {
        let bytes = segment.read(0, segment.header.bytes as usize)?;
        let mut offset = if index == from.0 {
            from.1
        } else {
            HEADER as u64
        };
        let mut held: Option<Held> = None;
        while let Some((frame, body)) = frame_at(segment, &bytes, offset) {
            let first_of_all = walk.held.is_empty() && held.is_none();
            if !first_of_all && frame.prev != walk.prev {
                break;
            }
            if first_of_all && frame.prev > history {
                return Err(damaged(
                    segment,
                    offset,
                    format!(
                        "the first record held is {}, and the history ends with {history}",
                        frame.seq
                    ),
                ));
            }
            let Some(body) = body else { break };
            if let Err(bad) = frame.record(body) {
                return Err(refuse(segment, offset, bad));
            }
            walk.released = walk.released.max(Some(frame.released));
            let held = held.get_or_insert_with(|| Held::new(Arc::clone(segment), frame.seq));
            // A jump of the numbers begins a segment, so within one they follow without gap.
            if frame.seq != held.last() + 1 {
                break;
            }
            held.offsets.push(offset as u32);
            offset += frame.size() as u64;
            held.end = offset;
            walk.prev = frame.seq;
        }
        let ended = held.is_none();
        if !ended || index == from.0 {
            walk.at = (index, offset);
        }
        walk.held.extend(held);
        if ended {
            break;
        }
    }
    Ok(walk)
}

fn frame_at<'a>(
    segment: &Segment,
    bytes: &'a [u8],
    offset: u64,
) -> Option<(Frame, Option<&'a [u8]>)> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    let frame = Frame::decode(rest, segment.place(offset))?;
    Some((frame, frame.body(rest)))
}

/// Every frame of this life at or behind a place that is numbered above `after`, in order.
fn search_from(
    segments: &[Arc<Segment>],
    from: (usize, u64),
    after: u64,
) -> Result<Vec<(usize, Seen)>, JournalError> {
    let mut found = Vec::new();
    for (index, segment) in segments.iter().enumerate().skip(from.0) {
        let bytes = segment.read(0, segment.header.bytes as usize)?;
        let start = if index == from.0 {
            from.1
        } else {
            HEADER as u64
        };
        let mut offset = start;
        while let Some(rest) = bytes
            .get(offset as usize..)
            .filter(|rest| rest.len() >= FRAME)
        {
            let empty = rest[..8] == [0; 8];
            if !empty
                && let Some((frame, body)) = frame_at(segment, &bytes, offset)
                && frame.seq > after
            {
                let whole = body.is_some();
                found.push((
                    index,
                    Seen {
                        offset,
                        frame,
                        whole,
                    },
                ));
            }
            offset += ALIGN as u64;
        }
    }
    Ok(found)
}

/// Torn tail or damage: `Ok` if nothing that was reported durable is missing.
fn judge(
    segments: &[Arc<Segment>],
    walk: &Walk,
    lost: &[(usize, Seen)],
    history: u64,
) -> Result<(), JournalError> {
    let known = walk.prev.max(history);
    let by_frame = lost.iter().map(|(_, seen)| {
        let by = format!("record {} behind it", seen.frame.seq);
        (seen.frame.durable, by)
    });
    let by_header = segments.iter().map(|segment| {
        let by = format!("segment {}", segment::name(segment.header.number));
        (segment.header.durable, by)
    });
    let Some((durable, by)) = by_frame
        .chain(by_header)
        .find(|(durable, _)| *durable > known)
    else {
        return Ok(());
    };
    Err(damaged(
        &segments[walk.at.0],
        walk.at.1,
        format!(
            "record {} is unreadable, and {by} was written when {durable} was already durable",
            known + 1
        ),
    ))
}

fn damaged(segment: &Segment, offset: u64, why: String) -> JournalError {
    JournalError::Damaged {
        file: segment.path.clone(),
        offset,
        why,
        remedy: format!(
            "Acknowledged mail is missing here: copy the journal directory away and check the disk; then, to go on without the records \
             from there on, run `truncate -s {offset}` on that file and remove the segments after it"
        ),
    }
}

fn refuse(segment: &Segment, offset: u64, bad: BadBody) -> JournalError {
    match bad {
        BadBody::Version(version) => JournalError::NewerFormat {
            file: segment.path.clone(),
            version: version.into(),
            known: FORMAT,
        },
        BadBody::Malformed => damaged(
            segment,
            offset,
            "a record has the right checksum and is no operation".to_owned(),
        ),
    }
}

/// Index of the first segment without a record.
fn next_segment(walk: &Walk) -> usize {
    if walk.held.is_empty() {
        walk.at.0
    } else {
        walk.at.0 + 1
    }
}

/// Makes zeros of all that stands behind the last record in its segment.
fn cut_tail(
    segments: &[Arc<Segment>],
    walk: &Walk,
    lost: &[(usize, Seen)],
) -> Result<Option<Cut>, JournalError> {
    const CHUNK: usize = 64 * 1024;
    let Some(segment) = segments.get(walk.at.0) else {
        return Ok(None);
    };
    let (index, end) = walk.at;
    let bytes = segment.header.bytes;
    let behind = segment.read(end, (bytes - end) as usize)?;
    let cut = lost_why(segment, walk, lost, &behind).map(|why| Cut {
        file: segment.path.clone(),
        offset: end,
        why,
    });
    let full = behind.len() as u64 == bytes - end;
    if walk.held.is_empty() || (full && behind.iter().all(|&byte| byte == 0)) {
        return Ok(cut);
    }
    debug_assert!(lost.iter().all(|(at, _)| *at >= index));
    // Synced with all else that is held.
    segment::zero(&segment.file, end, bytes, CHUNK).map_err(segment.io("write"))?;
    Ok(cut)
}

/// What was lost, in words; `None` where only an earlier life of the segment is behind the last record.
fn lost_why(
    segment: &Segment,
    walk: &Walk,
    lost: &[(usize, Seen)],
    behind: &[u8],
) -> Option<String> {
    let next = walk.prev + 1;
    if let Some((_, seen)) = lost.first() {
        let what = if seen.frame.prev != walk.prev {
            "is missing, and later ones are there"
        } else {
            "is torn"
        };
        return Some(format!(
            "record {next} {what}; {} not yet durable",
            match lost.len() {
                1 => "it was".to_owned(),
                count => format!("{count} records were"),
            }
        ));
    }
    let torn = if segment.header.recycled {
        behind
            .first_chunk::<FRAME>()
            .map(Frame::peek)
            .is_some_and(|frame| frame.prev == walk.prev && frame.seq == next)
    } else {
        behind.iter().any(|&byte| byte != 0)
    };
    torn.then(|| format!("record {next} is torn; it was not yet durable"))
}

/// Removes the segments behind the last record that hold anything of this life; returns how many segments are left.
fn remove_behind(
    dir: &Path,
    segments: &[Arc<Segment>],
    walk: &Walk,
    lost: &[(usize, Seen)],
) -> Result<usize, JournalError> {
    let mut keep = segments.len();
    for (index, segment) in segments.iter().enumerate().skip(next_segment(walk)) {
        let bytes = segment.read(HEADER as u64, segment.header.bytes as usize - HEADER)?;
        let short = bytes.len() + HEADER < segment.header.bytes as usize;
        let used = lost.iter().any(|(at, _)| *at == index);
        let dirty = !segment.header.recycled && bytes.iter().any(|&byte| byte != 0);
        if short || used || dirty {
            keep = index;
            break;
        }
    }
    for segment in segments[keep..].iter().rev() {
        segment::remove(dir, segment)?;
    }
    Ok(keep)
}
