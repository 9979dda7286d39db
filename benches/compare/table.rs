//! Numbers over the rounds, and the tables that show them.

use std::fmt;

use crate::contender::Contender;

/// A number for each round; none where a contender didn't take part.
pub struct Series(Vec<f64>);

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(numbers: I) -> Series {
        Series(numbers.into_iter().collect())
    }
}

impl From<f64> for Series {
    fn from(number: f64) -> Series {
        Series(vec![number])
    }
}

impl Series {
    /// The ratio to another contender's, round by round.
    pub fn over(&self, other: &Series) -> Series {
        self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect()
    }

    /// The number that so much of the rounds are below.
    fn quantile(&self, part: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = part * last as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        Some(low + (high - low) * at.fract())
    }

    fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }
}

/// The median, and between which numbers half of the rounds are.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match [0.25, 0.5, 0.75].map(|part| self.quantile(part)) {
            [Some(low), Some(middle), Some(high)] if self.0.len() > 1 => {
                f.pad(&format!("{middle:.2} ({low:.2}-{high:.2})"))
            }
            [_, Some(only), _] if only.fract() == 0.0 => f.pad(&format!("{only}")),
            [_, Some(only), _] => f.pad(&format!("{only:.2}")),
            _ => f.pad("-"),
        }
    }
}

/// Contenders beside one of them.
pub struct Table<'a> {
    unit: &'a Contender<'a>,
    unit_name: &'a str,
    rows: &'a [Contender<'a>],
}

impl<'a> Table<'a> {
    pub fn beside(
        unit: &'a Contender<'a>,
        unit_name: &'a str,
        rows: &'a [Contender<'a>],
    ) -> Table<'a> {
        Table {
            unit,
            unit_name,
            rows,
        }
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, cpu) = (
            format!("wall, x {}", self.unit_name),
            format!("CPU, x {}", self.unit_name),
        );
        writeln!(
            f,
            "{:<28} {:>9} {:>9}   {wall:<22}{cpu}",
            "median (half of the rounds)", "wall us", "CPU us"
        )?;
        for row in self.rows {
            if let Some(missing) = row.missing() {
                writeln!(f, "{:<28} skipped: {missing}", row.name)?;
                continue;
            }
            let (wall, cpu) = (row.wall(), row.cpu());
            writeln!(
                f,
                "{:<28} {:>9.2} {:>9.2}   {:<22}{}",
                row.name,
                wall.median().unwrap_or(f64::NAN),
                cpu.median().unwrap_or(f64::NAN),
                wall.over(&self.unit.wall()),
                cpu.over(&self.unit.cpu()),
            )?;
        }
        Ok(())
    }
}

/// What is to be reached, and what was measured.
#[derive(Default)]
pub struct Targets(Vec<[String; 4]>);

impl Targets {
    pub fn at_most(&mut self, what: &str, most: f64, measured: impl Into<Series>) {
        let measured = measured.into();
        let reached = measured.median().map(|number| number <= most);
        self.row(what, format!("at most {most}"), &measured, reached);
    }

    pub fn at_least(&mut self, what: &str, least: f64, measured: impl Into<Series>) {
        let measured = measured.into();
        let reached = measured.median().map(|number| number >= least);
        self.row(what, format!("at least {least}"), &measured, reached);
    }

    /// A number without a target, to read another by.
    pub fn for_comparison(&mut self, what: &str, measured: impl Into<Series>) {
        self.row(what, String::new(), &measured.into(), None);
    }

    fn row(&mut self, what: &str, target: String, measured: &Series, reached: Option<bool>) {
        let verdict = match (reached, target.is_empty()) {
            (Some(true), _) => "yes",
            (Some(false), _) => "NO",
            (None, true) => "",
            (None, false) => "skipped",
        };
        let row = [what, &target, &measured.to_string(), verdict];
        self.0.push(row.map(str::to_owned));
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = ["what", "to reach", "measured", "ok?"].map(str::to_owned);
        let rows = || std::iter::once(&heading).chain(&self.0);
        let width = |column: usize| {
            rows()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let [what, target, measured] = [0, 1, 2].map(width);
        for row in rows() {
            let line = format!(
                "{:<what$} | {:<target$} | {:<measured$} | {}",
                row[0], row[1], row[2], row[3]
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
