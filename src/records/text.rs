//! Text from outside (names, headers, reasons) as it may reach a terminal.

/// The text with every control and bidirectional character replaced by U+FFFD, so that no name can move a cursor,
/// set a colour or turn the reading direction.
pub fn printable(text: &str) -> String {
    let unsafe_to_show = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars()
        .map(|c| if unsafe_to_show(c) { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_move_a_terminal_is_replaced_and_the_rest_stays() {
        assert_eq!(
            printable("a\u{1b}[2Jb\r\n\u{9b}c"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c"
        );
        assert_eq!(printable("\u{202e}gz.nii"), "\u{fffd}gz.nii");
        assert_eq!(printable("Müller 脳 .nii"), "Müller 脳 .nii");
    }
}
