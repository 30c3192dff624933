//! Gzip, read to its very end and never past a cap.
//!
//! All members of a stream are read, and the CRC and length that close each of them are checked: a flipped bit
//! in a compressed mask shows here or nowhere.

use std::io::{Read, Write};

use flate2::{Compression, GzBuilder, read::MultiGzDecoder};

use super::VolumeError;

/// Deflate cannot grow anything by more than this (a match of 258 bytes from two bits).
pub(super) const MOST_GROWTH: u64 = 1032;

/// Whether `bytes` open with gzip's magic number.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// What the gzip stream `bytes` holds, all members of it.
///
/// Memory grows with what has been decoded, up to `max_bytes`; the length that the stream claims for itself is
/// believed only as far as its own size could carry it.
///
/// # Errors
/// [`VolumeError::Incomplete`] when the stream stops early, [`VolumeError::Damaged`] when it does not decode or a
/// checksum is wrong, [`VolumeError::TooLarge`] past `max_bytes`.
pub fn gunzip(bytes: &[u8], max_bytes: u64) -> Result<Vec<u8>, VolumeError> {
    let claimed = bytes
        .last_chunk()
        .map_or(0, |length| u32::from_le_bytes(*length).into());
    let likely = claimed.min(max_bytes).min(bytes.len() as u64 * MOST_GROWTH);
    let mut content = Vec::with_capacity(likely as usize);
    let read = MultiGzDecoder::new(bytes)
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut content);
    match read {
        _ if content.len() as u64 > max_bytes => Err(VolumeError::TooLarge { max_bytes }),
        Ok(_) => Ok(content),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(VolumeError::Incomplete {
            what: "the gzip stream".into(),
            got: bytes.len() as u64,
            wanted: None,
        }),
        Err(error) => Err(VolumeError::Damaged {
            problem: error.to_string(),
            decoded: content.len() as u64,
        }),
    }
}

/// `parts`, one after the other, as one gzip member; the same bytes in give the same bytes out.
pub(super) fn gzip(parts: &[&[u8]]) -> Vec<u8> {
    // Level 4: a hand-out is written while a person waits for it.
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(4));
    for part in parts {
        encoder.write_all(part).expect("writing to memory does not fail");
    }
    encoder.finish().expect("writing to memory does not fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_members_are_one_stream() {
        let two = [gzip(&[b"over"]), gzip(&[b"tr", b"ace"])].concat();
        assert_eq!(gunzip(&two, 9).unwrap(), b"overtrace");
    }

    #[test]
    fn a_stream_at_the_cap_is_read_and_one_byte_more_is_refused() {
        let packed = gzip(&[&[7; 100]]);
        assert_eq!(gunzip(&packed, 100).unwrap(), vec![7; 100]);
        assert_eq!(gunzip(&packed, 99).unwrap_err().code(), "C3");
    }

    /// 64 MiB of zeros in 64 KiB, refused without having been unpacked.
    #[test]
    fn a_bomb_is_refused_at_the_cap() {
        let bomb = gzip(&[&vec![0; 64 << 20]]);
        assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
        assert_eq!(gunzip(&bomb, 1 << 20).unwrap_err().code(), "C3");
    }

    #[test]
    fn a_stream_cut_anywhere_is_incomplete() {
        let packed = gzip(&[b"a slice of a brain"]);
        for length in 0..packed.len() {
            let error = gunzip(&packed[..length], 1000).unwrap_err();
            assert!(
                matches!(error, VolumeError::Incomplete { .. }),
                "{length} bytes: {error}"
            );
        }
    }

    #[test]
    fn a_wrong_checksum_is_damage() {
        let mut packed = gzip(&[b"a slice of a brain"]);
        let crc = packed.len() - 8;
        packed[crc] ^= 1;
        assert!(matches!(gunzip(&packed, 1000), Err(VolumeError::Damaged { .. })));
    }

    #[test]
    fn what_follows_the_last_member_has_to_be_gzip_too() {
        let packed = [gzip(&[b"brain"]), b"junk after the end".to_vec()].concat();
        assert_eq!(gunzip(&packed, 1000).unwrap_err().code(), "C1");
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        assert_eq!(gzip(&[b"brain"]), gzip(&[b"br", b"ain"]));
        assert_eq!(gzip(&[b"brain"])[4..8], [0; 4], "no time of writing");
    }
}
