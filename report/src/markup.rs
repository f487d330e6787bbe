//! Escaping for HTML and XML.

/// The entity for a character that must be escaped in text or in an attribute; `None` for all others.
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
