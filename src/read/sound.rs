//! Whether a line is JSON, told while it streams by: nothing of it is held, however long it is.

/// Deeper nesting is taken for none of JSON: no reader of a log could follow it.
const DEEPEST: usize = 1 << 16;

/// What a line that isn't blank is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON in UTF-8 (RFC 8259).
    Json,
    /// JSON but for `NaN` and the infinities, which Python and others write and read.
    Python,
    /// Anything else.
    Other,
}

impl Form {
    /// Of a whole text.
    pub fn of(text: &[u8]) -> Form {
        let mut checker = Checker::default();
        checker.push(text);
        checker.end()
    }
}

/// Where in a number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value must follow.
    Value,
    /// A value, or the end of the array that was just opened.
    ValueOrEnd,
    /// A key, or the end of the object that was just opened.
    KeyOrEnd,
    Key,
    Colon,
    /// Behind a value.
    After,
    Text,
    Escape,
    /// So many hexadecimal digits are to come.
    Hex(u8),
    /// So many bytes of a character are to come, the next one within these bounds.
    Character(u8, u8, u8),
    Number(Number),
    /// The rest of a word.
    Word(&'static [u8]),
    Wrong,
}

/// A reading of JSON under way.
#[derive(Debug)]
pub struct Checker {
    state: State,
    /// A bit for each level that is open: whether it is an object.
    levels: Vec<u64>,
    depth: usize,
    /// The text that is read is a key.
    in_key: bool,
    python: bool,
}

impl Default for Checker {
    fn default() -> Checker {
        Checker {
            state: State::Value,
            levels: Vec::new(),
            depth: 0,
            in_key: false,
            python: false,
        }
    }
}

impl Checker {
    /// Reads on.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Wrong {
            if self.state == State::Text {
                // Most of what there is: nothing to decide until one of these comes.
                let plain =
                    |byte: &u8| !(0x20..0x80).contains(byte) || matches!(byte, b'"' | b'\\');
                match bytes[at..].iter().position(plain) {
                    Some(skipped) => at += skipped,
                    None => return,
                }
            }
            if self.step(bytes[at]) {
                at += 1;
            }
        }
    }

    /// What it was.
    pub fn end(&self) -> Form {
        use Number::{Digits, Fraction, Power, Zero};
        let whole = matches!(
            self.state,
            State::After | State::Number(Zero | Digits | Fraction | Power)
        );
        match (whole && self.depth == 0, self.python) {
            (true, false) => Form::Json,
            (true, true) => Form::Python,
            (false, _) => Form::Other,
        }
    }

    /// Takes a byte; false if it ended a number, and is to be looked at again.
    fn step(&mut self, byte: u8) -> bool {
        let white = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.state = match (self.state, byte) {
            (
                State::Value
                | State::ValueOrEnd
                | State::KeyOrEnd
                | State::Key
                | State::Colon
                | State::After,
                _,
            ) if white => self.state,
            (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => self.close(),
            (State::Value | State::ValueOrEnd, _) => self.value(byte),
            (State::KeyOrEnd | State::Key, b'"') => {
                self.in_key = true;
                State::Text
            }
            (State::Colon, b':') => State::Value,
            (State::After, b',') if self.depth > 0 => match self.in_object() {
                true => State::Key,
                false => State::Value,
            },
            (State::After, b']') if self.depth > 0 && !self.in_object() => self.close(),
            (State::After, b'}') if self.depth > 0 && self.in_object() => self.close(),
            (State::Text, _) => self.text(byte),
            (State::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => State::Text,
            (State::Escape, b'u') => State::Hex(4),
            (State::Hex(left), _) if byte.is_ascii_hexdigit() => match left {
                1 => State::Text,
                left => State::Hex(left - 1),
            },
            (State::Character(left, low, high), _) if (low..=high).contains(&byte) => match left {
                1 => State::Text,
                left => State::Character(left - 1, 0x80, 0xbf),
            },
            (State::Number(part), _) => match self.number(part, byte) {
                Some(state) => state,
                None => {
                    self.state = State::After;
                    return false;
                }
            },
            (State::Word([next, rest @ ..]), _) if *next == byte => match rest {
                [] => State::After,
                rest => State::Word(rest),
            },
            _ => State::Wrong,
        };
        true
    }

    fn value(&mut self, byte: u8) -> State {
        match byte {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => {
                self.in_key = false;
                State::Text
            }
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Digits),
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            b'N' => self.word_of_python(b"aN"),
            b'I' => self.word_of_python(b"nfinity"),
            _ => State::Wrong,
        }
    }

    fn word_of_python(&mut self, rest: &'static [u8]) -> State {
        self.python = true;
        State::Word(rest)
    }

    fn text(&self, byte: u8) -> State {
        match byte {
            b'"' if self.in_key => State::Colon,
            b'"' => State::After,
            b'\\' => State::Escape,
            0x20..0x80 => State::Text,
            // The table of well-formed UTF-8 (Unicode, chapter 3).
            0xc2..=0xdf => State::Character(1, 0x80, 0xbf),
            0xe0 => State::Character(2, 0xa0, 0xbf),
            0xed => State::Character(2, 0x80, 0x9f),
            0xe1..=0xef => State::Character(2, 0x80, 0xbf),
            0xf0 => State::Character(3, 0x90, 0xbf),
            0xf1..=0xf3 => State::Character(3, 0x80, 0xbf),
            0xf4 => State::Character(3, 0x80, 0x8f),
            _ => State::Wrong,
        }
    }

    /// Goes on in a number; `None` if the number is over.
    fn number(&mut self, part: Number, byte: u8) -> Option<State> {
        use Number::{Digits, Exponent, Fraction, Minus, Point, Power, Sign, Zero};
        let next = match (part, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') => Digits,
            (Minus, b'I') => return Some(self.word_of_python(b"nfinity")),
            (Digits, b'0'..=b'9') => Digits,
            (Zero | Digits, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Digits | Fraction, b'e' | b'E') => Exponent,
            (Exponent, b'+' | b'-') => Sign,
            (Exponent | Sign | Power, b'0'..=b'9') => Power,
            (Zero | Digits | Fraction | Power, _) => return None,
            _ => return Some(State::Wrong),
        };
        Some(State::Number(next))
    }

    fn in_object(&self) -> bool {
        let last = self.depth.saturating_sub(1);
        let bits = self.levels.get(last / 64).copied().unwrap_or(0);
        bits >> (last % 64) & 1 == 1
    }

    fn open(&mut self, object: bool) -> State {
        if self.depth == DEEPEST {
            return State::Wrong;
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.levels.len() {
            self.levels.push(0);
        }
        if let Some(bits) = self.levels.get_mut(word) {
            *bits = *bits & !(1 << bit) | u64::from(object) << bit;
        }
        self.depth += 1;
        match object {
            true => State::KeyOrEnd,
            false => State::ValueOrEnd,
        }
    }

    fn close(&mut self) -> State {
        self.depth -= 1;
        State::After
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;
    use crate::fuzzing::fuzz;

    const PIECES: [&[u8]; 24] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\\u00",
        b"0",
        b"-",
        b".",
        b"e+",
        b"1E5",
        b"true",
        b"null",
        b"false",
        b" ",
        b"\t",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"\xf4\x90",
        b"\x1f",
        b"\"a\":",
    ];

    /// As serde_json has it, whatever the pieces that it comes in.
    #[test]
    fn it_agrees_with_a_parser_on_every_text() {
        let seeds = [
            r#"{"a":[1,-0.5e-7,{"b":"\u00e9\n"},[],{}],"c":null,"d":true,"é":"𝄞"}"#,
            "[[[[0]]]]",
            "-12",
            "\"x\"",
        ];
        fuzz(&seeds, &PIECES, |random, input| {
            let mut checker = Checker::default();
            let mut rest = input;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + random.below(rest.len()));
                checker.push(piece);
                rest = after;
            }
            let parsed = std::str::from_utf8(input)
                .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
            assert_eq!(checker.end() == Form::Json, parsed);
            assert_eq!(Form::of(input), checker.end());
        });
    }

    #[test]
    fn python_s_numbers_are_told_from_json_and_from_nonsense() {
        for text in ["NaN", r#"{"a":NaN}"#, "[Infinity,-Infinity]"] {
            assert_eq!(Form::of(text.as_bytes()), Form::Python, "{text}");
        }
        for text in [
            "Na",
            r#"{"a":NaNs}"#,
            "[+Infinity]",
            "-NaN",
            r#"{NaN:1}"#,
            "",
        ] {
            assert_eq!(Form::of(text.as_bytes()), Form::Other, "{text}");
        }
    }

    #[test]
    fn nesting_takes_a_bit_for_each_level_and_has_a_bound() {
        let nested = |depth| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert_eq!(Form::of(&nested(DEEPEST)), Form::Json);
        assert_eq!(Form::of(&nested(DEEPEST + 1)), Form::Other);
        let mut checker = Checker::default();
        checker.push(&b"[".repeat(DEEPEST));
        assert!(checker.levels.len() == DEEPEST / 64);
    }
}
