//! NRRD files, and what 3D Slicer adds to them for segmentations (`.seg.nrrd`): segments with names, on several layers
//! where they overlap, in a file that may hold only the part of the image that they fill.
//!
//! Source: "Definition of NRRD file format", teem.sourceforge.net/nrrd/format.html; the segmentation's keys are those of
//! Slicer's vtkMRMLSegmentationStorageNode.

use std::collections::{BTreeMap, BTreeSet};

use super::nifti::{AffineSource, Scan, Segment, VolumeError};
use super::{Affine, Grid, Volume, gzip};

/// A header of more bytes than this is none of an image.
const MOST_HEADER_BYTES: usize = 1 << 20;

/// Whether `bytes` open with NRRD's magic number.
pub fn is_nrrd(bytes: &[u8]) -> bool {
    bytes.starts_with(b"NRRD000")
}

/// Reads a volume from the bytes of one `.nrrd` file; `max_bytes` is the most its voxels may take once unpacked.
///
/// # Errors
/// Any [`VolumeError`] but those about paths.
pub fn decode(bytes: &[u8], max_bytes: u64) -> Result<Scan, VolumeError> {
    let (header, data) = Header::parse(bytes)?;
    let kind = header.number_type()?;
    let (layers, shape) = header.shape()?;
    let voxels = shape
        .iter()
        .try_fold(layers as u64, |product, &n| product.checked_mul(n as u64));
    let wanted = voxels
        .and_then(|voxels| voxels.checked_mul(kind.bytes() as u64))
        .filter(|&wanted| wanted <= max_bytes)
        .ok_or(VolumeError::TooLarge { max_bytes })?;
    let (affine, source) = header.affine()?;
    let values = header.values(data, kind, wanted)?;
    let grid = Grid { shape, affine };
    let segments = header.segments()?;
    let (voxels, segments) = match (layers, segments.is_empty()) {
        (1, _) => (values, segments.into_iter().map(|(segment, _)| segment).collect()),
        (_, true) => {
            return bad(
                "sizes",
                layers,
                "one volume of three axes, unless segments say what each layer is",
            );
        }
        _ => merge(&values, layers, &grid, segments)?,
    };
    Ok(Scan {
        volume: Volume { grid, voxels },
        is_integer: kind.is_integer(),
        affine_source: source,
        notes: Vec::new(),
        segments,
        crop: header.extent_offset()?,
    })
}

/// What segments are numbered from where several layers use the same values: no value of a label, so that only their names
/// can say what they are.
const RENUMBERED: i64 = 1 << 20;

/// One number a voxel out of several layers.
fn merge(
    values: &[f32],
    layers: usize,
    grid: &Grid,
    segments: Vec<(Segment, usize)>,
) -> Result<(Vec<f32>, Vec<Segment>), VolumeError> {
    let distinct: BTreeSet<i64> = segments.iter().map(|(segment, _)| segment.value).collect();
    let is_distinct = distinct.len() == segments.len();
    let mut number: BTreeMap<(usize, i64), i64> = BTreeMap::new();
    let mut named = Vec::new();
    for (at, (segment, layer)) in segments.into_iter().enumerate() {
        let value = match is_distinct {
            true => segment.value,
            false => RENUMBERED + at as i64,
        };
        number.insert((layer, segment.value), value);
        named.push(Segment { value, ..segment });
    }
    let mut merged = vec![0.0; grid.len()];
    for (out, here) in merged.iter_mut().zip(values.chunks_exact(layers)) {
        for (layer, value) in here.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            let found = number.get(&(layer, *value as i64));
            let Some(found) = found else {
                return bad("Segment LabelValue", value, "that of one of the file's segments");
            };
            if *out != 0.0 {
                return bad(
                    "Segment Layer",
                    layer,
                    "without overlap: a voxel belongs to one label",
                );
            }
            *out = *found as f32;
        }
    }
    Ok((merged, named))
}

/// The types that voxels can have.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Number::I8 | Number::U8 => 1,
            Number::I16 | Number::U16 => 2,
            Number::I32 | Number::U32 | Number::F32 => 4,
            Number::I64 | Number::U64 | Number::F64 => 8,
        }
    }

    fn is_integer(self) -> bool {
        !matches!(self, Number::F32 | Number::F64)
    }
}

/// The header's lines.
struct Header {
    /// `field: value`, names in small letters.
    fields: BTreeMap<String, String>,
    /// `key:=value`.
    keys: BTreeMap<String, String>,
}

fn bad<T>(field: &'static str, value: impl ToString, remedy: &'static str) -> Result<T, VolumeError> {
    Err(VolumeError::BadHeader {
        field: field.into(),
        value: value.to_string().chars().take(60).collect(),
        remedy: remedy.into(),
    })
}

impl Header {
    /// The header, and the bytes after it.
    fn parse(bytes: &[u8]) -> Result<(Header, &[u8]), VolumeError> {
        let mut header = Header {
            fields: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        let mut at = 0;
        for number in 0.. {
            let rest = &bytes[at..bytes.len().min(MOST_HEADER_BYTES)];
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                return Err(VolumeError::Incomplete {
                    what: "the header".into(),
                    got: bytes.len() as u64,
                    wanted: None,
                });
            };
            at += end + 1;
            let line = String::from_utf8_lossy(&rest[..end]);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                break;
            }
            if number == 0 || line.starts_with('#') {
                continue;
            }
            // Which comes first: a key's value may hold anything.
            match (line.find(":="), line.find(": ")) {
                (Some(key), field) if field.is_none_or(|field| key < field) => {
                    header.keys.insert(line[..key].into(), line[key + 2..].into());
                }
                (_, Some(field)) => {
                    header
                        .fields
                        .insert(line[..field].to_lowercase(), line[field + 2..].trim().into());
                }
                _ => return bad("line", line, "a comment, `field: value` or `key:=value`"),
            }
        }
        Ok((header, &bytes[at..]))
    }

    fn field(&self, name: &'static str) -> Result<&str, VolumeError> {
        match self.fields.get(name) {
            Some(value) => Ok(value),
            None => bad(name, "missing", "there"),
        }
    }

    fn number_type(&self) -> Result<Number, VolumeError> {
        let words = self.field("type")?;
        Ok(match words {
            "signed char" | "int8" | "int8_t" => Number::I8,
            "unsigned char" | "uchar" | "uint8" | "uint8_t" => Number::U8,
            "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => Number::I16,
            "unsigned short" | "ushort" | "unsigned short int" | "uint16" | "uint16_t" => Number::U16,
            "int" | "signed int" | "int32" | "int32_t" => Number::I32,
            "unsigned int" | "uint" | "uint32" | "uint32_t" => Number::U32,
            "long long"
            | "long long int"
            | "longlong"
            | "signed long long"
            | "signed long long int"
            | "int64"
            | "int64_t" => Number::I64,
            "unsigned long long" | "ulonglong" | "unsigned long long int" | "uint64" | "uint64_t" => {
                Number::U64
            }
            "float" => Number::F32,
            "double" => Number::F64,
            other => return bad("type", other, "an integer of 8 to 64 bits, float or double"),
        })
    }

    /// How many layers there are, and how many voxels along i, j, k.
    fn shape(&self) -> Result<(usize, [usize; 3]), VolumeError> {
        let words = self.field("sizes")?;
        let sizes: Option<Vec<usize>> = words
            .split_whitespace()
            .map(|size| size.parse().ok().filter(|&size| (1..=65_535).contains(&size)))
            .collect();
        match sizes.as_deref() {
            Some(&[x, y, z]) => Ok((1, [x, y, z])),
            Some(&[layers, x, y, z]) if self.is_list_first() => Ok((layers, [x, y, z])),
            Some(&[x, y, z, 1]) => Ok((1, [x, y, z])),
            _ => bad(
                "sizes",
                words,
                "three numbers from 1 to 65535, behind a list of layers at most",
            ),
        }
    }

    /// Whether the first axis is no direction in space.
    fn is_list_first(&self) -> bool {
        let first = |field: &str| {
            self.fields
                .get(field)
                .and_then(|words| words.split_whitespace().next())
        };
        first("space directions") == Some("none") || first("kinds") == Some("list")
    }

    /// Voxel indices to mm, RAS.
    fn affine(&self) -> Result<(Affine, AffineSource), VolumeError> {
        let Some(directions) = self.fields.get("space directions") else {
            let spacings = self.fields.get("spacings").map(|words| numbers(words));
            let spacing = match spacings.as_deref() {
                Some(&[x, y, z]) | Some(&[_, x, y, z]) => [x, y, z],
                _ => [1.0; 3],
            };
            return sound(Affine::from_spacing(spacing), AffineSource::Pixdim);
        };
        // From the file's space to right, anterior, superior.
        let space = self.field("space")?.to_lowercase();
        let sign = match space.as_str() {
            "right-anterior-superior" | "ras" => [1.0, 1.0, 1.0],
            "left-anterior-superior" | "las" => [-1.0, 1.0, 1.0],
            "left-posterior-superior" | "lps" => [-1.0, -1.0, 1.0],
            _ => {
                return bad(
                    "space",
                    space,
                    "right-anterior-superior, left-anterior-superior or left-posterior-superior",
                );
            }
        };
        let axes: Vec<[f64; 3]> = directions.split(')').filter_map(vector).collect();
        let origin = self.fields.get("space origin").and_then(|words| vector(words));
        let (&[x, y, z], Some(origin)) = (axes.as_slice(), origin.or(Some([0.0; 3]))) else {
            return bad("space directions", directions, "three vectors of three numbers");
        };
        let rows = std::array::from_fn(|row| [x[row], y[row], z[row], origin[row]].map(|v| v * sign[row]));
        sound(Affine(rows), AffineSource::Sform)
    }

    fn values(&self, data: &[u8], kind: Number, wanted: u64) -> Result<Vec<f32>, VolumeError> {
        if let Some(name) = self.fields.get("data file").or(self.fields.get("datafile")) {
            return bad("data file", name, "left out: save header and voxels in one .nrrd");
        }
        let lines = self.fields.get("line skip").or(self.fields.get("lineskip"));
        if let Some(lines) = lines.filter(|lines| lines.as_str() != "0") {
            return bad(
                "line skip",
                lines,
                "0: save header and voxels without text between them",
            );
        }
        let skip: i64 = match self.fields.get("byte skip").or(self.fields.get("byteskip")) {
            Some(words) => words.parse().unwrap_or(i64::MIN),
            None => 0,
        };
        let encoding = self.field("encoding")?.to_lowercase();
        let unpacked;
        let content = match encoding.as_str() {
            "raw" => data,
            "gzip" | "gz" => {
                unpacked = gzip::gunzip(data, wanted + (1 << 20))?;
                &unpacked
            }
            "ascii" | "text" | "txt" => return self.text(data, kind, wanted),
            other => return bad("encoding", other, "raw, gzip or text"),
        };
        let content = match skip {
            // The last bytes, whatever stands before them.
            -1 => content
                .len()
                .checked_sub(wanted as usize)
                .map(|at| &content[at..]),
            0.. => content.get(skip as usize..),
            _ => return bad("byte skip", skip, "-1 or more"),
        };
        let Some(content) = content.and_then(|content| content.get(..wanted as usize)) else {
            return Err(VolumeError::Incomplete {
                what: "the voxel data".into(),
                got: content.map_or(0, |content| content.len() as u64),
                wanted: Some(wanted),
            });
        };
        let is_little = match (kind.bytes(), self.fields.get("endian").map(String::as_str)) {
            (1, _) | (_, Some("little")) => true,
            (_, Some("big")) => false,
            (_, other) => return bad("endian", other.unwrap_or("missing"), "little or big"),
        };
        macro_rules! read {
            ($number:ty) => {{
                let (chunks, _) = content.as_chunks::<{ size_of::<$number>() }>();
                let number = |bytes: &[u8; size_of::<$number>()]| match is_little {
                    true => <$number>::from_le_bytes(*bytes),
                    false => <$number>::from_be_bytes(*bytes),
                };
                chunks.iter().map(|bytes| number(bytes) as f32).collect()
            }};
        }
        Ok(match kind {
            Number::I8 => read!(i8),
            Number::U8 => read!(u8),
            Number::I16 => read!(i16),
            Number::U16 => read!(u16),
            Number::I32 => read!(i32),
            Number::U32 => read!(u32),
            Number::I64 => read!(i64),
            Number::U64 => read!(u64),
            Number::F32 => read!(f32),
            Number::F64 => read!(f64),
        })
    }

    fn text(&self, data: &[u8], kind: Number, wanted: u64) -> Result<Vec<f32>, VolumeError> {
        let words = String::from_utf8_lossy(data);
        let values: Result<Vec<f32>, _> = words.split_whitespace().map(str::parse).collect();
        let Ok(values) = values else {
            return bad("voxel data", "text", "numbers");
        };
        match values.len() as u64 * kind.bytes() as u64 {
            got if got == wanted => Ok(values),
            got => Err(VolumeError::Incomplete {
                what: "the voxel data".into(),
                got,
                wanted: Some(wanted),
            }),
        }
    }

    /// The segments that the file names, each with its layer.
    fn segments(&self) -> Result<Vec<(Segment, usize)>, VolumeError> {
        let mut found: Vec<(Segment, usize)> = Vec::new();
        for at in 0..=u16::MAX {
            let key = |name: &str| self.keys.get(&format!("Segment{at}_{name}"));
            let Some(name) = key("Name").or(key("ID")) else {
                break;
            };
            let number = |words: Option<&String>, otherwise: i64| match words {
                Some(words) => words.trim().parse().map_err(|_| words.clone()),
                None => Ok(otherwise),
            };
            let value = number(key("LabelValue"), i64::from(at) + 1);
            let layer = number(key("Layer"), 0);
            match (value, layer) {
                (Ok(value), Ok(layer @ 0..=65_535))
                    if found
                        .iter()
                        .any(|(one, on)| one.value == value && *on == layer as usize) =>
                {
                    return bad(
                        "Segment LabelValue",
                        value,
                        "that of one segment alone in its layer",
                    );
                }
                (Ok(value), Ok(layer @ 0..=65_535)) => found.push((
                    Segment {
                        value,
                        name: name.trim().to_string(),
                    },
                    layer as usize,
                )),
                (Err(words), _) | (_, Err(words)) => return bad("Segment", words, "a whole number"),
                (_, Ok(layer)) => return bad("Segment Layer", layer, "from 0 to 65535"),
            }
        }
        Ok(found)
    }

    /// Where the first voxel lies in the image that was segmented, where the file says that it is cut out of one.
    fn extent_offset(&self) -> Result<Option<[i64; 3]>, VolumeError> {
        let Some(words) = self.keys.get("Segmentation_ReferenceImageExtentOffset") else {
            return Ok(None);
        };
        let offset: Option<Vec<i64>> = words.split_whitespace().map(|n| n.parse().ok()).collect();
        match offset.as_deref() {
            Some(&[x, y, z]) => Ok(Some([x, y, z])),
            _ => bad(
                "Segmentation_ReferenceImageExtentOffset",
                words,
                "three whole numbers",
            ),
        }
    }
}

fn sound(affine: Affine, source: AffineSource) -> Result<(Affine, AffineSource), VolumeError> {
    match affine.is_sound() {
        true => Ok((affine, source)),
        false => Err(VolumeError::BadAffine {
            why: "the space directions are not finite, or do not span space".into(),
        }),
    }
}

fn numbers(words: &str) -> Vec<f64> {
    words.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// The three numbers of `(x,y,z)`, of which the closing bracket may be gone.
fn vector(words: &str) -> Option<[f64; 3]> {
    let inside = words.split_once('(')?.1.trim_end_matches(')');
    let numbers: Option<Vec<f64>> = inside.split(',').map(|n| n.trim().parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [format!("NRRD0005\n# by hand\n{header}\n\n").as_bytes(), data].concat()
    }

    const PLAIN: &str = "type: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 1 3\n\
                         space directions: (2,0,0) (0,3,0) (0,0,4)\nencoding: raw\nspace origin: (-5,6,7)";

    #[test]
    fn voxels_lie_where_the_file_says_in_its_own_space() {
        let scan = decode(&file(PLAIN, &[1, 2, 3, 4, 5, 6]), 100).unwrap();
        assert_eq!(scan.volume.grid.shape, [2, 1, 3]);
        assert_eq!(scan.volume.voxels, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        // Left and posterior are turned to right and anterior.
        let affine = scan.volume.grid.affine;
        assert_eq!(affine.world_mm([0.0; 3]), [5.0, -6.0, 7.0]);
        assert_eq!(affine.world_mm([1.0, 1.0, 1.0]), [3.0, -9.0, 11.0]);
        assert!(scan.is_integer && scan.affine_source == AffineSource::Sform);
    }

    #[test]
    fn both_byte_orders_gzip_text_and_a_skip_are_read() {
        let of = |kind: &str, more: &str, data: &[u8]| {
            let header = PLAIN.replace("uint8", kind).replace("encoding: raw", more);
            decode(&file(&header, data), 1000).unwrap().volume.voxels
        };
        let wanted = [1.0, 2.0, 3.0, 4.0, 5.0, 300.0];
        let shorts: [i16; 6] = [1, 2, 3, 4, 5, 300];
        let little: Vec<u8> = shorts.iter().flat_map(|n| n.to_le_bytes()).collect();
        let big: Vec<u8> = shorts.iter().flat_map(|n| n.to_be_bytes()).collect();
        assert_eq!(of("short", "encoding: raw\nendian: little", &little), wanted);
        assert_eq!(of("short", "encoding: raw\nendian: big", &big), wanted);
        let packed = gzip::gzip(&[&little]);
        assert_eq!(of("short", "encoding: gzip\nendian: little", &packed), wanted);
        assert_eq!(of("float", "encoding: ascii", b"1 2 3\n4 5 300"), wanted);
        let before = [&b"junk"[..], &little].concat();
        let skipped = "encoding: raw\nendian: little\nbyte skip: -1";
        assert_eq!(of("short", skipped, &before), wanted);
    }

    #[test]
    fn segments_on_layers_become_one_number_a_voxel_unless_they_overlap() {
        let header = "type: uint8\ndimension: 4\nspace: RAS\nsizes: 2 2 1 1\nkinds: list domain domain domain\n\
                      space directions: none (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\nspace origin: (0,0,0)\n\
                      Segment0_Name:=GM\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n\
                      Segment1_Name:=WM: white\nSegment1_LabelValue:=1\nSegment1_Layer:=1";
        let scan = decode(&file(header, &[1, 0, 0, 1]), 100).unwrap();
        let [gm, wm] = [RENUMBERED, RENUMBERED + 1];
        assert_eq!(scan.volume.voxels, [gm as f32, wm as f32]);
        let names: Vec<_> = scan.segments.iter().map(|s| (s.value, s.name.as_str())).collect();
        assert_eq!(names, [(gm, "GM"), (wm, "WM: white")]);
        let distinct = header.replace("Segment1_LabelValue:=1", "Segment1_LabelValue:=2");
        let scan = decode(&file(&distinct, &[1, 0, 0, 2]), 100).unwrap();
        assert_eq!(scan.volume.voxels, [1.0, 2.0]);
        let error = decode(&file(header, &[1, 1, 0, 1]), 100).unwrap_err().to_string();
        assert!(error.contains("overlap"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let data = [0; 6];
        for (from, to, field) in [
            ("uint8", "block", "type"),
            ("2 1 3", "2 1", "sizes"),
            ("2 1 3", "2 1 3 9", "sizes"),
            ("2 1 3", "2 -1 3", "sizes"),
            ("encoding: raw", "encoding: bzip2", "encoding"),
            ("encoding: raw", "encoding: raw\nbyte skip: -2", "byte skip"),
            ("encoding: raw", "encoding: raw\nline skip: 1", "line skip"),
            (
                "encoding: raw",
                "encoding: raw\nSegment0_Name:=GM\nSegment1_Name:=WM\nSegment1_LabelValue:=1",
                "Segment LabelValue",
            ),
            ("encoding: raw", "encoding: raw\ndata file: x.raw", "data file"),
            ("left-posterior-superior", "scanner-xyz", "space"),
            ("(0,3,0)", "(0,x,0)", "space directions"),
            ("uint8", "int16", "endian"),
        ] {
            let header = PLAIN.replace(from, to);
            let error = decode(&file(&header, &[0; 12][..]), 100).unwrap_err();
            let words = error.to_string();
            assert!(words.contains(&format!("field {field} ")), "{to}: {words}");
            assert_eq!(error.code(), "H1");
        }
        assert_eq!(decode(&file(PLAIN, &data[..5]), 100).unwrap_err().code(), "C1");
        assert_eq!(decode(&file(PLAIN, &data), 5).unwrap_err().code(), "C3");
        let flat = PLAIN.replace("(0,3,0)", "(2,0,0)");
        assert_eq!(decode(&file(&flat, &data), 100).unwrap_err().code(), "H2");
        assert_eq!(decode(b"NRRD0005\ntype: uint8", 100).unwrap_err().code(), "C1");
    }
}
