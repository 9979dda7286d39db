//! What the pieces of a stream add up to: JSON values that are owned, and grow.

use std::borrow::Cow;
use std::collections::HashMap;

use super::value::{Unread, Value, Watch, has_room};
use crate::json::quote;

/// A JSON value that others can be merged into.
#[derive(Debug, Default)]
pub enum Node {
    #[default]
    Null,
    /// A number or a boolean, as it was written.
    Plain(Box<str>),
    Text(String),
    List(List),
    Object(Members),
}

/// Finds places by what they are called.
type Places<K> = Option<Box<HashMap<K, usize>>>;

/// A member's key: most are of a few, and aren't copied.
type Key = Cow<'static, str>;

fn key_of(key: &str) -> Key {
    const USUAL: [&str; 12] = [
        "index",
        "id",
        "type",
        "function",
        "name",
        "arguments",
        "text",
        "format",
        "role",
        "reasoning",
        "reasoning_details",
        "finish_reason",
    ];
    match USUAL.iter().find(|usual| **usual == key) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(key.into()),
    }
}

/// The members of an object, each key once.
#[derive(Debug, Default)]
pub struct Members {
    list: Vec<(Key, Node)>,
    /// By key, where there are many.
    places: Places<Box<str>>,
}

/// The items of a list, and which of them go on.
#[derive(Debug, Default)]
pub struct List {
    items: Vec<Node>,
    by_index: Places<u64>,
    by_id: Places<Box<str>>,
}

/// How the items of a list find the one that they go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By index; without one each is new.
    Items,
    /// The calls of tools: by index, else by id, else the last one.
    Calls,
}

/// Merges, and looks up now and then.
pub struct Merger<'w> {
    watch: Watch<'w>,
    /// What was merged so far, in values; one that holds others counts more.
    weight: &'w mut usize,
    next_look: usize,
}

/// A hostile answer takes a hundred times its length as values.
const MAX_WEIGHT: usize = 4_000_000;
/// What a weight of 1 takes, a list being copied as it grows.
const UNIT: usize = 64;
/// Beyond its own weight.
const CONTAINER: usize = 6;

impl<'w> Merger<'w> {
    /// `weight` is of what was merged before.
    pub fn new(watch: Watch<'w>, weight: &'w mut usize) -> Merger<'w> {
        Merger {
            watch,
            next_look: *weight + LOOK,
            weight,
        }
    }

    fn step(&mut self, weight: usize) -> Result<(), Unread> {
        *self.weight += weight;
        match *self.weight < self.next_look {
            true => Ok(()),
            false => self.look(),
        }
    }

    /// For each thing that was sent, also if nothing is kept of it: looks up now and then.
    pub fn pass(&mut self) -> Result<(), Unread> {
        self.next_look = self.next_look.saturating_sub(1);
        self.step(0)
    }

    #[cold]
    fn look(&mut self) -> Result<(), Unread> {
        self.next_look = *self.weight + LOOK;
        if *self.weight > MAX_WEIGHT || !has_room(*self.weight * UNIT) {
            return Err(Unread::TooMuch);
        }
        (self.watch)().map_or(Ok(()), |cut| Err(Unread::Cut(cut)))
    }

    /// An owned copy.
    pub fn copy(&mut self, value: &Value<'_>) -> Result<Node, Unread> {
        let mut node = Node::Null;
        self.add(&mut node, value, Kind::Items)?;
        Ok(node)
    }

    /// Adds a member of a message's delta to what there is of it.
    pub fn add_to_message(
        &mut self,
        to: &mut Members,
        key: &str,
        value: &Value<'_>,
    ) -> Result<(), Unread> {
        let kind = match key {
            "tool_calls" => Kind::Calls,
            _ => Kind::Items,
        };
        self.member(to, key, value, kind)
    }

    fn member(
        &mut self,
        to: &mut Members,
        key: &str,
        value: &Value<'_>,
        kind: Kind,
    ) -> Result<(), Unread> {
        if *value == Value::Null {
            return self.step(1);
        }
        let place = to.place(key);
        match key {
            // These come once, or again with every piece: they are set, and the first one holds.
            "role" | "type" | "id" | "index" | "format" => {
                if place.is_empty() {
                    *place = self.copy(value)?;
                }
                self.step(1)
            }
            "name" => {
                match (place, value.as_str()) {
                    // A whole name that is repeated isn't joined to itself.
                    (Node::Text(name), Some(more)) if name != more => name.push_str(more),
                    (Node::Text(_), _) => {}
                    (place, _) => *place = self.copy(value)?,
                }
                self.step(1)
            }
            _ => self.add(place, value, kind),
        }
    }

    /// Texts are appended, objects merged, lists merged item by item; anything else is set.
    fn add(&mut self, to: &mut Node, value: &Value<'_>, kind: Kind) -> Result<(), Unread> {
        self.step(1)?;
        match (&mut *to, value) {
            (_, Value::Null) => {}
            (Node::Text(text), Value::Text(more)) => text.push_str(more),
            (Node::Object(members), Value::Object(more)) => {
                for (key, value) in more {
                    self.member(members, key, value, Kind::Items)?;
                }
            }
            (Node::List(list), Value::List(more)) => {
                for item in more {
                    self.item(list, item, kind)?;
                }
            }
            (to, Value::True) => *to = Node::Plain("true".into()),
            (to, Value::False) => *to = Node::Plain("false".into()),
            (to, Value::Number(number)) => *to = Node::Plain((*number).into()),
            (to, Value::Text(text)) => *to = Node::Text(text.to_string()),
            (to, Value::Object(members)) => {
                self.step(CONTAINER)?;
                // Of members with the same key the last one counts.
                let mut object = Members::default();
                for (key, value) in members {
                    *object.place(key) = self.copy(value)?;
                }
                *to = Node::Object(object);
            }
            (to, Value::List(items)) => {
                self.step(CONTAINER)?;
                let mut list = List::default();
                for item in items {
                    self.item(&mut list, item, kind)?;
                }
                *to = Node::List(list);
            }
        }
        Ok(())
    }

    fn item(&mut self, list: &mut List, item: &Value<'_>, kind: Kind) -> Result<(), Unread> {
        let piece = Piece::of(item);
        match list.continued_by(&piece, kind) {
            Some(at) => {
                list.note(&piece, at);
                match list.items.get_mut(at) {
                    Some(known) => self.add(known, item, Kind::Items),
                    None => Ok(()),
                }
            }
            None => {
                let mut copy = self.copy(item)?;
                list.note_new(&piece, &mut copy);
                list.items.push(copy);
                Ok(())
            }
        }
    }
}

/// How often long work looks up.
const LOOK: usize = 4096;

/// What an item of a list says of which one it goes on.
#[derive(Default)]
struct Piece<'v> {
    /// A whole number, written as one: servers send null, texts and 0.0 where they have none.
    index: Option<u64>,
    id: Option<&'v str>,
    kind: Option<&'v str>,
    name: Option<&'v str>,
    arguments: Option<&'v str>,
}

impl<'v> Piece<'v> {
    fn of(item: &'v Value<'_>) -> Piece<'v> {
        let mut piece = Piece::default();
        let text = |value: &'v Value<'_>| value.as_str().filter(|text| !text.is_empty());
        for (key, value) in item.members() {
            match &**key {
                "index" => piece.index = value.as_u64(),
                "id" => piece.id = text(value),
                "type" => piece.kind = text(value),
                "function" => {
                    piece.name = value.get("name").and_then(text);
                    piece.arguments = value.get("arguments").and_then(text);
                }
                _ => {}
            }
        }
        piece
    }
}

impl List {
    /// The items.
    pub fn items(&self) -> &[Node] {
        &self.items
    }

    /// Which item a piece goes on; `None` if it begins another.
    fn continued_by(&self, piece: &Piece<'_>, kind: Kind) -> Option<usize> {
        let by_id = |id: Option<&str>| self.by_id.as_ref()?.get(id?).copied();
        let at = match (piece.index, kind) {
            (Some(index), _) => self.by_index.as_ref()?.get(&index).copied()?,
            (None, Kind::Items) => return by_id(piece.id),
            (None, Kind::Calls) => match by_id(piece.id) {
                Some(at) => return Some(at),
                None => self.items.len().checked_sub(1)?,
            },
        };
        let known = self.items.get(at)?;
        match kind {
            Kind::Calls if known.is_ended_by(piece) => by_id(piece.id),
            // A provider's text and its signature of it come as two items of one index.
            Kind::Items
                if piece
                    .kind
                    .is_some_and(|kind| known.text("type") != Some(kind)) =>
            {
                None
            }
            _ => Some(at),
        }
    }

    fn note(&mut self, piece: &Piece<'_>, at: usize) {
        if let Some(index) = piece.index {
            let places = self.by_index.get_or_insert_default();
            places.entry(index).or_insert(at);
        }
        if let Some(id) = piece.id {
            let places = self.by_id.get_or_insert_default();
            if !places.contains_key(id) {
                places.insert(id.into(), at);
            }
        }
    }

    /// An item that begins takes the index from one that had it before.
    fn note_new(&mut self, piece: &Piece<'_>, item: &mut Node) {
        let at = self.items.len();
        if let Some(index) = piece.index
            && self
                .by_index
                .get_or_insert_default()
                .insert(index, at)
                .is_some()
            && item.get("function").is_some()
            && let Node::Object(members) = item
        {
            // No two calls of an answer have the same index.
            let number = u64::try_from(at).unwrap_or(u64::MAX);
            *members.place("index") = Node::Plain(number.to_string().into());
        }
        if let Some(id) = piece.id {
            self.by_id.get_or_insert_default().insert(id.into(), at);
        }
    }
}

impl Node {
    /// Whether a piece that would go on this call of a tool is the first of another: it has a new
    /// id and what a call begins with, or a name alone while this call is complete. A new id alone
    /// isn't enough: some servers give each piece of one call its own.
    fn is_ended_by(&self, piece: &Piece<'_>) -> bool {
        let begins_anew = |text: &str| text.trim_start().starts_with('{');
        if piece.name.is_none() && !piece.arguments.is_some_and(begins_anew) {
            return false;
        }
        let (mut name, mut arguments) = (None, None);
        if let Some(Node::Object(function)) = self.get("function") {
            name = function.get("name").and_then(Node::as_text);
            arguments = function.get("arguments").and_then(Node::as_text);
        }
        let begun = arguments.filter(|text| !text.is_empty());
        // By its ends alone: to parse it with each piece would take time without bound.
        let is_complete = begun.is_some_and(|text| text.starts_with('{') && text.ends_with('}'));
        match (piece.id, self.text("id")) {
            (Some(id), Some(known)) if id == known => false,
            (Some(_), Some(_)) if piece.name.is_none() || piece.name == name => {
                is_complete || (begun.is_none() && piece.name.is_some())
            }
            (Some(_), Some(_)) => true,
            _ => piece.index.is_none() && piece.name.is_some() && name.is_some() && is_complete,
        }
    }

    /// A member of an object.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Object(members) => members.get(key),
            _ => None,
        }
    }

    /// A text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a member.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// A number or a boolean, as it was written.
    pub fn as_plain(&self) -> Option<&str> {
        match self {
            Node::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it says nothing: null, "", false, 0, [], {}.
    pub fn is_empty(&self) -> bool {
        match self {
            Node::Null => true,
            Node::Plain(text) => {
                &**text == "false" || text.parse::<f64>().is_ok_and(|number| number == 0.0)
            }
            Node::Text(text) => text.is_empty(),
            Node::List(list) => list.items.is_empty(),
            Node::Object(members) => members.list.is_empty(),
        }
    }

    /// Appends its canonical JSON (RFC 8785). `None` if it has none. It is written when the call's
    /// time may be over: the library that does it for requests takes five times as long.
    pub fn write_canonical(&self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Node::Plain(text) if text.starts_with(|first| !matches!(first, 't' | 'f')) => {
                let number: serde_json::Number = text.parse().ok()?;
                serde_json_canonicalizer::to_writer(&number, out).ok()?;
            }
            Node::Null | Node::Plain(_) => self.write(out),
            Node::Text(text) => quote_canonical(text, out)?,
            Node::List(list) => {
                out.push(b'[');
                for (number, item) in list.items.iter().enumerate() {
                    if number > 0 {
                        out.push(b',');
                    }
                    item.write_canonical(out)?;
                }
                out.push(b']');
            }
            Node::Object(members) => {
                let mut sorted: Vec<&(Key, Node)> = members.list.iter().collect();
                sorted.sort_unstable_by(|(a, _), (b, _)| match a.is_ascii() && b.is_ascii() {
                    true => a.cmp(b),
                    false => a.encode_utf16().cmp(b.encode_utf16()),
                });
                out.push(b'{');
                for (number, (key, node)) in sorted.into_iter().enumerate() {
                    if number > 0 {
                        out.push(b',');
                    }
                    quote_canonical(key, out)?;
                    out.push(b':');
                    node.write_canonical(out)?;
                }
                out.push(b'}');
            }
        }
        Some(())
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Null => out.extend_from_slice(b"null"),
            Node::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Node::Text(text) => quote(text, out),
            Node::List(list) => {
                out.push(b'[');
                for (number, item) in list.items.iter().enumerate() {
                    if number > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Node::Object(members) => {
                out.push(b'{');
                members.write(out);
                out.push(b'}');
            }
        }
    }
}

impl Members {
    /// More than this aren't searched one by one: a hostile server could make that take hours.
    const FEW: usize = 32;

    fn position(&self, key: &str) -> Option<usize> {
        match &self.places {
            None => self.list.iter().position(|(name, _)| **name == *key),
            Some(places) => places.get(key).copied(),
        }
    }

    /// A member.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let at = self.position(key)?;
        self.list.get(at).map(|(_, node)| node)
    }

    /// A member's place, null if it's new.
    pub fn place(&mut self, key: &str) -> &mut Node {
        let at = self.position(key).unwrap_or_else(|| {
            let at = self.list.len();
            self.list.push((key_of(key), Node::Null));
            if let Some(places) = &mut self.places {
                places.insert(key.into(), at);
            } else if at == Members::FEW {
                let places = self.list.iter().zip(0..);
                let places = places
                    .map(|((key, _), at)| (Box::from(&**key), at))
                    .collect();
                self.places = Some(Box::new(places));
            }
            at
        });
        &mut self.list[at].1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The text of a member.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// Appends the members, each after a comma if something stands before it in the object.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (key, node) in &self.list {
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            quote(key, out);
            out.push(b':');
            node.write(out);
        }
    }
}

/// Appends a string as RFC 8785 has it: serde_json escapes what that does, as it does.
fn quote_canonical(text: &str, out: &mut Vec<u8>) -> Option<()> {
    if text
        .bytes()
        .any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
    {
        return serde_json::to_writer(out, text).ok();
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the pieces of a message's member add up to.
    fn merged(key: &str, pieces: &[&str]) -> serde_json::Value {
        let mut members = Members::default();
        let mut weight = 0;
        let mut merger = Merger::new(&|| None, &mut weight);
        for piece in pieces {
            let value = Value::read(piece.as_bytes(), &|| None).unwrap();
            merger.add_to_message(&mut members, key, &value).unwrap();
        }
        let mut out = Vec::new();
        members.get(key).unwrap_or(&Node::Null).write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    fn names_and_arguments(pieces: &[&str]) -> Vec<(String, String)> {
        let calls = merged("tool_calls", pieces);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let of = |call: &serde_json::Value| {
            let function = &call["function"];
            (text(&function["name"]), text(&function["arguments"]))
        };
        calls.as_array().unwrap().iter().map(of).collect()
    }

    #[track_caller]
    fn check(pieces: &[&str], calls: &[(&str, &str)]) {
        let expected: Vec<(String, String)> = calls
            .iter()
            .map(|(name, args)| ((*name).into(), (*args).into()))
            .collect();
        assert_eq!(names_and_arguments(pieces), expected);
    }

    #[test]
    fn tool_calls_are_put_together_by_their_index() {
        let pieces = [
            r#"[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]"#,
            r#"[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{"}}]"#,
            r#"[{"index":0,"function":{"arguments":"{\"x\":"}}]"#,
            r#"[{"index":1,"function":{"arguments":"}"}},{"index":0,"function":{"arguments":"1}"}}]"#,
        ];
        check(&pieces, &[("f", r#"{"x":1}"#), ("g", "{}")]);
        assert_eq!(
            merged("tool_calls", &pieces)[0],
            serde_json::json!({"index": 0, "id": "a", "type": "function",
                "function": {"name": "f", "arguments": "{\"x\":1}"}})
        );
    }

    #[test]
    fn an_index_may_come_twice_in_one_chunk() {
        let twice = r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}},
            {"index":0,"function":{"arguments":"}"}}]"#;
        check(&[twice], &[("f", "{}")]);
    }

    #[test]
    fn without_a_usable_index_calls_are_put_together_by_id_else_with_the_last_one() {
        for index in ["null", "\"0\"", "0.0", "-1"] {
            let piece = |rest: &str| format!("[{{\"index\":{index},{rest}}}]");
            let pieces = [
                piece(r#""id":"a","function":{"name":"f","arguments":"{"}"#),
                piece(r#""function":{"arguments":"}"}"#),
                piece(r#""id":"b","function":{"name":"g","arguments":"["}"#),
                piece(r#""id":"a","function":{"arguments":" "}"#),
                piece(r#""id":"b","function":{"arguments":"]"}"#),
            ];
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            check(&pieces, &[("f", "{} "), ("g", "[]")]);
        }
        let whole = [
            r#"[{"function":{"name":"f","arguments":"{}"}}]"#,
            r#"[{"function":{"name":"g","arguments":"{}"}}]"#,
        ];
        check(&whole, &[("f", "{}"), ("g", "{}")]);
    }

    #[test]
    fn a_new_id_on_an_index_that_is_taken_begins_a_new_call() {
        let pieces = [
            r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]"#,
            r#"[{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\":2}"}}]"#,
            r#"[{"index":0,"id":"c","function":{"name":"g","arguments":""}}]"#,
            r#"[{"index":0,"function":{"arguments":"{}"}}]"#,
        ];
        check(
            &pieces,
            &[("f", r#"{"x":1}"#), ("f", r#"{"x":2}"#), ("g", "{}")],
        );
        let calls = merged("tool_calls", &pieces);
        let indices: Vec<_> = (0..3).map(|at| calls[at]["index"].as_u64()).collect();
        assert_eq!(indices, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_new_id_for_each_piece_of_one_call_leaves_it_one_call() {
        let pieces = [
            r#"[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]"#,
            r#"[{"index":0,"id":"b","function":{"arguments":"{\"x\":"}}]"#,
            r#"[{"index":0,"id":"c","function":{"name":"f","arguments":"1}"}}]"#,
        ];
        check(&pieces, &[("f", r#"{"x":1}"#)]);
        assert_eq!(merged("tool_calls", &pieces)[0]["id"], "a");
    }

    #[test]
    fn a_new_id_begins_a_new_call_without_a_name_too_where_the_one_before_is_complete() {
        let pieces = [
            r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":{}"}}]"#,
            r#"[{"index":0,"id":"b","function":{"arguments":",\"y\":1}"}}]"#,
            r#"[{"index":0,"id":"c","function":{"arguments":"{\"x\":2}"}}]"#,
        ];
        check(&pieces, &[("f", r#"{"x":{},"y":1}"#), ("", r#"{"x":2}"#)]);
        let calls = merged("tool_calls", &pieces);
        assert_eq!([&calls[0]["id"], &calls[1]["id"]], ["a", "c"]);
        assert_eq!(calls[1]["index"], 1);
    }

    #[test]
    fn names_in_pieces_are_joined_and_whole_names_that_are_repeated_are_not() {
        let pieces = [
            r#"[{"index":0,"id":"a","function":{"name":"get_","arguments":""}}]"#,
            r#"[{"index":0,"function":{"name":"weather","arguments":"{"}}]"#,
            r#"[{"index":0,"function":{"name":"get_weather","arguments":"}"}}]"#,
            r#"[{"index":0,"function":{"name":"","arguments":""}}]"#,
        ];
        check(&pieces, &[("get_weather", "{}")]);
    }

    #[test]
    fn other_lists_are_put_together_by_index_too_and_appended_without_one() {
        let details = merged(
            "reasoning_details",
            &[
                r#"[{"type":"reasoning.text","text":"h","index":0,"format":"x"}]"#,
                r#"[{"type":"reasoning.text","text":"m","index":0,"format":"x"}]"#,
                r#"[{"type":"reasoning.encrypted","data":"d","index":0}]"#,
            ],
        );
        let expected = serde_json::json!([
            {"type": "reasoning.text", "text": "hm", "index": 0, "format": "x"},
            {"type": "reasoning.encrypted", "data": "d", "index": 0}
        ]);
        assert_eq!(details, expected);
        let listed = merged("annotations", &[r#"[{"a":1}]"#, r#"[{"a":2}]"#]);
        assert_eq!(listed, serde_json::json!([{"a": 1}, {"a": 2}]));
    }

    #[test]
    fn the_canonical_form_is_that_of_rfc_8785() {
        let text = r#"[{"b":1,"a":[null,true,false,{}],"\ue000":1,"\ud83d\ude00":2,"":3,"\"\\":4},
            "\u0000\b\t\n\f\r\u001f\"\\/\u007f\u2028\u00e9", [], -0, 1.0, 1e21, 1E-7, 0.1,
            9007199254740993, 123456789012345678901, 333333333.33333329]"#;
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let expected = serde_json_canonicalizer::to_string(&value).unwrap();
        let value = Value::read(text.as_bytes(), &|| None).unwrap();
        let mut weight = 0;
        let node = Merger::new(&|| None, &mut weight).copy(&value).unwrap();
        let mut canonical = Vec::new();
        node.write_canonical(&mut canonical).unwrap();
        assert_eq!(String::from_utf8(canonical).unwrap(), expected);
    }
}
