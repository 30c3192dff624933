//! Text from outside (names, headers, reasons) as it may reach a terminal.

/// Whether a terminal would obey the character, or let it turn the text around it, instead of showing it.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
                | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
        )
}

/// The text with every such character replaced by U+FFFD, so that no name can move a cursor or set a colour.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_unsafe(c) { '\u{FFFD}' } else { c })
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
