//! Days that are over, compressed.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::directory::Temporary;
use super::disk::{File, How, Part};
use super::maintain::{Left, Run};
use crate::format::name::DayName;

impl Run<'_> {
    /// Puts a compressed file in the place of a plain one.
    pub(super) fn compress(&self, day: DayName) -> Result<(), Left> {
        self.check_cancelled()?;
        self.check_needed(day)?;
        let plain = self.directory().open_day(day, How::Read)?;
        let compressed = day.compressed();
        if self.directory().has(compressed)? {
            // A run was killed before it removed the plain file, or somebody else put it there.
            let there = self.directory().open_day(compressed, How::Read)?;
            return self.replace(day, &plain, &there, None);
        }
        let made = self.directory().temporary()?;
        let mut to = GzEncoder::new(Sink(&made.file, 0), Compression::default());
        self.read(Part::from(&plain, 0)?, |piece| to.write_all(piece))?;
        to.try_finish()?;
        self.replace(day, &plain, &made.file, Some(&made))
    }

    /// Puts a compressed file in the place of the plain one, if it holds the same.
    fn replace(
        &self,
        day: DayName,
        plain: &File,
        compressed: &File,
        made: Option<&Temporary<'_>>,
    ) -> Result<(), Left> {
        let directory = self.directory();
        let to = day.compressed().file_name();
        compressed.sync_all()?;
        let holds = self
            .digest(MultiGzDecoder::new(Part::from(compressed, 0)?))
            .map_err(|left| match left {
                Left::Failed(error) => Left::Failed(io::Error::other(format!("{to}: {error}"))),
                left => left,
            })?;
        let _lock = self.lock()?;
        let same = self.digest(Part::from(plain, 0)?)? == holds;
        self.check_needed(day)?;
        if !directory.still_names(day, plain) {
            return Err(Left::Needed("was moved or deleted meanwhile".into()));
        }
        match made {
            Some(_) if !same => return Err(Left::Needed("was changed meanwhile".into())),
            Some(made) => {
                self.check_sealed(day, plain)?;
                directory.publish(made, day.compressed())?;
            }
            // An empty one was made by a process that saw the compressed one a moment too late.
            None if same || plain.length()? == 0 => {}
            None => {
                return Err(Left::Needed(format!(
                    "{to} is there and holds something else; move one of them away"
                )));
            }
        }
        directory.sync()?;
        Ok(directory.remove(day)?)
    }

    fn digest(&self, from: impl Read) -> Result<[u8; 32], Left> {
        let mut digest = Sha256::new();
        self.read(from, |piece| {
            digest.update(piece);
            Ok(())
        })?;
        Ok(digest.finalize().into())
    }
}

/// Writes to a new file.
struct Sink<'f>(&'f File, u64);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all_at(bytes, self.1)?;
        self.1 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
