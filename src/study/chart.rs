//! Charts as SVG and PNG.

use std::ops::Range;
use std::sync::Once;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use plotters::prelude::*;
use plotters::style::register_font;

/// A line with its spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it is of.
    pub name: String,
    /// x, y and how far y spreads to either side.
    pub points: Vec<(f64, f64, f64)>,
}

/// Lines over common axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// The name of x, with its unit.
    pub x: String,
    /// The name of y, with its unit.
    pub y: String,
    /// The lines.
    pub lines: Vec<Line>,
}

const SIZE: (u32, u32) = (720, 420);
/// Pixels of a PNG for each of [`SIZE`].
const SHARPNESS: u32 = 2;

/// Colours that can be told apart with any eyes.
///
/// Source: Okabe and Ito, "Color universal design", 2008.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A font that comes along: a server may have none.
fn font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It is a font.
        let _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
    });
}

/// A chart as the text of an SVG file; `None` of one without two different points.
pub fn svg(chart: &Chart) -> Option<String> {
    let (x, y) = ranges(chart)?;
    font();
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(chart, &area, 1, x, y).expect("a string takes every stroke");
    }
    Some(text)
}

/// A chart as the bytes of a PNG file; `None` of one without two different points.
pub fn png(chart: &Chart) -> Option<Vec<u8>> {
    let (x, y) = ranges(chart)?;
    font();
    let (width, height) = (SIZE.0 * SHARPNESS, SIZE.1 * SHARPNESS);
    let mut pixels = vec![0; (width * height * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        draw(chart, &area, SHARPNESS, x, y).expect("a buffer takes every stroke");
    }
    Some(packed(&pixels, [width, height]))
}

/// Red, green and blue of every pixel, row by row, as the bytes of a PNG file.
pub(super) fn packed(pixels: &[u8], [width, height]: [u32; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, width, height, ExtendedColorType::Rgb8)
        .expect("a Vec takes every byte, and there are as many as there are pixels");
    bytes
}

/// What the axes span.
fn ranges(chart: &Chart) -> Option<(Range<f64>, Range<f64>)> {
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
    let left = least(&mut points().map(|(x, ..)| *x));
    let right = -least(&mut points().map(|(x, ..)| -x));
    let bottom = least(&mut points().map(|(_, y, spread)| y - spread));
    let top = -least(&mut points().map(|(_, y, spread)| -y - spread));
    if right <= left || !(bottom.is_finite() && top.is_finite()) {
        return None;
    }
    let air = ((top - bottom) * 0.05).max(1e-3);
    Some((left..right, bottom - air..top + air))
}

fn draw<B: DrawingBackend>(
    chart: &Chart,
    area: &DrawingArea<B, plotters::coord::Shift>,
    scale: u32,
    x: Range<f64>,
    y: Range<f64>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let words = |points: u32| ("sans-serif", points * scale);
    let mut context = ChartBuilder::on(area)
        .caption(&chart.title, words(17))
        .margin(12 * scale)
        .x_label_area_size(42 * scale)
        .y_label_area_size(56 * scale)
        .build_cartesian_2d(x, y)?;
    context
        .configure_mesh()
        .x_desc(&chart.x)
        .y_desc(&chart.y)
        .label_style(words(12))
        .light_line_style(WHITE)
        .draw()?;
    for (n, (line, colour)) in chart.lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        // More lines than colours: those that have one again are thin, with open marks.
        let (width, mark) = match n < COLOURS.len() {
            true => (2 * scale, colour.filled()),
            false => (scale, colour.stroke_width(scale)),
        };
        let band = line.points.iter().map(|(x, y, spread)| (*x, y + spread));
        let back = line.points.iter().rev().map(|(x, y, spread)| (*x, y - spread));
        if line.points.iter().any(|(_, _, spread)| *spread > 0.0) {
            let outline: Vec<(f64, f64)> = band.chain(back).collect();
            context.draw_series(std::iter::once(Polygon::new(outline, colour.mix(0.15))))?;
        }
        let way = line.points.iter().map(|(x, y, _)| (*x, *y));
        context
            .draw_series(LineSeries::new(way.clone(), colour.stroke_width(width)))?
            .label(&line.name)
            .legend(move |(x, y)| {
                let end = (x + 18 * scale as i32, y);
                PathElement::new([(x, y), end], colour.stroke_width(width))
            });
        // Few points are worth a mark each.
        if line.points.len() <= 40 {
            context.draw_series(way.map(|point| Circle::new(point, 3 * scale, mark)))?;
        }
    }
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(words(12))
        .legend_area_size(24 * scale)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(160, 160, 160))
        .draw()?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_axes_and_lines_and_escapes_what_they_are_called() {
        let mut chart = Chart {
            title: "Dice <by> pool".into(),
            x: "share of the pool, %".into(),
            y: "mean Dice".into(),
            lines: vec![Line {
                name: "Average BvSB".into(),
                points: vec![(20.0, 0.8, 0.01), (40.0, 0.85, 0.02)],
            }],
        };
        let text = svg(&chart).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for words in ["Average BvSB", "share of the pool, %", "mean Dice", "&lt;by&gt;"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let drawn = image::load_from_memory(&png(&chart).unwrap()).unwrap().to_rgb8();
        assert_eq!(drawn.dimensions(), (1440, 840));
        let dark = drawn
            .pixels()
            .filter(|pixel| pixel.0.iter().all(|&value| value < 100));
        assert!(dark.count() > 1000, "words are there");
        assert!(
            drawn.pixels().any(|pixel| pixel.0 == [0, 114, 178]),
            "and the line"
        );
        chart.lines[0].points.truncate(1);
        assert_eq!((svg(&chart), png(&chart)), (None, None), "one point is no line");
    }
}
