//! Content codings (RFC 9110, section 8.4): gzip, by any of its names.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use http::HeaderMap;

/// Takes the coding off a body, as it comes.
pub struct Decoder {
    /// What is left of the codings, the last one first.
    layers: Vec<Layer>,
}

enum Layer {
    /// Nothing came yet that tells whether the body is what it says.
    Undecided(Vec<u8>),
    /// It isn't.
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

/// More layers are no server's, but an attack.
const MAX_LAYERS: usize = 3;
/// Decoded at a time: what it may become is a thousand times as much.
pub const STEP: usize = 1024;

impl Decoder {
    /// For a response with these headers. Codings that aren't known leave the body as it is.
    pub fn of(headers: &HeaderMap) -> Decoder {
        let mut layers = Vec::new();
        let values = headers.get_all("content-encoding").iter();
        for value in values.filter_map(|value| value.to_str().ok()) {
            for coding in value.split(',') {
                match coding.trim().to_ascii_lowercase().as_str() {
                    "gzip" | "x-gzip" => layers.push(Layer::Undecided(Vec::new())),
                    "identity" | "" => {}
                    _ => return Decoder { layers: Vec::new() },
                }
            }
        }
        layers.reverse();
        layers.truncate(MAX_LAYERS);
        Decoder { layers }
    }

    /// Whether the body is as it came.
    pub fn is_plain(&self) -> bool {
        self.layers.is_empty()
    }

    /// Takes the next bytes, and hands out what they decode to until `each` doesn't want more.
    /// The error is one of a body that isn't what it began as.
    pub fn push(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, io::Error> {
        push(&mut self.layers, bytes, each)
    }

    /// After the last bytes: hands out what is left. The error is one of a body that breaks off.
    pub fn end(&mut self, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, io::Error> {
        let (mut left, mut goes_on) = (self.layers.as_mut_slice(), true);
        while let Some((layer, rest)) = left.split_first_mut() {
            match layer {
                Layer::Undecided(kept) if !kept.is_empty() => {
                    let kept = std::mem::take(kept);
                    *layer = Layer::Plain;
                    goes_on = goes_on && push(rest, &kept, each)?;
                }
                Layer::Undecided(_) | Layer::Plain => {}
                Layer::Gzip(decoder) => {
                    decoder.try_finish()?;
                    let out = std::mem::take(decoder.get_mut());
                    goes_on = goes_on && push(rest, &out, each)?;
                }
            }
            left = rest;
        }
        Ok(goes_on)
    }
}

fn push(
    layers: &mut [Layer],
    bytes: &[u8],
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<bool, io::Error> {
    const MAGIC: [u8; 2] = [0x1f, 0x8b];
    let Some((layer, rest)) = layers.split_first_mut() else {
        return Ok(bytes.is_empty() || each(bytes));
    };
    match layer {
        Layer::Plain => push(rest, bytes, each),
        Layer::Undecided(kept) => {
            kept.extend_from_slice(bytes);
            if kept.len() < MAGIC.len() {
                return Ok(true);
            }
            let kept = std::mem::take(kept);
            *layer = match kept.starts_with(&MAGIC) {
                true => Layer::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
                false => Layer::Plain,
            };
            push(layers, &kept, each)
        }
        Layer::Gzip(decoder) => {
            for step in bytes.chunks(STEP) {
                decoder.write_all(step)?;
                // What is decoded must come out now: a stream's next piece may be minutes away.
                decoder.flush()?;
                let out = std::mem::take(decoder.get_mut());
                let goes_on = push(rest, &out, each)?;
                let mut out = out;
                out.clear();
                *decoder.get_mut() = out;
                if !goes_on {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(label: &str, body: &[u8], size: usize) -> io::Result<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", label.parse().unwrap());
        let (mut decoder, mut out) = (Decoder::of(&headers), Vec::new());
        let mut each = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            true
        };
        for piece in body.chunks(size) {
            decoder.push(piece, &mut each)?;
        }
        decoder.end(&mut each)?;
        Ok(out)
    }

    #[test]
    fn gzip_is_known_by_all_its_names_and_as_often_as_it_was_applied() {
        let text = "hello world ".repeat(1000).into_bytes();
        for size in [1, 7, 5000] {
            for label in ["gzip", "GZIP", "x-gzip", "gzip, identity", "identity,Gzip"] {
                let found = decoded(label, &gzip(&text), size).unwrap();
                assert_eq!(found, text, "{label} {size}");
            }
            assert_eq!(
                decoded("gzip, gzip", &gzip(&gzip(&text)), size).unwrap(),
                text
            );
        }
    }

    #[test]
    fn what_isn_t_gzip_is_left_as_it_is() {
        for (label, body) in [
            ("gzip", "{}"),
            ("gzip, gzip", "{}"),
            ("br", "x"),
            ("gzip", "{"),
        ] {
            assert_eq!(
                decoded(label, body.as_bytes(), 1).unwrap(),
                body.as_bytes(),
                "{label}"
            );
        }
        assert_eq!(decoded("gzip", b"", 1).unwrap(), b"");
    }

    #[test]
    fn gzip_that_breaks_off_is_an_error() {
        let whole = gzip(&b"hello".repeat(100));
        for cut in [3, 12, whole.len() - 1] {
            assert!(decoded("gzip", &whole[..cut], 4).is_err(), "{cut}");
        }
    }
}
