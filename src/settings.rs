//! The members of a JSON object that the host gave, one by one, with errors that name them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::{Error, Status};
use crate::json;

/// The longest time that a setting takes: a day.
const MAX_MS: u64 = 86_400_000;

/// One member, with what its errors need to name it.
pub struct Setting {
    place: &'static str,
    status: Status,
    /// Its name.
    pub key: String,
    /// Compact JSON. May hold a secret.
    value: Zeroizing<String>,
}

/// The settings in a JSON object, whose errors begin with `place` and have that status.
pub fn settings(place: &'static str, status: Status, text: &str) -> Result<Vec<Setting>, Error> {
    let members =
        json::members(text).map_err(|error| Error::new(status, format!("{place}{error}")))?;
    Ok(members
        .into_iter()
        .map(|(key, value)| Setting {
            place,
            status,
            key,
            value: Zeroizing::new(value),
        })
        .collect())
}

impl Setting {
    /// Names the key and what is allowed, never the value: it may be a secret in a wrong place.
    pub fn error(&self, allowed: impl fmt::Display) -> Error {
        let key = json::show(&self.key);
        Error::new(self.status, format!("{}{key} {allowed}", self.place))
    }

    /// Refuses a key that isn't known.
    pub fn unknown(&self) -> Error {
        self.error("is not a known key")
    }

    /// The value, as compact JSON.
    pub fn json(&self) -> &str {
        &self.value
    }

    /// Any text.
    pub fn string(&self) -> Result<String, Error> {
        serde_json::from_str(&self.value).map_err(|_| self.error("must be a string"))
    }

    /// The members of an object, whose errors begin with `place`.
    pub fn members(&self, place: &'static str) -> Result<Vec<Setting>, Error> {
        settings(place, self.status, &self.value)
    }

    /// An object, as compact JSON.
    pub fn object(&self) -> Result<Zeroizing<String>, Error> {
        match self.value.starts_with('{') {
            true => Ok(self.value.clone()),
            false => Err(self.error("must be an object")),
        }
    }

    /// A number.
    pub fn number(&self) -> Result<f64, Error> {
        serde_json::from_str(&self.value).map_err(|_| self.error("must be a number"))
    }

    /// A text that isn't empty.
    pub fn text(&self) -> Result<String, Error> {
        match serde_json::from_str::<String>(&self.value) {
            Ok(text) if text.is_empty() || text.contains('\0') => {
                Err(self.error("must be a string that is not empty and holds no NUL"))
            }
            Ok(text) => Ok(text),
            Err(_) => Err(self.error("must be a string")),
        }
    }

    /// The path of a file or a directory, absolute: what is kept of it means the same wherever the
    /// process, or a child of it, goes later.
    pub fn path(&self) -> Result<PathBuf, Error> {
        absolute(&self.text()?).map_err(|wrong| self.error(wrong))
    }

    /// A value, or null.
    pub fn or_null<T>(
        &self,
        read: impl Fn(&Setting) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if self.value.as_str() == "null" {
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }

    /// Paths of files.
    pub fn paths(&self) -> Result<Vec<PathBuf>, Error> {
        let wrong = |_| self.error("must be an array of paths");
        serde_json::from_str(&self.value).map_err(wrong)
    }

    /// A boolean.
    pub fn flag(&self) -> Result<bool, Error> {
        match self.value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.error("must be true or false")),
        }
    }

    /// A whole number in that range.
    pub fn integer(&self, min: u64, max: u64) -> Result<u64, Error> {
        match self.value.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(self.error(format_args!("must be an integer from {min} to {max}"))),
        }
    }

    /// A time from a millisecond to a day.
    pub fn milliseconds(&self) -> Result<Duration, Error> {
        self.integer(1, MAX_MS).map(Duration::from_millis)
    }

    /// What one of two texts stands for.
    pub fn one_of<T: Copy>(&self, known: [(&str, T); 2]) -> Result<T, Error> {
        let given = self.text()?;
        match known.iter().find(|(name, _)| *name == given) {
            Some((_, value)) => Ok(*value),
            None => Err(self.error(format_args!(
                "must be \"{}\" or \"{}\"",
                known[0].0, known[1].0
            ))),
        }
    }
}

/// A path from the working directory of now, links not followed.
pub fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| {
        format!("is relative, and the working directory isn't known ({error}); name it from \"/\"")
    })
}
