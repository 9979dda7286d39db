//! JSON that is read once, member by member, for the few that somebody wants: the others are checked and passed over,
//! and of none a value is made.
//!
//! The grammar is RFC 8259, in UTF-8. `None` says that the text isn't of it, or isn't what was asked for.

use std::borrow::Cow;

use super::end_of_run;

/// Deeper nesting is taken for no JSON: what is open is a bit each.
const DEEPEST: u32 = u128::BITS;

/// A text that is read up to a value.
pub struct Pull<'t> {
    text: &'t str,
    pub(super) at: usize,
}

/// Reads a text that is one object. `take` gets the key of each member, in the order of the text, and must read its
/// value or skip it.
pub fn object<'t>(
    text: &'t [u8],
    take: impl FnMut(&str, &mut Pull<'t>) -> Option<()>,
) -> Option<()> {
    Pull::new(std::str::from_utf8(text).ok()?).whole(take)
}

/// What a string says, which is whole. `None` if it isn't one, or has half of a character that takes two escapes.
pub fn text(written: &str) -> Option<Cow<'_, str>> {
    let [b'"', .., b'"'] = written.as_bytes() else {
        return None;
    };
    let plain = &written[1..written.len() - 1];
    match plain.contains('\\') {
        false => Some(plain.into()),
        true => serde_json::from_str::<String>(written).ok().map(Cow::from),
    }
}

impl<'t> Pull<'t> {
    pub(super) fn new(text: &'t str) -> Pull<'t> {
        Pull { text, at: 0 }
    }

    /// Reads an object that is the whole text.
    pub(super) fn whole(
        mut self,
        take: impl FnMut(&str, &mut Pull<'t>) -> Option<()>,
    ) -> Option<()> {
        self.skip_white();
        self.object(take)?;
        self.skip_white();
        (self.at == self.text.len()).then_some(())
    }

    /// Passes over a text that must stand there.
    pub(super) fn literal(&mut self, literal: &str) -> Option<()> {
        let found = self.text.as_bytes()[self.at..].starts_with(literal.as_bytes());
        self.at += literal.len();
        found.then_some(())
    }

    /// Reads an object, as [`object`] does.
    pub fn object(
        &mut self,
        mut take: impl FnMut(&str, &mut Pull<'t>) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'{')?;
        self.skip_white();
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            let key = self.text()?;
            self.colon()?;
            take(&key, self)?;
            self.skip_white();
            if self.peek()? == b'}' {
                return self.expect(b'}');
            }
            self.expect(b',')?;
            self.skip_white();
        }
    }

    /// Reads a string.
    pub fn text(&mut self) -> Option<Cow<'t, str>> {
        let start = self.at;
        self.skip_text()?;
        text(&self.text[start..self.at])
    }

    /// Reads a value, whatever it is, as it is written.
    pub fn written(&mut self) -> Option<&'t str> {
        let start = self.at;
        self.skip()?;
        Some(&self.text[start..self.at])
    }

    /// Reads a number, as it is written.
    pub fn number(&mut self) -> Option<&'t str> {
        let start = self.at;
        self.skip_number()?;
        Some(&self.text[start..self.at])
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Passes over a value, whatever it is.
    pub fn skip(&mut self) -> Option<()> {
        // Which of the levels that are open are objects, the innermost in the last bit.
        let (mut objects, mut depth) = (0_u128, 0);
        loop {
            let opened = match self.peek()? {
                b'"' => self.skip_text().map(|()| None)?,
                b'-' | b'0'..=b'9' => self.skip_number().map(|()| None)?,
                b'{' => self.open(b'}')?.then_some(1),
                b'[' => self.open(b']')?.then_some(0),
                b't' => self.literal("true").map(|()| None)?,
                b'f' => self.literal("false").map(|()| None)?,
                _ => self.literal("null").map(|()| None)?,
            };
            if let Some(object) = opened {
                if depth == DEEPEST {
                    return None;
                }
                depth += 1;
                objects = objects << 1 | object;
            } else {
                // A value is over, and with it the levels that end behind it.
                loop {
                    if depth == 0 {
                        return Some(());
                    }
                    self.skip_white();
                    match (self.peek()?, objects & 1) {
                        (b',', _) => break,
                        (b'}', 1) | (b']', 0) => self.at += 1,
                        _ => return None,
                    }
                    depth -= 1;
                    objects >>= 1;
                }
                self.at += 1;
                self.skip_white();
            }
            if objects & 1 == 1 {
                self.skip_text()?;
                self.colon()?;
            }
        }
    }

    /// Steps into an object or a list; false if it ends at once, and is passed.
    fn open(&mut self, end: u8) -> Option<bool> {
        self.at += 1;
        self.skip_white();
        let empty = self.peek()? == end;
        self.at += usize::from(empty);
        Some(!empty)
    }

    fn colon(&mut self) -> Option<()> {
        self.skip_white();
        self.expect(b':')?;
        self.skip_white();
        Some(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        let found = self.peek()? == byte;
        self.at += usize::from(found);
        found.then_some(())
    }

    fn skip_white(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn skip_text(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            self.at = end_of_run(self.text.as_bytes(), self.at);
            match self.peek()? {
                b'"' => break,
                b'\\' => self.skip_escape()?,
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    fn skip_escape(&mut self) -> Option<()> {
        let escape = &self.text.as_bytes()[self.at + 1..];
        self.at += match escape.first()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' if escape.get(1..5)?.iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return None,
        };
        Some(())
    }

    fn skip_number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.skip_digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Some(())
    }

    fn skip_digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::fuzzing::fuzz;

    const ENTRY: &str = r#"{"id":"05f23880","user_id":"a\"b\\\u00e9 \ud83d\ude00","tokens":[0,-1,12],"latency_ms":1.267e-3,"error_type":null,
        "metadata":{"a":{"b":[[],{},[{"c":"d"}]]},"ok":true,"not":false},"details":{"schema":2,"cost":0.0,"text":"é€😀"} }"#;

    /// Every member read as what it is, objects one level deep; what is deeper is skipped.
    fn read(text: &[u8]) -> Option<Map<String, Value>> {
        fn value(pull: &mut Pull, depth: usize) -> Option<Value> {
            match pull.peek()? {
                b'"' => return pull.text().map(|text| text.into()),
                b'-' | b'0'..=b'9' => return serde_json::from_str(pull.number()?).ok(),
                b'{' if depth == 0 => {
                    let mut members = Map::new();
                    pull.object(|key, inner| {
                        members.insert(key.to_owned(), value(inner, 1)?);
                        Some(())
                    })?;
                    return Some(members.into());
                }
                _ => {}
            }
            // What was passed over was something whole.
            serde_json::from_str(pull.written()?).ok()
        }
        let mut members = Map::new();
        object(text, |key, pull| {
            members.insert(key.to_owned(), value(pull, 0)?);
            Some(())
        })?;
        Some(members)
    }

    /// Whether it says the same of a text as serde_json, which is a reader by others.
    fn agrees(text: &[u8]) {
        let theirs = serde_json::from_slice::<Map<String, Value>>(text).ok();
        assert_eq!(read(text), theirs, "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn a_text_and_each_of_its_beginnings_is_read_as_by_others() {
        for end in 0..=ENTRY.len() {
            agrees(&ENTRY.as_bytes()[..end]);
        }
    }

    #[test]
    fn a_text_with_any_byte_changed_is_read_as_by_others() {
        for at in 0..ENTRY.len() {
            for byte in 0..=255 {
                let mut text = ENTRY.as_bytes().to_vec();
                text[at] = byte;
                agrees(&text);
            }
        }
    }

    #[test]
    fn texts_of_any_kind_are_read_as_by_others() {
        let pieces: [&[u8]; 14] = [
            b"\"", b"\\", b"\\u", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"null",
            b"-0.0e+1", b" \t\r\n", b"\xff",
        ];
        fuzz(
            &[ENTRY, "{}", r#"{"a":[1,2,{"b":[]}]}"#],
            &pieces,
            |_, text| agrees(text),
        );
    }

    #[test]
    fn what_is_skipped_is_checked() {
        let skip = |text: &str| object(text.as_bytes(), |_, value| value.skip());
        for good in [
            r#"{"a":[[[{"b":[{}]}],0],"c"]}"#,
            r#"{"a":{"b":1,"c":{"d":[]}},"e":-1.5E-9}"#,
        ] {
            assert_eq!(skip(good), Some(()), "{good}");
            for at in 0..good.len() {
                assert_eq!(skip(&good[..at]), None, "{}", &good[..at]);
            }
        }
        for bad in [
            r#"{"a":[1}}"#,
            r#"{"a":{"b"]}"#,
            r#"{"a":[,]}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":{"b":1,}}"#,
            r#"{"a":{1:2}}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":+1}"#,
            r#"{"a":1e}"#,
            r#"{"a":nul}"#,
            r#"{"a":True}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            r#"{"a":1}{"#,
            r#"{"a":1},"#,
            r#"[{"a":1}]"#,
            r#"{"a" 1}"#,
            r#"{"a"}"#,
            r#"{"a":1 "b":2}"#,
        ] {
            assert_eq!(skip(bad), None, "{bad}");
        }
    }

    #[test]
    fn nesting_is_followed_as_deep_as_is_said() {
        let nested =
            |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        let skip = |text: &str| object(text.as_bytes(), |_, value| value.skip());
        // The innermost holds nothing, so it isn't followed.
        let deepest = DEEPEST as usize + 1;
        assert_eq!(skip(&nested(deepest)), Some(()));
        assert_eq!(skip(&nested(deepest + 1)), None);
    }
}
