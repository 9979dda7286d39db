//! JSON values that borrow from the text that they were read from: of an answer a few members are
//! looked at once, and to copy all the others would cost more than to read them. What a stream adds
//! up to is owned, and asked the same.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A JSON value.
#[derive(Debug, PartialEq)]
pub enum Value<'t> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'t, str>),
    List(Vec<Value<'t>>),
    /// In the order of the text; of members with the same key the last one counts.
    Object(Vec<(Cow<'t, str>, Value<'t>)>),
}

/// What is asked of a value, be it borrowed or owned.
pub trait Json: Sized {
    /// A member of an object.
    fn get(&self, key: &str) -> Option<&Self>;
    /// The items of a list; of anything else none.
    fn items(&self) -> &[Self];
    /// A text.
    fn as_str(&self) -> Option<&str>;
    /// A number.
    fn as_number(&self) -> Option<&Number>;
    /// Whether it's null.
    fn is_null(&self) -> bool;
    /// Whether it's an object.
    fn is_object(&self) -> bool;
}

impl Json for Value<'_> {
    fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Value::Object(members) => members
                .iter()
                .rfind(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    fn items(&self) -> &[Self] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn as_number(&self) -> Option<&Number> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    fn is_object(&self) -> bool {
        matches!(self, Value::Object(_))
    }
}

impl Json for serde_json::Value {
    fn get(&self, key: &str) -> Option<&Self> {
        self.get(key)
    }

    fn items(&self) -> &[Self] {
        self.as_array().map_or(&[], Vec::as_slice)
    }

    fn as_str(&self) -> Option<&str> {
        self.as_str()
    }

    fn as_number(&self) -> Option<&Number> {
        self.as_number()
    }

    fn is_null(&self) -> bool {
        self.is_null()
    }

    fn is_object(&self) -> bool {
        self.is_object()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value<'_> {
        serde_json::from_str(text).unwrap()
    }

    /// The same, owned.
    fn owned(value: &Value<'_>) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => (&**text).into(),
            Value::List(items) => items.iter().map(owned).collect(),
            Value::Object(members) => {
                let member = |(key, value): &(Cow<'_, str>, _)| (key.to_string(), owned(value));
                members.iter().map(member).collect()
            }
        }
    }

    #[test]
    fn a_value_is_what_serde_json_reads() {
        let text =
            r#"{"a":[null,true,-1,18446744073709551615,2.5,"x","h\u00e9\n",{}],"k\n":{"b":[]}}"#;
        let theirs: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(owned(&read(text)), theirs);
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
    }
}
