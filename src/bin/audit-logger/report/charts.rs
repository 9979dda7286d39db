//! Charts, as SVG that takes its colours and its type from the page's style.
//!
//! A colour in a chart is a number: what series 2 looks like, in the light and in the dark, says the style
//! (`.chart [fill="#000002"]`), over which a presentation attribute of SVG has no precedence.

use std::fmt::Display;
use std::ops::Range;

use audit_logger::tool::Error;
use maud::{Markup, PreEscaped, html};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::steps::Steps;
use crate::numbers::{shortened, ticks};

/// In units of the drawing; the page scales it.
const SIZE: (u32, u32) = (720, 300);

/// How high a row of a chart of rows is, and how long its name may be.
const ROW: u32 = 26;
const NAME: usize = 28;

/// The colours that are no series'.
const RULE: RGBColor = RGBColor(0, 0, 0xa);
const TEXT: RGBColor = RGBColor(0, 0, 0xb);

/// What a series is drawn in.
fn colour(series: usize) -> RGBColor {
    RGBColor(0, 0, series as u8 + 1)
}

/// What all charts have.
pub struct Chart<'a> {
    /// Its number in the page, for ids.
    pub id: &'a str,
    pub title: &'a str,
    /// What it shows, for who doesn't see it.
    pub description: String,
    /// Writes a value at the axis.
    pub label: fn(f64) -> String,
}

/// A value for each step, where there is one.
pub type Series = Vec<Option<f64>>;

/// What can be drawn of a value: a program that logs its own calls may write a cost of -1 or 1e308.
fn drawable(value: f64) -> Option<f64> {
    (0.0..1e300).contains(&value).then_some(value)
}

impl Chart<'_> {
    /// Bars over time, series upon series.
    pub fn bars(&self, steps: &Steps, series: &[Series]) -> Result<Markup, Error> {
        let at = |values: &Series, step: usize| {
            let value = values.get(step).copied().flatten();
            value.and_then(drawable).unwrap_or(0.0)
        };
        let sums = (0..steps.count).map(|step| series.iter().map(|values| at(values, step)).sum());
        let highest = sums.fold(0.0, f64::max);
        self.over_time(steps, highest, |chart| {
            for step in 0..steps.count {
                let (left, right) = (step as f64 - 0.42, step as f64 + 0.42);
                let mut below = 0.0;
                for (number, values) in series.iter().enumerate() {
                    let value = at(values, step);
                    if value > 0.0 {
                        let corners = [(left, below), (right, below + value)];
                        let bar = Rectangle::new(corners, colour(number).filled());
                        chart.draw_series([bar]).map_err(failed)?;
                        below += value;
                    }
                }
            }
            Ok(())
        })
    }

    /// Lines over time, with a gap where a series has no value.
    pub fn lines(&self, steps: &Steps, series: &[Series]) -> Result<Markup, Error> {
        let all = series.iter().flatten().flatten();
        let highest = all.filter_map(|value| drawable(*value)).fold(0.0, f64::max);
        self.over_time(steps, highest, |chart| {
            for (number, values) in series.iter().enumerate() {
                let values = values.iter().map(|value| value.and_then(drawable));
                let points: Vec<_> = (0..).map(f64::from).zip(values).collect();
                for part in points.split(|(_, value)| value.is_none()) {
                    let part = part.iter().filter_map(|(x, y)| Some((*x, (*y)?)));
                    let style = colour(number).stroke_width(2);
                    let line = PathElement::new(part.clone().collect::<Vec<_>>(), style);
                    chart.draw_series([line]).map_err(failed)?;
                    // A line through one point isn't seen.
                    if steps.count <= 62 || part.clone().count() == 1 {
                        let dots = part.map(|point| Circle::new(point, 2, colour(number).filled()));
                        chart.draw_series(dots).map_err(failed)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// What bars and lines stand in.
    fn over_time(
        &self,
        steps: &Steps,
        highest: f64,
        draw: impl FnOnce(&mut ChartContext<'_, SVGBackend<'_>, Over>) -> Result<(), Error>,
    ) -> Result<Markup, Error> {
        let ticks = ticks(highest, self.label);
        let highest = ticks.last().copied().unwrap_or(1.0);
        let labels = steps.labels();
        let named: Vec<f64> = labels.iter().map(|(step, _)| *step as f64).collect();
        let label = |at: &f64| {
            let found = labels.iter().find(|(step, _)| *step as f64 == *at);
            found.map_or(String::new(), |(_, label)| label.clone())
        };
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            let mut chart = ChartBuilder::on(&area)
                .margin_top(12)
                .margin_right(24)
                .x_label_area_size(30)
                .y_label_area_size(64)
                .build_cartesian_2d(
                    Axis::new(-0.6..steps.count as f64 - 0.4, named),
                    Axis::new(0.0..highest, ticks),
                )
                .map_err(failed)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .bold_line_style(RULE)
                .axis_style(RULE)
                .set_all_tick_mark_size(4)
                .label_style(("sans-serif", 16, &TEXT))
                .x_label_formatter(&label)
                .y_label_formatter(&|value| (self.label)(*value))
                .draw()
                .map_err(failed)?;
            draw(&mut chart)?;
            area.present().map_err(failed)?;
        }
        Ok(self.markup(&svg, SIZE))
    }

    /// Bars that lie, one for each name, of counts.
    pub fn rows(&self, rows: &[(String, Vec<f64>)]) -> Result<Markup, Error> {
        let highest = rows.iter().map(|(_, values)| values.iter().sum());
        let ticks = ticks(highest.fold(0.0, f64::max), self.label);
        let highest = ticks.last().copied().unwrap_or(1.0);
        let size = (SIZE.0, ROW * rows.len().max(1) as u32 + 46);
        let count = rows.len() as f64;
        let middles = (0..rows.len()).map(|row| row as f64 + 0.5).collect();
        // From above to below.
        let name = |at: &f64| {
            let name = rows.get((count - at) as usize).map(|(name, _)| &name[..]);
            shortened(name.unwrap_or_default(), NAME)
        };
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            let mut chart = ChartBuilder::on(&area)
                .margin_top(12)
                .margin_right(32)
                .x_label_area_size(30)
                .y_label_area_size(220)
                .build_cartesian_2d(
                    Axis::new(0.0..highest, ticks),
                    Axis::new(0.0..count.max(1.0), middles),
                )
                .map_err(failed)?;
            chart
                .configure_mesh()
                .disable_y_mesh()
                .bold_line_style(RULE)
                .axis_style(RULE)
                .set_all_tick_mark_size(4)
                .label_style(("sans-serif", 16, &TEXT))
                .x_label_formatter(&|value| (self.label)(*value))
                .y_label_formatter(&name)
                .draw()
                .map_err(failed)?;
            for (row, (_, values)) in rows.iter().enumerate() {
                let middle = count - row as f64 - 0.5;
                let mut left = 0.0;
                for (number, value) in values.iter().enumerate().filter(|(_, value)| **value > 0.0)
                {
                    let corners = [(left, middle - 0.34), (left + value, middle + 0.34)];
                    let bar = Rectangle::new(corners, colour(number).filled());
                    chart.draw_series([bar]).map_err(failed)?;
                    left += value;
                }
            }
            area.present().map_err(failed)?;
        }
        Ok(self.markup(&svg, size))
    }

    /// The drawing in an element of the page's own: without its namespace, which HTML implies, and with a title.
    fn markup(&self, svg: &str, (width, height): (u32, u32)) -> Markup {
        let inner = svg.split_once('>').map_or("", |(_, inner)| inner);
        let inner = inner.trim_end().strip_suffix("</svg>").unwrap_or(inner);
        let (title, description) = (
            format!("{}-title", self.id),
            format!("{}-description", self.id),
        );
        html! {
            svg.chart viewBox={ "0 0 " (width) " " (height) } role="img"
                aria-labelledby=(title) aria-describedby=(description) {
                title id=(title) { (self.title) }
                desc id=(description) { (self.description) }
                (PreEscaped(inner))
            }
        }
    }
}

/// An axis with the marks that it's told. (The crate's own way to them can't be labelled where values are f64.)
struct Axis {
    range: RangedCoordf64,
    marks: Vec<f64>,
}

impl Axis {
    fn new(range: Range<f64>, marks: Vec<f64>) -> Axis {
        let range = range.into();
        Axis { range, marks }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Each mark is of the bold ones: there is no finer mesh.
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.marks.clone(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

type Over = Cartesian2d<Axis, Axis>;

fn failed(error: impl Display) -> Error {
    Error::log(format!("a chart can't be drawn: {error}"))
}
