//! JSON values that borrow from the text that they were read from: of an answer a few members are
//! looked at once, and copying all the others would cost more than to read them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'t> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'t, str>),
    List(Vec<Value<'t>>),
    /// In the order of the text; of members with the same key the last one counts.
    Object(Vec<(Cow<'t, str>, Value<'t>)>),
}

impl<'t> Value<'t> {
    /// A member of an object.
    pub fn get(&self, key: &str) -> Option<&Value<'t>> {
        match self {
            Value::Object(members) => members
                .iter()
                .rfind(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
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

    /// A number.
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl<'t> Deserialize<'t> for Value<'t> {
    fn deserialize<D: Deserializer<'t>>(from: D) -> Result<Value<'t>, D::Error> {
        from.deserialize_any(Any)
    }
}

struct Any;

impl<'t> Visitor<'t> for Any {
    type Value = Value<'t>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'t>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'t>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'t>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'t>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value<'t>, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'t str) -> Result<Value<'t>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'t>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Value<'t>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'t>>(self, mut object: A) -> Result<Value<'t>, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = object.next_entry()? {
            let Value::Text(key) = key else {
                return Err(A::Error::custom("a key that is no text"));
            };
            members.push((key, value));
        }
        Ok(Value::Object(members))
    }
}

impl From<Value<'_>> for serde_json::Value {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number),
            Value::Text(text) => Self::String(text.into_owned()),
            Value::List(items) => items.into_iter().map(Self::from).collect(),
            Value::Object(members) => members.into_iter().collect(),
        }
    }
}

impl<'t> From<&'t serde_json::Value> for Value<'t> {
    fn from(value: &'t serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => Value::Number(number.clone()),
            serde_json::Value::String(text) => Value::Text(text.into()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Value::from).collect()),
            serde_json::Value::Object(members) => {
                let member = |(key, value): (&'t String, _)| (key.into(), Value::from(value));
                Value::Object(members.iter().map(member).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_value_is_what_serde_json_reads_and_goes_there_and_back() {
        let text =
            r#"{"a":[null,true,-1,18446744073709551615,2.5,"x","h\u00e9\n",{}],"k\n":{"b":[]}}"#;
        let theirs: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(read(text), Value::from(&theirs));
        assert_eq!(serde_json::Value::from(read(text)), theirs);
    }

    #[test]
    fn texts_are_borrowed_unless_they_hold_an_escape() {
        for (text, borrowed) in [(r#"{"k":"v"}"#, true), (r#"{"\u006b":"\u0076"}"#, false)] {
            let Value::Object(members) = read(text) else {
                unreachable!()
            };
            let is_borrowed = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
            let (key, value) = &members[0];
            assert_eq!((&**key, value.as_str()), ("k", Some("v")));
            assert!(matches!(value, Value::Text(text) if is_borrowed(text) == borrowed));
            assert_eq!(is_borrowed(key), borrowed);
        }
    }

    #[test]
    fn of_members_with_the_same_key_the_last_one_counts() {
        let value = read(r#"{"a":1,"b":2,"a":3}"#);
        assert_eq!(value.get("a"), Some(&Value::Number(3.into())));
        assert_eq!(serde_json::Value::from(value)["a"], 3);
    }
}
