//! Numbers as people read them.

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

/// A cost, to as many decimals as it takes to see it: providers charge down to billionths for a call.
pub fn cost(cost: Option<f64>) -> String {
    decimal(cost, cost.map_or(0, cost_decimals))
}

/// How many decimals a cost is shown with: four, more where that would hide it, fewer where they'd say nothing.
pub fn cost_decimals(cost: f64) -> usize {
    let size = cost.abs();
    match size {
        1e6.. => 2,
        _ if size > 0.0 && size < 1e-3 => (1.0 - size.log10().floor()).min(18.0) as usize,
        _ => 4,
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
    if number != 0.0 && number.abs() < 1e-4 {
        return rounded(number);
    }
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

/// A power of ten, for what is too small for decimals: 5e-9.
fn rounded(number: f64) -> String {
    let text = format!("{number:.1e}");
    text.replace(".0e", "e")
}

/// A time in milliseconds, in seconds from one on, to the three digits that a percentile has.
pub fn time(milliseconds: f64) -> String {
    let three = |number: f64| {
        let scale = match number {
            ..10.0 => 100.0,
            ..100.0 => 10.0,
            _ => 1.0,
        };
        short((number * scale).round() / scale)
    };
    match milliseconds >= 1000.0 {
        true => format!("{} s", three(milliseconds / 1000.0)),
        false => format!("{} ms", three(milliseconds)),
    }
}

/// The marks of an axis: round values from 0 to at least the highest, some five, of those that can be written.
pub fn ticks(highest: f64, label: fn(f64) -> String) -> Vec<f64> {
    if !(highest > 0.0 && highest.is_finite()) {
        return vec![0.0, 1.0];
    }
    let rough = highest / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let count = (highest / step).ceil() as u32;
    let ticks = (0..=count).map(|tick| f64::from(tick) * step);
    ticks.filter(|tick| !label(*tick).is_empty()).collect()
}

/// A name without its middle, if it's longer than that: names that begin alike mostly end differently.
pub fn shortened(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.to_owned();
    }
    let end = most / 3;
    let first = name.chars().take(most - 1 - end);
    let last = name.chars().skip(count - end);
    first.chain(['\u{2026}']).chain(last).collect()
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
        let times = [0.456, 58.37, 250.0, 622.59, 2512.3, 600_000.0].map(time);
        assert_eq!(
            times,
            ["0.46 ms", "58.4 ms", "250 ms", "623 ms", "2.51 s", "600 s"]
        );
    }

    #[test]
    fn a_cost_is_seen_however_small_it_is() {
        for (number, shown) in [
            (0.0, "0.0000"),
            (1e-9, "0.0000000010"),
            (0.000_012_3, "0.000012"),
            (0.01, "0.0100"),
            (184.918_14, "184.9181"),
            (5e9, "5,000,000,000.00"),
            (-2e-6, "-0.0000020"),
        ] {
            assert_eq!(cost(Some(number)), shown);
        }
        assert_eq!(cost(None), "\u{2013}");
        assert_eq!(
            (short(5e-9), short(2.5e-8)),
            ("5e-9".into(), "2.5e-8".into())
        );
    }

    #[test]
    fn each_mark_of_an_axis_is_written_and_no_two_are_alike() {
        for power in -12..=12 {
            for digit in 1..=9 {
                let highest = f64::from(digit) * 10f64.powi(power);
                let labels: &[fn(f64) -> String] = match highest {
                    ..0.1 => &[short],
                    ..1.0 => &[short, time],
                    _ => &[short, short_whole, time],
                };
                for label in labels {
                    let mut marks: Vec<String> =
                        ticks(highest, *label).into_iter().map(label).collect();
                    let count = marks.len();
                    assert!(count >= 2, "{highest}: {marks:?}");
                    assert!(
                        marks.iter().all(|mark| (1..=9).contains(&mark.len())),
                        "{marks:?}"
                    );
                    marks.dedup();
                    assert_eq!(marks.len(), count, "{highest}: {marks:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_name_keeps_its_beginning_and_its_end() {
        assert_eq!(shortened("abcdefghij", 10), "abcdefghij");
        let long = shortened("tenant-1/customer-0001", 12);
        assert_eq!(
            (&long[..], long.chars().count()),
            ("tenant-\u{2026}0001", 12)
        );
    }
}
