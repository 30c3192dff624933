//! What a file beside a mask calls its values: BIDS `_dseg.tsv`, or an ITK-SNAP label description.

use std::collections::BTreeSet;

use super::Segment;

/// Labels of a table at most.
const MOST: usize = 1 << 16;

/// The values and names of a label table, background left out; `None` where the text is neither of the two, gives a value
/// two names, or is far too long.
///
/// * `.tsv`: a first line with the columns `index` and `name` among others, tabs in between
/// * ITK-SNAP: index, red, green, blue, opacity, visibility, mesh, "name"; lines with `#` are comments
///
/// Source: BIDS 1.10, "Imaging derivatives / Common image-derived labels"; ITK-SNAP's "Export Label Descriptions".
pub fn label_table(text: &str) -> Option<Vec<Segment>> {
    let mut lines = text
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let first = lines.next()?.trim_start_matches('\u{feff}');
    let columns: Vec<&str> = first.split('\t').map(str::trim).collect();
    let column = |name| {
        columns
            .iter()
            .position(|column| column.eq_ignore_ascii_case(name))
    };
    let segments: Option<Vec<Segment>> = match (column("index"), column("name")) {
        (Some(index), Some(name)) => lines
            .map(|line| {
                let cells: Vec<&str> = line.split('\t').collect();
                segment(cells.get(index)?, cells.get(name)?)
            })
            .collect(),
        _ => std::iter::once(first).chain(lines).map(itk_snap).collect(),
    };
    let segments: Vec<Segment> = segments?
        .into_iter()
        .filter(|segment| segment.value != 0)
        .collect();
    let values: BTreeSet<i64> = segments.iter().map(|segment| segment.value).collect();
    (values.len() == segments.len() && segments.len() <= MOST).then_some(segments)
}

fn segment(value: &str, name: &str) -> Option<Segment> {
    Some(Segment {
        value: value.trim().parse().ok()?,
        name: name.trim().to_string(),
    })
}

/// Seven numbers, then the name in quotes.
fn itk_snap(line: &str) -> Option<Segment> {
    let (numbers, name) = line.split_once('"')?;
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    let name = name.trim_end().strip_suffix('"')?;
    (numbers.len() == 7).then(|| segment(numbers[0], name))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<Vec<(i64, String)>> {
        let segments = label_table(text)?;
        Some(segments.into_iter().map(|one| (one.value, one.name)).collect())
    }

    #[test]
    fn a_bids_table_is_read_by_its_columns() {
        let text =
            "name\tabbreviation\tindex\nBackground\tBG\t0\nGray Matter\tGM\t1\r\nWhite Matter\tWM\t2\n";
        let wanted = [(1, "Gray Matter".to_string()), (2, "White Matter".to_string())];
        assert_eq!(named(text).unwrap(), wanted);
        assert_eq!(named("index\tname\nx\tGM\n"), None, "no number");
        assert_eq!(named("index\tname\n1\n"), None, "no name");
        assert_eq!(named("index\tname\n1\tGM\n1\tWM\n"), None, "two names");
    }

    #[test]
    fn an_itk_snap_description_is_read_line_by_line() {
        let text = "################\n# ITK-SnAP Label Description File\n    0     0    0    0        0  0  0    \"Clear Label\"\n\
                    \x20   4   255    0    0        1  1  1    \"left lobe\"\n";
        assert_eq!(named(text).unwrap(), [(4, "left lobe".to_string())]);
        assert_eq!(named("a shopping list\n"), None);
        assert_eq!(named(""), None);
    }
}
