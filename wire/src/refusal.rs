//! Size limits of a request, and the reasons for which a request is refused.

/// Maximum request line, including its line end (contract: longer is 414).
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Maximum header section, including its empty line (contract: longer is 431).
pub const HEADERS_BYTES_MAX: usize = 8 * 1024;
/// Maximum body (contract: longer is 413).
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// Why a request is refused; each refusal ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400, with the reason.
    Malformed(&'static str),
    /// 413
    BodyTooLarge,
    /// 414
    LineTooLong,
    /// 431
    HeadersTooLarge,
    /// 408. Set by the caller; this file has no clock.
    TooSlow,
    /// 505: the preface of HTTP/2. Any other unsupported version is malformed (contract).
    Http2,
}
