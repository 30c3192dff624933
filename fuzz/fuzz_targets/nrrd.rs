//! NRRD: a header that begins as it should, and anything after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overtrace::imaging::decode_scan;

fuzz_target!(|rest: &[u8]| {
    let bytes = [b"NRRD0005\n", rest].concat();
    if let Ok(scan) = decode_scan(&bytes, 1 << 20) {
        assert_eq!(scan.volume.voxels.len(), scan.volume.grid.len());
    }
});
