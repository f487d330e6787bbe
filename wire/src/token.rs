//! Tokens of HTTP (RFC 9110 section 5.6.2) and the methods among them.

/// The methods that are distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// OPTIONS: its target may be `*`.
    Options,
    /// CONNECT: its target is an authority.
    Connect,
    /// Any other token.
    Other,
}

/// Whether the byte is allowed in a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
