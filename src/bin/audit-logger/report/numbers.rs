//! Numbers as the page writes them.

/// A whole number, in groups of three digits.
pub fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// One with decimals, likewise, or a dash.
pub fn decimal(number: Option<f64>, decimals: usize) -> String {
    let Some(number) = number else {
        return "\u{2013}".to_owned();
    };
    let text = format!("{number:.decimals$}");
    let (integer, fraction) = text.split_once('.').unwrap_or((&text, ""));
    match integer.parse() {
        Ok(integer) if !fraction.is_empty() => format!("{}.{fraction}", whole(integer)),
        Ok(integer) => whole(integer),
        // Negative, or beyond a u64.
        Err(_) => text,
    }
}

/// A part of a whole, in percent.
pub fn share(part: u64, of: u64) -> String {
    match of {
        0 => "\u{2013}".to_owned(),
        _ => format!("{:.2} %", part as f64 * 100.0 / of as f64),
    }
}

/// A number that needs little room: 1200000 is 1.2M.
pub fn short(number: f64) -> String {
    let (number, unit) = match number.abs() {
        size if size >= 1e12 => (number / 1e12, "T"),
        size if size >= 1e9 => (number / 1e9, "G"),
        size if size >= 1e6 => (number / 1e6, "M"),
        size if size >= 1e3 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    // As many digits as tell round values apart.
    let text = format!("{number:.6}");
    let digits = text.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{unit}")
}

/// The same of what can only be whole.
pub fn short_whole(number: f64) -> String {
    match number.fract() == 0.0 {
        true => short(number),
        false => String::new(),
    }
}

/// A time in milliseconds, in seconds from one on, to a hundredth.
pub fn time(milliseconds: f64) -> String {
    let hundredths = |number: f64| short((number * 100.0).round() / 100.0);
    match milliseconds >= 1000.0 {
        true => format!("{} s", hundredths(milliseconds / 1000.0)),
        false => format!("{} ms", hundredths(milliseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_none_is_a_dash() {
        assert_eq!(whole(0), "0");
        assert_eq!(whole(999), "999");
        assert_eq!(whole(1_000), "1,000");
        assert_eq!(whole(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(decimal(Some(1234.56789), 4), "1,234.5679");
        assert_eq!(decimal(Some(-1234.5), 1), "-1234.5");
        assert_eq!(decimal(None, 1), "\u{2013}");
        assert_eq!(share(1, 3), "33.33 %");
        assert_eq!(
            (short(1_200_000.0), short(0.0005)),
            ("1.2M".into(), "0.0005".into())
        );
        assert_eq!(
            (time(250.0), time(2512.3)),
            ("250 ms".into(), "2.51 s".into())
        );
    }
}
