//! What HTML and XML have in common: characters that would be markup.

/// The entity of a character that must not stand as it is in text or in an attribute; `None` for all others.
pub(crate) fn entity(character: char) -> Option<&'static str> {
    match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        _ => None,
    }
}
