//! Committed records, in order, for whoever carries them to the store.

use std::sync::Arc;

use super::Record;
use super::line::{self, Line};
use super::log::{Lines, Shelf, Unreadable, name};

/// Bytes read at once; a longer line takes as many as it needs.
const READ_BYTES: usize = 256 << 10;

/// Reads on from a record.
pub(crate) struct Reader {
    shelf: Arc<Shelf>,
    /// The next record.
    next: u64,
    /// In which segment it is looked for, by its first record, and from which byte on.
    place: Option<(u64, u64)>,
}

impl Reader {
    /// From the record `next` on.
    pub(super) fn new(shelf: Arc<Shelf>, next: u64) -> Self {
        Reader { shelf, next, place: None }
    }

    /// The record that comes next.
    #[cfg(test)]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Goes to the oldest record that is there, if the next one is not there any more: so many are missing.
    pub(crate) fn skip_missing(&mut self) -> u64 {
        let missing = self.shelf.oldest().map_or(0, |oldest| oldest.saturating_sub(self.next));
        self.next += missing;
        missing
    }

    /// The next records, at most `records_max`; none if all that are committed were read.
    pub(crate) fn read(&mut self, records_max: usize) -> Result<Vec<Record>, Unreadable> {
        let mut records = Vec::new();
        let committed = self.shelf.committed();
        let mut bytes_max = READ_BYTES;
        while records.len() < records_max && self.next <= committed {
            let Some((first, behind)) = self.shelf.find(self.next) else { break };
            let offset = match self.place {
                Some((segment, offset)) if segment == first => offset,
                _ => 0,
            };
            let name = name(first);
            let bytes = self.shelf.disk.read(&name, offset, bytes_max)?;
            let mut lines = Lines { bytes: &bytes, at: 0 };
            if offset == 0 {
                // The checkpoint.
                lines.next();
            }
            // A segment's records end where the next one's begin, whatever else stands there.
            let end = behind.map_or(committed, |behind| committed.min(behind - 1));
            let last = self.take(&mut lines, end, records_max, &mut records, &name, offset)?;
            if lines.at == 0 || (last.is_none() && self.next <= end) {
                if (bytes.len()) < bytes_max {
                    return Err(Unreadable::Damaged { name, at: offset + lines.at as u64 });
                }
                bytes_max *= 2;
            } else {
                bytes_max = READ_BYTES;
            }
            self.place = Some((first, offset + lines.at as u64));
        }
        Ok(records)
    }

    /// Takes records up to `end`; gives the last.
    fn take(
        &mut self,
        lines: &mut Lines<'_>,
        end: u64,
        records_max: usize,
        records: &mut Vec<Record>,
        name: &str,
        offset: u64,
    ) -> Result<Option<u64>, Unreadable> {
        let mut last = None;
        while self.next <= end && records.len() < records_max {
            let Some((at, line)) = lines.next() else { break };
            match line::decode::<Record>(line) {
                Line::Whole(record) if record.index == self.next => {
                    self.next += 1;
                    last = Some(record.index);
                    records.push(record);
                }
                Line::Whole(record) if record.index < self.next => last = Some(record.index),
                Line::Foreign => return Err(Unreadable::Foreign { name: name.to_owned() }),
                Line::Whole(..) | Line::Bad => {
                    return Err(Unreadable::Damaged { name: name.to_owned(), at: offset + at as u64 });
                }
            }
        }
        Ok(last)
    }
}
