//! The shared library and the static one: what the package above exports, and nothing else.

pub use code::ffi;
