//! JSON as servers send it, read once and by borrowing.
//!
//! An answer that came is paid for, and isn't lost over a detail beside it: servers written in
//! Python send NaN and Infinity, servers that cut texts by UTF-16 units send halves of surrogate
//! pairs, and RFC 8259 allows numbers that no double holds. The former two become null, and U+FFFD.

use std::borrow::Cow;
use std::fmt;

use super::limits::Cut;
use crate::json::end_of_run;

/// A JSON value.
#[derive(Debug, PartialEq)]
pub enum Value<'t> {
    Null,
    True,
    False,
    /// As it was written.
    Number(&'t str),
    Text(Cow<'t, str>),
    List(Vec<Value<'t>>),
    /// In the order of the text; of members with the same key the last one counts.
    Object(Vec<(Cow<'t, str>, Value<'t>)>),
}

/// Why a text isn't read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    NotUtf8,
    /// What is wrong, and where.
    NotJson(&'static str, usize),
    /// It would take more memory as values than an answer is given.
    TooMuch,
    /// The call ended meanwhile.
    Cut(Cut),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::NotUtf8 => f.write_str("the answer isn't UTF-8"),
            Unread::NotJson(what, at) => write!(f, "the answer isn't JSON: {what} at byte {at}"),
            Unread::TooMuch => f.write_str("the answer holds too many values to be kept in memory"),
            Unread::Cut(cut) => cut.fmt(f),
        }
    }
}

/// Says whether the call is to end, and why: asked now and then within long work.
pub type Watch<'w> = &'w dyn Fn() -> Option<Cut>;

impl<'t> Value<'t> {
    /// Reads a text that is one value.
    pub fn read(text: &'t [u8], watch: Watch<'_>) -> Result<Value<'t>, Unread> {
        let text = std::str::from_utf8(text).map_err(|_| Unread::NotUtf8)?;
        let mut reader = Reader {
            text,
            at: 0,
            depth: 0,
            weight: 0,
            next_look: LOOK_BYTES,
            next_weight: LOOK_WEIGHT,
            watch,
            unread: None,
        };
        reader.skip_white();
        let value = reader.value();
        reader.skip_white();
        if value.is_some() && reader.peek().is_some() {
            reader.wrong::<()>("text after the value");
        }
        match (value, reader.unread) {
            (Some(value), None) => Ok(value),
            (_, unread) => Err(unread.unwrap_or(Unread::NotJson("no value", 0))),
        }
    }

    /// A member of an object.
    pub fn get(&self, key: &str) -> Option<&Value<'t>> {
        let found = self.members().iter().rfind(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }

    /// The members of an object; of anything else none.
    pub fn members(&self) -> &[(Cow<'t, str>, Value<'t>)] {
        match self {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    /// The items of a list; of anything else none.
    pub fn items(&self) -> &[Value<'t>] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number that a double holds.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(number) => number.parse().ok(),
            _ => None,
        }
    }

    /// A whole number from 0, written as one.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Number(number) => number.parse().ok(),
            _ => None,
        }
    }

    /// Whether it says nothing: null, "", false, 0, [], {}.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Null | Value::False => true,
            Value::True => false,
            Value::Number(_) => self.as_f64() == Some(0.0),
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
        }
    }
}

/// Nesting deeper than this is refused: it bounds the stack.
const MAX_DEPTH: usize = 128;
/// A value counts 1, one that holds others counts more: each has an allocation of its own.
const CONTAINER: usize = 6;
/// A hostile text takes a hundred times its length as values.
const MAX_WEIGHT: usize = 5_000_000;
/// What a weight of 1 takes, a list being copied as it grows.
const UNIT: usize = 64;
/// The weight of a text that holds little.
const FEW: usize = 64;
/// How often long work looks up.
const LOOK_BYTES: usize = 64 * 1024;
const LOOK_WEIGHT: usize = 16 * 1024;

/// Whether the process has that much memory: a failed allocation would end the host.
///
/// It is asked for and given back, so another thread may take it first. But where a limit is set
/// for the process, a large answer is what meets it.
pub fn has_room(bytes: usize) -> bool {
    /// Where this isn't left, nothing else works either. To ask for it each time makes malloc tidy
    /// up each time.
    const LITTLE: usize = 256 * 1024;
    if bytes <= LITTLE {
        return true;
    }
    let mut room: Vec<u8> = Vec::new();
    let reserved = room.try_reserve_exact(bytes).is_ok();
    // Memory that is visibly unused is never asked for.
    std::hint::black_box(&mut room);
    reserved
}

struct Reader<'t, 'w> {
    text: &'t str,
    at: usize,
    depth: usize,
    weight: usize,
    next_look: usize,
    next_weight: usize,
    watch: Watch<'w>,
    /// Why no more is read. Here and not in each result, for a value that is returned alone is
    /// moved twice as fast.
    unread: Option<Unread>,
}

impl<'t> Reader<'t, '_> {
    #[cold]
    fn wrong<T>(&mut self, what: &'static str) -> Option<T> {
        self.unread = Some(Unread::NotJson(what, self.at));
        None
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Whether the call goes on, and there is memory for more.
    #[cold]
    fn look(&mut self) -> Option<()> {
        self.unread = if self.weight > MAX_WEIGHT || !has_room(self.weight * UNIT) {
            Some(Unread::TooMuch)
        } else {
            (self.watch)().map(Unread::Cut)
        };
        self.next_look = self.at + LOOK_BYTES;
        self.next_weight = self.weight + LOOK_WEIGHT;
        self.unread.is_none().then_some(())
    }

    fn value(&mut self) -> Option<Value<'t>> {
        self.weight += 1;
        if self.at >= self.next_look || self.weight >= self.next_weight {
            self.look()?;
        }
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'{') => self.deeper(Reader::object),
            Some(b'[') => self.deeper(Reader::list),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
            None => self.wrong("the text ends"),
        }
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Option<Value<'t>>) -> Option<Value<'t>> {
        if self.depth == MAX_DEPTH {
            return self.wrong("nesting that is too deep");
        }
        self.depth += 1;
        self.weight += CONTAINER;
        self.at += 1;
        self.skip_white();
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Option<Value<'t>> {
        let mut members = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Some(Value::Object(members));
        }
        // As many as a chunk and its choice have. Deeper, and in a text of many, most are small.
        match self.depth {
            1 => members.reserve(12),
            3 if self.weight < FEW => members.reserve(8),
            _ => {}
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.wrong("no key in double quotes");
            }
            let key = self.string()?;
            self.skip_white();
            if self.peek() != Some(b':') {
                return self.wrong("no colon");
            }
            self.at += 1;
            self.skip_white();
            members.push((key, self.value()?));
            if !self.goes_on(b'}')? {
                return Some(Value::Object(members));
            }
        }
    }

    fn list(&mut self) -> Option<Value<'t>> {
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            if !self.goes_on(b']')? {
                return Some(Value::List(items));
            }
        }
    }

    /// After an item: a comma, or the end.
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        self.skip_white();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_white();
                Some(true)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Some(false)
            }
            _ => self.wrong("no comma, and no end"),
        }
    }

    fn word(&mut self) -> Option<Value<'t>> {
        let (word, value) = match self.peek() {
            Some(b'n') => ("null", Value::Null),
            Some(b't') => ("true", Value::True),
            Some(b'f') => ("false", Value::False),
            Some(b'N') => ("NaN", Value::Null),
            _ => ("Infinity", Value::Null),
        };
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Some(value);
        }
        self.wrong("no value")
    }

    fn number(&mut self) -> Option<Value<'t>> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.text[self.at..].starts_with("Infinity") {
                return self.word();
            }
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut may_be_huge = self.at - start > 300;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            may_be_huge = true;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = &self.text[start..self.at];
        if may_be_huge && !number.parse::<f64>().is_ok_and(f64::is_finite) {
            return Some(Value::Null);
        }
        Some(Value::Number(number))
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        match self.at - start {
            0 => self.wrong("no digit"),
            _ => Some(()),
        }
    }

    /// A string, from its opening quote on.
    fn string(&mut self) -> Option<Cow<'t, str>> {
        self.at += 1;
        let start = self.at;
        self.skip_plain();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Some(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        let mut text = String::from(&self.text[start..self.at]);
        loop {
            if self.at >= self.next_look {
                self.look()?;
            }
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return self.wrong("a control character in a string"),
                None => return self.wrong("a string without its end"),
            }
            let run = self.at;
            self.skip_plain();
            text.push_str(&self.text[run..self.at]);
        }
        self.at += 1;
        Some(Cow::Owned(text))
    }

    /// To what isn't plain in a string.
    fn skip_plain(&mut self) {
        self.at = end_of_run(self.text.as_bytes(), self.at);
    }

    fn escape(&mut self) -> Option<char> {
        let character = match self.text.as_bytes().get(self.at + 1) {
            Some(b'u') => return self.unicode(),
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return self.wrong("an escape that JSON doesn't have"),
        };
        self.at += 2;
        Some(character)
    }

    fn unicode(&mut self) -> Option<char> {
        let Some(first) = self.unit() else {
            return self.wrong("no four digits after \\u");
        };
        self.at += 6;
        if !(0xd800..0xdc00).contains(&first) {
            return Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        match self.unit() {
            Some(second @ 0xdc00..0xe000) => {
                self.at += 6;
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            _ => Some(char::REPLACEMENT_CHARACTER),
        }
    }

    /// The code unit of a `\uXXXX` at the current place.
    fn unit(&self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 6)?;
        let digits = digits.strip_prefix(br"\u")?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value<'_>, Unread> {
        Value::read(text.as_bytes(), &|| None)
    }

    /// The same as serde_json has it.
    fn theirs(value: &Value<'_>) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::True => true.into(),
            Value::False => false.into(),
            Value::Number(number) => serde_json::from_str(number).unwrap(),
            Value::Text(text) => (&**text).into(),
            Value::List(items) => items.iter().map(theirs).collect(),
            Value::Object(members) => {
                let member = |(key, value): &(Cow<'_, str>, _)| (key.to_string(), theirs(value));
                members.iter().map(member).collect()
            }
        }
    }

    #[test]
    fn a_value_is_what_serde_json_reads() {
        let text = r#" {"a":[null,true,-1,18446744073709551615,2.5e3,"x","h\u00e9\n\/",{}],
            "k\n":{"b":[]},"a":false,"long string without any escape":"\ud83d\ude00 é"} "#;
        let expected: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(theirs(&read(text).unwrap()), expected);
    }

    #[test]
    fn the_grammar_is_that_of_serde_json() {
        let alphabet = [
            "\"", "a", ":", ",", "1", "0", "-", ".", "e", "[", "]", "{", "}", " ", "\\", "\n",
        ];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            texts = texts
                .iter()
                .flat_map(|text| alphabet.iter().map(move |piece| format!("{text}{piece}")))
                .collect();
            for text in &texts {
                let expected = serde_json::from_str::<serde_json::Value>(text).ok();
                assert_eq!(
                    read(text).ok().map(|value| theirs(&value)),
                    expected,
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn texts_are_borrowed_unless_they_hold_an_escape() {
        for (text, borrowed) in [(r#"{"k":"v"}"#, true), (r#"{"\u006b":"\u0076"}"#, false)] {
            let value = read(text).unwrap();
            let is_borrowed = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
            let (key, value) = &value.members()[0];
            assert_eq!((&**key, value.as_str()), ("k", Some("v")));
            assert!(matches!(value, Value::Text(text) if is_borrowed(text) == borrowed));
            assert_eq!(is_borrowed(key), borrowed);
        }
    }

    #[test]
    fn what_servers_take_for_json_is_read() {
        for (text, same) in [
            ("[NaN,-Infinity,Infinity,1]", "[null,null,null,1]"),
            ("[1e999,-1e999,1.5]", "[null,null,1.5]"),
            (
                r#"["\ud83d","\ude00","\ud83dx","\ud83d\ud83d\ude00"]"#,
                "[\"\u{fffd}\",\"\u{fffd}\",\"\u{fffd}x\",\"\u{fffd}😀\"]",
            ),
        ] {
            assert_eq!(read(text), read(same), "{text}");
        }
        for text in [
            "nan",
            "NaNs",
            "-NaN",
            "\"\\u12",
            "\"\\ud83d",
            "\"\\u+123\"",
            "[1,]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_members_with_the_same_key_the_last_one_counts() {
        let value = read(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(value.get("a"), Some(&Value::Number("3")));
    }

    #[test]
    fn too_many_values_are_refused_and_a_call_that_ended_is_noticed() {
        let many = format!("[{}0]", "{},".repeat(800_000));
        assert_eq!(read(&many), Err(Unread::TooMuch));
        let few = format!("[{}0]", "0,".repeat(100_000));
        let long = format!("\"{}\"", "\\n".repeat(100_000));
        for text in [few, long] {
            let ended = Value::read(text.as_bytes(), &|| Some(Cut::Deadline));
            assert_eq!(ended, Err(Unread::Cut(Cut::Deadline)));
        }
        assert!(read(&"[".repeat(100_000)).is_err());
    }
}
