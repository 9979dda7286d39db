//! A message's content: its text, and the parts that it came in.

use super::tree::{Members, Merger, Node};
use super::value::{Unread, Value};
use crate::json::quote;

/// A message's content.
#[derive(Debug, Default)]
pub struct Content {
    text: String,
    /// What it consists of, where that isn't text alone.
    parts: Vec<Part>,
    /// Whether it is a text, though it may be empty.
    is_text: bool,
}

#[derive(Debug)]
enum Part {
    /// The text up to there, from where the part before it ends, and what stands beside it.
    Text {
        end: usize,
        more: Members,
    },
    Other(Node),
}

impl Content {
    /// Adds a content, or a piece of one.
    pub fn add(&mut self, merger: &mut Merger<'_>, content: &Value<'_>) -> Result<(), Unread> {
        match content {
            Value::Null => {}
            Value::Text(text) => self.add_text(text),
            Value::List(parts) => {
                for part in parts {
                    self.add_part(merger, part)?;
                }
            }
            other => self.add_part(merger, other)?,
        }
        Ok(())
    }

    /// Adds a text.
    pub fn add_text(&mut self, text: &str) {
        self.is_text = true;
        self.text.push_str(text);
        if !self.parts.is_empty() && !text.is_empty() {
            self.text_part(Members::default());
        }
    }

    /// A part of the text up to its end; plain text goes on a part of plain text.
    fn text_part(&mut self, more: Members) {
        let now = self.text.len();
        match self.parts.last_mut() {
            Some(Part::Text { end, more: known }) if known.is_empty() && more.is_empty() => {
                *end = now
            }
            _ => self.parts.push(Part::Text { end: now, more }),
        }
    }

    fn add_part(&mut self, merger: &mut Merger<'_>, part: &Value<'_>) -> Result<(), Unread> {
        merger.pass()?;
        if self.parts.is_empty() && !self.text.is_empty() {
            self.text_part(Members::default());
        }
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        let text = part.get("text").and_then(Value::as_str);
        match text.filter(|_| kind.ends_with("text")) {
            None => self.parts.push(Part::Other(merger.copy(part)?)),
            Some(text) => {
                self.text.push_str(text);
                let mut more = Members::default();
                for (key, value) in part.members() {
                    let is_usual = key == "text" || (key == "type" && kind == "text");
                    if !is_usual {
                        *more.place(key) = merger.copy(value)?;
                    }
                }
                self.text_part(more);
            }
        }
        Ok(())
    }

    /// All of its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.parts.is_empty()
    }

    /// Appends it as JSON: as a text if it is nothing else, and as its parts otherwise.
    pub fn write(&self, out: &mut Vec<u8>) {
        let is_plain = |part: &Part| matches!(part, Part::Text { more, .. } if more.is_empty());
        match self.parts.as_slice() {
            [] if !self.is_text => out.extend_from_slice(b"null"),
            [] => quote(&self.text, out),
            [only] if is_plain(only) => quote(&self.text, out),
            parts => {
                let mut start = 0;
                out.push(b'[');
                for (number, part) in parts.iter().enumerate() {
                    if number > 0 {
                        out.push(b',');
                    }
                    match part {
                        Part::Other(node) => node.write(out),
                        Part::Text { end, more } => {
                            out.push(b'{');
                            if more.get("type").is_none() {
                                out.extend_from_slice(br#""type":"text""#);
                            }
                            more.write(out);
                            out.extend_from_slice(br#","text":"#);
                            quote(self.text.get(start..*end).unwrap_or_default(), out);
                            out.push(b'}');
                            start = *end;
                        }
                    }
                }
                out.push(b']');
            }
        }
    }
}
