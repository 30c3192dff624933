//! A volume, NIfTI by its first bytes or whatever they say: an error, or as many voxels as its grid has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overtrace::imaging::{RawVolume, decode_scan};

const CAP: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(scan) = decode_scan(bytes, CAP) {
        assert_eq!(scan.volume.voxels.len(), scan.volume.grid.len());
    }
    // The same bytes as the two files of a pair.
    let (hdr, img) = bytes.split_at(bytes.len().min(348));
    let pair = RawVolume {
        parts: vec![hdr.to_vec(), img.to_vec()],
        notes: Vec::new(),
    };
    if let Ok((joined, scan)) = pair.decode(CAP) {
        assert_eq!(
            decode_scan(&joined, CAP)
                .expect("it was read a moment ago")
                .volume,
            scan.volume
        );
    }
});
