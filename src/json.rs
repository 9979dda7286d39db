//! JSON as text: strict reading, compact copying, quoting that can't break or disguise a line.
//!
//! Metadata, parameters and options pass through here as text, so that every number reaches the
//! log and the provider with the digits the host wrote, and duplicate keys are refused instead
//! of silently dropped. The grammar is RFC 8259; beyond it, escaped lone surrogates are refused,
//! because readers of the log (DuckDB, many languages' strings) can't hold them.

pub mod layout;
pub mod pull;

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use zeroize::Zeroizing;

/// Nesting deeper than this is refused: it bounds the stack, here and in every later reader.
pub const MAX_DEPTH: usize = 64;

/// Where a text stops being the JSON that was asked for, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// Offset in bytes.
    pub at: usize,
    /// What was found or missing there.
    pub what: Cow<'static, str>,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// A member of an object: its key, and its value as compact JSON text.
pub type Member = (String, String);

/// Which numbers are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Those that a 64-bit integer or a normal double can hold, which is all that most readers of JSON have.
    Portable,
    /// All that are JSON.
    Any,
}

/// Copies a JSON object without its white space.
pub fn compact_object(text: &str, numbers: Numbers) -> Result<String, JsonError> {
    let mut out = Vec::with_capacity(text.len());
    let mut scanner = Scanner {
        text,
        at: 0,
        numbers,
    };
    scanner.skip_white();
    scanner.object(&mut out, 0, None)?;
    scanner.end()?;
    Ok(utf8(out))
}

/// The members of a JSON object, in the order they stand.
pub fn members(text: &str) -> Result<Vec<Member>, JsonError> {
    let mut found = Vec::new();
    let mut scanner = Scanner {
        text,
        at: 0,
        numbers: Numbers::Any,
    };
    scanner.skip_white();
    // It can hold a key, so it's wiped, and doesn't move: what is copied is seldom longer.
    let mut copy = Zeroizing::new(Vec::with_capacity(text.len()));
    scanner.object(&mut copy, 0, Some(&mut found))?;
    scanner.end()?;
    Ok(found)
}

/// Where the run ends that begins at a place in a string: at the first byte that is a quote, a backslash or a control
/// character, or at the end of the text.
#[inline]
pub fn end_of_run(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk) {
        match specials(u64::from_le_bytes(*eight)) {
            0 => at += 8,
            // The first one is told exactly.
            found => return at + found.trailing_zeros() as usize / 8,
        }
    }
    while let Some(byte) = text.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            break;
        }
        at += 1;
    }
    at
}

/// The top bits of those of eight bytes that are a quote, a backslash or a control character; after
/// the first of them others may be set as well.
fn specials(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = has_zero(eight ^ (0x22 * ONES));
    let backslash = has_zero(eight ^ (0x5c * ONES));
    let control = eight.wrapping_sub(0x20 * ONES) & !eight;
    (quote | backslash | control) & TOPS
}

/// Appends `text` as a JSON string, quotes included. Control characters, U+2028 and U+2029 and
/// the bidirectional controls are escaped: a viewer shows the line as it is, in one piece.
pub fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Writes a JSON object, member by member, at the end of a buffer.
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Object<'o> {
    /// Opens an object.
    pub fn begin(out: &'o mut Vec<u8>) -> Object<'o> {
        out.push(b'{');
        Object { out }
    }

    /// A member that is an array; `write` appends each item.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(T, &mut Vec<u8>),
    ) {
        let out = self.key(key);
        out.push(b'[');
        for (number, item) in items.into_iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            write(item, out);
        }
        out.push(b']');
    }

    /// A member that is an array of texts.
    pub fn texts(&mut self, key: &'static str, texts: &[String]) {
        self.list(key, texts, |text, out| quote(text, out));
    }

    /// Starts a member; its value is to be appended to what this returns. Keys are our own words
    /// and need no escape.
    #[inline]
    pub fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.out.reserve(key.len() + 4);
        // No value ends in '{', so after one the object is still empty.
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A member that is a string in which nothing can need an escape.
    #[inline]
    pub fn word(&mut self, key: &'static str, word: &str) {
        let out = self.key(key);
        out.push(b'"');
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
    }

    /// A member whose value is JSON already.
    #[inline]
    pub fn raw(&mut self, key: &'static str, json: &str) {
        self.key(key).extend_from_slice(json.as_bytes());
    }

    /// A member that is a whole number, null when there is none.
    pub fn integer(&mut self, key: &'static str, number: Option<impl itoa::Integer>) {
        let out = self.key(key);
        match number {
            Some(number) => {
                out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            None => out.extend_from_slice(b"null"),
        }
    }

    /// A member that is a string.
    pub fn text(&mut self, key: &'static str, text: &str) {
        quote(text, self.key(key));
    }

    /// A member whose value displays as JSON: a number, a boolean, a text that is JSON already.
    pub fn json(&mut self, key: &'static str, value: impl fmt::Display) {
        let out = self.key(key);
        // Writing to a Vec can't fail.
        let _ = write!(out, "{value}");
    }

    /// The same, left out when there is no value.
    pub fn json_if(&mut self, key: &'static str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.json(key, value);
        }
    }

    /// A member of the host's own, whose value is JSON.
    pub fn member(&mut self, key: &str, json: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        quote(key, self.out);
        self.out.push(b':');
        self.out.extend_from_slice(json.as_bytes());
    }

    /// A member that is an object.
    pub fn nested(&mut self, key: &'static str) -> Object<'_> {
        Object::begin(self.key(key))
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        if !SUSPECT[usize::from(bytes[at])] {
            at += 1;
            continue;
        }
        // A suspect byte is ASCII or starts a character, so `at` is on a boundary.
        let Some(character) = text[at..].chars().next() else {
            break;
        };
        if is_unsafe(character) {
            out.extend_from_slice(&bytes[copied..at]);
            push_escape(character, out);
            copied = at + character.len_utf8();
        }
        at += character.len_utf8();
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// First bytes of the characters that `is_unsafe` may name.
static SUSPECT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table[0xc2] = true; // U+0080 to U+00BF
    table[0xd8] = true; // U+0600 to U+063F
    table[0xe2] = true; // U+2000 to U+2FFF
    table
};

fn is_unsafe(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '"' | '\\'
        | '\u{7f}'..='\u{9f}'                       // DEL and the C1 controls, NEL among them
        | '\u{2028}' | '\u{2029}'                   // line ends to JavaScript and some viewers
        | '\u{61c}' | '\u{200e}' | '\u{200f}'       // bidirectional marks,
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') // embeddings and isolates
}

fn push_escape(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' => b'"',
        '\\' => b'\\',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        other => {
            let code = u32::from(other);
            let digit = |shift: u32| b"0123456789abcdef"[(code >> shift) as usize & 15];
            out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// What the scanner copied: whole runs of a `str` and ASCII, so always UTF-8.
fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into())
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    numbers: Numbers,
}

impl<'a> Scanner<'a> {
    fn error<T>(&self, what: impl Into<Cow<'static, str>>) -> Result<T, JsonError> {
        Err(JsonError {
            at: self.at,
            what: what.into(),
        })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.skip_white();
        match self.peek() {
            None => Ok(()),
            Some(_) => self.error("text after the JSON value"),
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str, out: &mut Vec<u8>) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return self.error(format!("{what} expected"));
        }
        self.at += 1;
        out.push(byte);
        Ok(())
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => self.object(out, depth, None),
            Some(b'[') => self.array(out, depth),
            Some(b'"') => self.string(out).map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(out),
            Some(_) => {
                for word in ["true", "false", "null"] {
                    if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        out.extend_from_slice(word.as_bytes());
                        return Ok(());
                    }
                }
                self.error("a JSON value expected")
            }
            None => self.error("a JSON value expected, the text ends"),
        }
    }

    /// With `found`, the members are kept apart as well.
    fn object(
        &mut self,
        out: &mut Vec<u8>,
        depth: usize,
        mut found: Option<&mut Vec<Member>>,
    ) -> Result<(), JsonError> {
        self.expect(b'{', "a JSON object", out)?;
        let depth = self.deeper(depth)?;
        let mut keys: Vec<(Cow<'a, str>, usize)> = Vec::new();
        self.skip_white();
        while self.peek() != Some(b'}') {
            if !keys.is_empty() {
                self.expect(b',', "',' or '}'", out)?;
                self.skip_white();
            }
            if self.peek() != Some(b'"') {
                return self.error("a key in double quotes expected");
            }
            let key_at = self.at;
            let key = self.string(out)?;
            self.skip_white();
            self.expect(b':', "':'", out)?;
            self.skip_white();
            let value_at = out.len();
            self.value(out, depth)?;
            if let Some(found) = found.as_deref_mut() {
                found.push((key.to_string(), utf8(out[value_at..].to_vec())));
            }
            keys.push((key, key_at));
            self.skip_white();
        }
        self.expect(b'}', "'}'", out)?;

        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            None => Ok(()),
            Some(pair) => Err(JsonError {
                at: pair[1].1,
                what: format!("duplicate key {}", show(&pair[1].0)).into(),
            }),
        }
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<(), JsonError> {
        self.expect(b'[', "'['", out)?;
        let depth = self.deeper(depth)?;
        self.skip_white();
        if self.peek() != Some(b']') {
            loop {
                self.value(out, depth)?;
                self.skip_white();
                if self.peek() == Some(b']') {
                    break;
                }
                self.expect(b',', "',' or ']'", out)?;
                self.skip_white();
            }
        }
        self.expect(b']', "']'", out)
    }

    fn deeper(&self, depth: usize) -> Result<usize, JsonError> {
        if depth == MAX_DEPTH {
            return self.error(format!("nesting deeper than {MAX_DEPTH} levels"));
        }
        Ok(depth + 1)
    }

    /// Copies a string and returns what it says.
    fn string(&mut self, out: &mut Vec<u8>) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        let mut escaped = false;
        out.push(b'"');
        self.at += 1;
        loop {
            let run = self.at;
            self.at = end_of_run(self.text.as_bytes(), run);
            escape(&self.text[run..self.at], out);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape_sequence(out)?;
                }
                Some(_) => {
                    return self.error("control character in a string (write it as \\u00XX)");
                }
                None => return self.error("string without its closing quote"),
            }
        }
        self.at += 1;
        out.push(b'"');
        let raw: &'a str = &self.text[start..self.at];
        if !escaped {
            return Ok(Cow::Borrowed(&raw[1..raw.len() - 1]));
        }
        match serde_json::from_str(raw) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => self.error("string that can't be read"),
        }
    }

    fn escape_sequence(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let start = self.at;
        match self.text.as_bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.unit()? {
                0xd800..=0xdbff => {
                    let low = self.text[self.at..].starts_with("\\u");
                    if !low || !matches!(self.unit()?, 0xdc00..=0xdfff) {
                        self.at = start;
                        return self.error("lone surrogate escape");
                    }
                }
                0xdc00..=0xdfff => {
                    self.at = start;
                    return self.error("lone surrogate escape");
                }
                _ => {}
            },
            _ => {
                return self
                    .error("unknown escape (JSON has \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX)");
            }
        }
        out.extend_from_slice(&self.text.as_bytes()[start..self.at]);
        Ok(())
    }

    /// The code unit of a `\uXXXX` at the current place.
    fn unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at + 2..self.at + 6);
        let unit = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match unit {
            Some(unit) => {
                self.at += 6;
                Ok(unit)
            }
            None => self.error("four hexadecimal digits expected after \\u"),
        }
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = &self.text[start..self.at];
        if self.numbers == Numbers::Portable && !is_portable(number) {
            self.at = start;
            return self.error(format!(
                "a number that fits neither a 64-bit integer nor a normal double ({}; write it as a \
                 string, or set \"metadata_numbers\" to \"any\")",
                show(number)
            ));
        }
        out.extend_from_slice(number.as_bytes());
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if start == self.at {
            return self.error("a digit expected");
        }
        Ok(())
    }
}

/// Whether readers of JSON can hold a number: a whole one is an integer to them, of 64 bits with or
/// without a sign, any other a double. One between 0 and the least normal double is a range error to
/// C's strtod, and so to readers that use it.
fn is_portable(number: &str) -> bool {
    if number
        .bytes()
        .any(|byte| matches!(byte, b'.' | b'e' | b'E'))
    {
        let digits = number.split(['e', 'E']).next().unwrap_or(number);
        return number.parse().is_ok_and(f64::is_normal)
            || !digits.contains(|digit| matches!(digit, '1'..='9'));
    }
    number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()
}

/// A text for an error message: quoted, and cut to a length that a person reads.
pub fn show(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut out = Vec::new();
    match text.char_indices().nth(SHOWN) {
        None => quote(text, &mut out),
        Some((end, _)) => {
            quote(&text[..end], &mut out);
            out.extend_from_slice(b"...");
        }
    }
    utf8(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_and_everything_else_stays_as_written() {
        for (text, compact) in [
            ("{}", "{}"),
            (
                " { \"a\" : [ 1 , 2.50 , -0 , 1e999 ] }\n",
                r#"{"a":[1,2.50,-0,1e999]}"#,
            ),
            (
                r#"{"n":123456789012345678901234567890,"s":"A\/\n😀 é"}"#,
                r#"{"n":123456789012345678901234567890,"s":"A\/\n😀 é"}"#,
            ),
            (
                "{\"x\":{\"y\":[true,false,null,{}]}}",
                r#"{"x":{"y":[true,false,null,{}]}}"#,
            ),
        ] {
            assert_eq!(compact_object(text, Numbers::Any).as_deref(), Ok(compact));
        }
    }

    #[test]
    fn what_is_not_a_json_object_is_refused_with_its_place() {
        for (text, at) in [
            ("", 0),
            ("null", 0),
            ("[]", 0),
            ("\u{feff}{}", 0),
            ("{} x", 3),
            (r#"{"a":1,}"#, 7),
            (r#"{"a" 1}"#, 5),
            (r#"{"a":01}"#, 6),
            (r#"{"a":1.}"#, 7),
            (r#"{"a":+1}"#, 5),
            (r#"{"a":NaN}"#, 5),
            (r#"{'a':1}"#, 1),
            ("{\"a\":\"\n\"}", 6),
            (r#"{"a":"\x"}"#, 6),
            (r#"{"a":"\ud800"}"#, 6),
            (r#"{"a":"\ud800\u0041"}"#, 6),
            (r#"{"a":"\udc00"}"#, 6),
            (r#"{"a":"\u12g4"}"#, 6),
            (r#"{"a":1,"b":2,"a":3}"#, 13),
            (r#"{"a":1,"\u0061":3}"#, 7),
            (r#"{"x":{"k":1,"k":1}}"#, 12),
        ] {
            assert_eq!(
                compact_object(text, Numbers::Any).map_err(|e| e.at),
                Err(at),
                "{text}"
            );
        }
    }

    #[test]
    fn a_portable_number_is_one_that_64_bits_or_a_double_hold() {
        for (number, portable) in [
            ("-0", true),
            ("18446744073709551615", true),
            ("18446744073709551616", false),
            ("-9223372036854775808", true),
            ("-9223372036854775809", false),
            ("1.7976931348623157e308", true),
            ("-1.8e308", false),
            ("1e400", false),
            ("1E400", false),
            ("1e-400", false),
            ("2.2250738585072014e-308", true),
            ("2.2250738585072009e-308", false),
            ("-0.00e-999", true),
            ("0e999", true),
            // Of more digits than a double has; it's rounded.
            ("12345678901234567890.10", true),
            ("0.3333333333333333333333333333333333333333", true),
        ] {
            let text = format!("{{\"a\":[{{\"b\":{number}}}]}}");
            assert_eq!(compact_object(&text, Numbers::Any), Ok(text.clone()));
            let taken = compact_object(&text, Numbers::Portable);
            match portable {
                true => assert_eq!(taken, Ok(text)),
                false => assert_eq!(taken.map_err(|e| e.at), Err(11), "{number}"),
            }
        }
        assert_eq!(
            compact_object(r#"{"a":1e400}"#, Numbers::Portable).map_err(|e| e.to_string()),
            Err(
                "a number that fits neither a 64-bit integer nor a normal double (\"1e400\"; write it \
                 as a string, or set \"metadata_numbers\" to \"any\") at byte 5"
                    .to_owned()
            )
        );
    }

    #[test]
    fn every_cut_of_an_object_is_refused() {
        let text = r#"{"a":[1,{"b":"c\u0041\n"}],"d":-1.5e+3,"e":true}"#;
        for end in 0..text.len() {
            assert!(
                compact_object(&text[..end], Numbers::Any).is_err(),
                "{}",
                &text[..end]
            );
        }
        assert!(compact_object(text, Numbers::Any).is_ok());
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_ends() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(compact_object(&nested(MAX_DEPTH - 1), Numbers::Any).is_ok());
        assert!(compact_object(&nested(MAX_DEPTH), Numbers::Any).is_err());
        assert!(compact_object(&"{\"a\":".repeat(100_000), Numbers::Any).is_err());
    }

    #[test]
    fn members_come_in_order_with_compact_values() {
        let found = members(r#" { "b" : [ 1, 2 ] , "\u0061" : "x" } "#).unwrap();
        assert_eq!(
            found,
            [
                ("b".into(), "[1,2]".into()),
                ("a".to_string(), "\"x\"".to_string())
            ]
        );
    }

    #[test]
    fn any_text_quotes_to_one_safe_line_that_reads_back() {
        for code in (0..=0x2100u32).chain([0xfeff, 0xfffd, 0x1f600]) {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            let text = format!("a{character}b{character}");
            let mut out = Vec::new();
            quote(&text, &mut out);
            let line = String::from_utf8(out).unwrap();
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
            assert!(
                !line.chars().any(|c| c != '"' && c != '\\' && is_unsafe(c)),
                "{line:?}"
            );

            // The same character, raw inside a string the host wrote.
            if code >= 0x20 && !"\"\\".contains(character) {
                let copied =
                    compact_object(&format!("{{\"k\":\"{text}\"}}"), Numbers::Any).unwrap();
                assert_eq!(copied, format!("{{\"k\":{line}}}"));
            }
        }
    }

    #[test]
    fn the_grammar_is_that_of_serde_json() {
        // Small alphabets, every text to length 6: both accept the same objects, but for the
        // duplicates that only we refuse.
        let alphabet = [
            "\"", "a", ":", ",", "1", "0", "-", ".", "e", "[", "]", " ", "\\",
        ];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            texts = texts
                .iter()
                .flat_map(|text| alphabet.iter().map(move |piece| format!("{text}{piece}")))
                .collect();
            for inner in &texts {
                for text in [format!("{{{inner}}}"), format!("{{\"k\":{inner}}}")] {
                    let theirs = serde_json::from_str::<serde_json::Value>(&text);
                    match compact_object(&text, Numbers::Any) {
                        Ok(ours) => {
                            assert_eq!(serde_json::from_str(&ours).ok(), theirs.ok(), "{text}")
                        }
                        Err(e) => assert!(
                            theirs.is_err() || e.what.starts_with("duplicate"),
                            "{text}: {e}"
                        ),
                    }
                }
            }
        }
    }
}
