//! The shared library: what the package above exports, and nothing else.

pub use code::ffi;
