//! What stands on disk, as bytes: names, lines, records, the tree. No file is opened here.
//!
//! FORMAT.md describes it. The journal's bytes are with what alone reads and writes them (`log`).

pub mod checkpoint;
pub mod cosignature;
pub mod entry;
pub mod merkle;
pub mod name;
pub mod note;
pub mod policy;
pub mod recent;
pub mod record;
pub mod stamp;
pub mod tiles;
pub mod torn;
