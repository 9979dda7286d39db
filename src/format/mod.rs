//! What stands on disk, as bytes: names, lines, records, the tree. No file is opened here.
//!
//! There is a module for each section of FORMAT.md.

pub mod checkpoint;
pub mod entry;
pub mod merkle;
pub mod name;
pub mod note;
pub mod record;
pub mod tiles;
