//! Reading what servers take for JSON.
//!
//! An answer that came is paid for, and isn't lost over a detail beside it: servers written in
//! Python send NaN and Infinity, servers that cut texts by UTF-16 units send halves of surrogate
//! pairs, and RFC 8259 allows numbers that no double holds. serde_json refuses all of these.

use serde::Deserialize;

use super::response::Fault;

/// What a text takes as values at most, in units of 32 bytes. Of a long one it's what [`weight`] says;
/// of a short one it's counted much faster, and may be more, for what strings hold counts too.
pub fn weight_at_most(text: &[u8]) -> usize {
    const FEW: usize = 2048;
    let count = |byte| memchr::memchr_iter(byte, text).count();
    let most = 1 + count(b',') + count(b'[') + 20 * count(b'{');
    if most <= FEW { most } else { weight(text) }
}

/// What a text takes as values, about, in units of 32 bytes: one for each value, and twenty for
/// each object, whose members stand in a node of their own.
pub fn weight(text: &[u8]) -> usize {
    let (mut weight, mut in_string, mut escaped) = (1usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' if !in_string => weight += 1,
            b'{' if !in_string => weight += 20,
            _ => {}
        }
    }
    weight
}

/// Refuses an answer before it takes more memory than the process has: a failed allocation would end
/// the host. Of what is to be read now it needs the length and the weight, and the weight of what
/// was read before.
///
/// The memory is asked for and given back, so another thread may take it first. But where a limit is
/// set for the process, a large answer is what meets it.
pub fn check_room(length: usize, weight: usize, before: usize) -> Result<(), Fault> {
    /// A hostile text takes a hundred times its length as values.
    const MAX_WEIGHT: usize = 4_000_000;
    /// The body, mended, unescaped, parsed, its text, the reply: not all at once, but some are copied
    /// as they grow.
    const COPIES: usize = 8;
    /// A list is copied as it grows, too.
    const UNIT: usize = 3 * 32;
    /// Where this isn't left, nothing else works either. To ask for it each time makes malloc tidy
    /// up each time.
    const LITTLE: usize = 256 * 1024;
    if before.saturating_add(weight) > MAX_WEIGHT {
        return Err(Fault::invalid(
            "ResponseTooLarge",
            "the answer holds too many values to be kept in memory",
        ));
    }
    let need = length * COPIES + weight * UNIT;
    if need <= LITTLE {
        return Ok(());
    }
    let mut room: Vec<u8> = Vec::new();
    let reserved = room.try_reserve_exact(need);
    // Memory that is visibly unused is never asked for.
    std::hint::black_box(&mut room);
    reserved.map_err(|_| no_memory())
}

/// The fault of an answer that there is no memory for.
pub fn no_memory() -> Fault {
    Fault::invalid(
        "ResponseTooLarge",
        "the process has no memory for an answer of this length",
    )
}

/// Parses JSON; if it isn't, parses it again, from `room`, with null in place of numbers that can't
/// be held, and U+FFFD in place of surrogates that stand alone. The error is the first one's.
pub fn parse<'t, V: Deserialize<'t>>(
    text: &'t [u8],
    room: &'t mut Vec<u8>,
) -> Result<V, serde_json::Error> {
    serde_json::from_slice(text).or_else(|error| {
        *room = mended(text);
        serde_json::from_slice(room).map_err(|_| error)
    })
}

fn mended(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let end = match byte {
            b'"' => {
                at = copy_string(text, at, &mut out);
                continue;
            }
            b'-' | b'0'..=b'9' | b'N' | b'I' => end_of_word(text, at),
            _ => at + 1,
        };
        let word = &text[at..end];
        let number = std::str::from_utf8(word)
            .ok()
            .and_then(|word| word.parse::<f64>().ok());
        let is_held = end == at + 1 || number.is_none_or(f64::is_finite);
        out.extend_from_slice(if is_held { word } else { b"null" });
        at = end;
    }
    out
}

fn end_of_word(text: &[u8], start: usize) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    start
        + text[start..]
            .iter()
            .take_while(|byte| is_part(byte))
            .count()
}

/// Copies the string that starts at `at`, and returns where it ends.
fn copy_string(text: &[u8], mut at: usize, out: &mut Vec<u8>) -> usize {
    out.push(b'"');
    at += 1;
    while let Some(&byte) = text.get(at) {
        let length = match (byte, unit(text, at)) {
            (_, Some(0xd800..=0xdbff)) => match unit(text, at + 6) {
                Some(0xdc00..=0xdfff) => 12,
                _ => 0,
            },
            (_, Some(0xdc00..=0xdfff)) => 0,
            (_, Some(_)) => 6,
            (b'\\', None) => 2,
            _ => 1,
        };
        if length == 0 {
            out.extend_from_slice(br"\ufffd");
            at += 6;
            continue;
        }
        let end = (at + length).min(text.len());
        out.extend_from_slice(&text[at..end]);
        at = end;
        if byte == b'"' {
            break;
        }
    }
    at
}

/// The code unit of a `\uXXXX` at `at`.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix(br"\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_servers_take_for_json_is_read() {
        for (text, value) in [
            (
                r#"{"a":NaN,"b":[-Infinity,Infinity,1]}"#,
                json!({"a": null, "b": [null, null, 1]}),
            ),
            (r#"[1e999,-1e999,1.5,-0]"#, json!([null, null, 1.5, -0.0])),
            (
                r#"["\ud83d","\ude00","\ud83d\ude00","\ud83dx"]"#,
                json!(["\u{fffd}", "\u{fffd}", "😀", "\u{fffd}x"]),
            ),
            (r#"["\ud83d\ud83d\ude00"]"#, json!(["\u{fffd}😀"])),
            (
                r#"["NaN \" Infinity \\",NaN]"#,
                json!(["NaN \" Infinity \\", null]),
            ),
            ("[\"h\u{e9} \\u00e9\",NaN]", json!(["h\u{e9} \u{e9}", null])),
        ] {
            let read = parse(text.as_bytes(), &mut Vec::new()).ok();
            assert_eq!(read, Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_stays_none() {
        for text in [
            "",
            "{",
            "nan",
            "NaNs",
            "[1,]",
            "{\"a\":\"\\ud83d}",
            "--1",
            "\"\\",
            "\"\\u12",
            "N",
        ] {
            let read = parse::<Value>(text.as_bytes(), &mut Vec::new());
            assert!(read.is_err(), "{text}");
        }
    }

    #[test]
    fn json_that_is_read_anyway_is_never_changed() {
        let text = "{\"a\":[1,-2.5e3,true,null,\"N\\\"aN \\\\\\ud83d\\ude00 h\u{e9}\"],\"I\":{}}";
        assert_eq!(mended(text.as_bytes()), text.as_bytes());
    }
}
