//! Frames on a socket or a pipe: what one end sends is read by the other, and anything else is an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overtrace::protocol::{Event, Request};
use overtrace::worker::frames::{LONGEST, SHORT, Said, read, write};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(request)) = read::<Request>(bytes, LONGEST) {
        let mut again = Vec::new();
        write(&mut again, &request, LONGEST).expect("it came in such a frame");
        assert_eq!(
            read::<Request>(&again[..], LONGEST).expect("it was written a moment ago"),
            Some(request)
        );
    }
    // What comes first, before anybody is known.
    let _ = read::<String>(bytes, SHORT);
    let _ = read::<Event>(bytes, LONGEST);
    let _ = read::<Said>(bytes, LONGEST);
});
